package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/mirror"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// removal is what reconcile and cleanup are told.
type removal struct {
	config, node  string
	dryRun, force bool
	unmirror      bool
	limit, spread time.Duration
}

// flags are those that both have.
func (o *removal) flags(cmd *cobra.Command, force string) {
	withConfig(cmd, &o.config)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only print what would be done")
	cmd.Flags().BoolVar(&o.force, "force", false, force)
	cmd.Flags().DurationVar(&o.limit, "limit", time.Minute, "`TIME` limit for each duty: to list, again to remove, and again for the rest")
}

func reconcileCommand() *cobra.Command {
	var o removal
	cmd := &cobra.Command{
		Use: "reconcile", Short: "remove the objects of ended jobs; mirror drains and cordons",
		Long: `Removes the objects of ended jobs from Kubernetes: Workflows (after Teardown), services
and holds on nodes. On the controller it does this for all jobs. On a node it does what
the node's own epilogs did not do. On the controller it also lets DWS wait again for nodes
that were down.

A job counts as ended only if Slurm has said so twice, if Slurm's next job id is above
the job's, and if slurmctld has been up for some time. Otherwise nothing is changed. A run
that would remove the objects of too many jobs removes nothing; if the next run comes to
the same result, it removes them ([reconcile] in slurmk8s.toml).

If [nodes] mirror of slurmk8s.toml says so, it then drains Slurm nodes whose Kubernetes
node is closed, closes Kubernetes nodes whose Slurm node is drained, and undoes what it did.

Exit status: 0 nothing is left, 1 something is left; each line says what and why.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return end(o.reconcile(cmd.Context())) },
	}
	o.flags(cmd, "remove them, and close nodes, even if they are too many for one run")
	cmd.Flags().StringVar(&o.node, "node", "", "do only what concerns this node; `NAME` is its NodeName or NodeHostname")
	cmd.Flags().BoolVar(&o.unmirror, "unmirror", false, "take back the drains and cordons of [nodes] mirror")
	cmd.Flags().DurationVar(&o.spread, "spread", 0,
		"wait up to `TIME`, different on each node, before asking Slurm; for HealthCheckProgram, which Slurm may start on all nodes at once")
	return cmd
}

func (o *removal) reconcile(ctx context.Context) int {
	cfg, logger, sink, err := withLog(o.config)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	log := logger.WithFields(logrus.Fields{"hook": "reconcile"})
	onlyNode := o.node != ""
	if onlyNode {
		o.node = slurm.NodeOn(cfg.SlurmConf, o.node)
	} else {
		o.node = slurm.ThisNode(cfg.SlurmConf)
	}
	if !o.dryRun {
		limited, cancel := context.WithTimeout(ctx, o.limit)
		renewInPassing(limited, cfg, log)
		cancel()
	}
	open := func(kubeconfig string) (*kube.Client, error) {
		return kube.For(cfg, kubeconfig, "reconcile", log, kube.Trusting(slurmUser(ctx, cfg)...))
	}
	sources, controller, errs := reconcile.Here(all.Used(cfg), duty.Host{Config: cfg, Node: o.node, Log: log}, onlyNode, open)
	dir := cfg.Services.RunDir
	if controller {
		dir = cfg.StateDir
	}
	run := o.options(cfg, sources, log)
	run.Brake = reconcile.Brake{Max: cfg.Reconcile.MaxRemovals, File: filepath.Join(dir, "reconcile.held-back")}
	run.Spread = share(o.spread, o.node)
	results, more := reconcile.Run(ctx, run)
	errs = append(errs, more...)
	if client, err := open(cfg.Kubernetes.Kubeconfig); controller && !o.dryRun && err == nil {
		errs = append(errs, reconcile.Tend(ctx, all.Used(cfg), duty.Host{Config: cfg, Kube: client, Log: log}, o.limit, errs)...)
	}
	exit := exitOK
	for _, err := range errs {
		if errors.Is(err, duty.ErrHidden) {
			log.Info(err)
			continue
		}
		log.Error(err)
		exit = failed(err)
	}
	if !o.dryRun {
		countMetrics(cfg.Metrics.Textfile, dir, results, log)
	}
	exit = max(exit, report(results, o.dryRun, true, log))
	if cfg.Nodes.Mirrors() || o.unmirror {
		exit = max(exit, o.mirror(ctx, cfg, controller, open, log))
	}
	return exit
}

// mirror does it for all nodes with the controller's credential, and for this node with the
// node's own.
func (o *removal) mirror(ctx context.Context, cfg *slurmconf.Config, controller bool, open func(string) (*kube.Client, error), log *logrus.Entry) int {
	kubeconfig, only := cfg.Kubernetes.Kubeconfig, ""
	if !controller {
		kubeconfig, only = cfg.Nodes.Kubeconfig, o.node
		if _, err := os.Stat(kubeconfig); errors.Is(err, fs.ErrNotExist) {
			return exitOK // the controller does it, or the node is none of Kubernetes
		}
		if err := kube.Sleep(ctx, share(o.spread, o.node)); err != nil {
			return failed(err)
		}
	}
	client, err := open(kubeconfig)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	results, err := mirror.Run(ctx, mirror.Options{
		Nodes: node.New(client, &cfg.Nodes, cfg.Cluster, log), Slurm: slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf},
		Node: only, MinAge: cfg.Reconcile.MinAge.Std(), DryRun: o.dryRun, Force: o.force, Undo: o.unmirror,
	})
	exit := exitOK
	for _, r := range results {
		text := fmt.Sprintf("node %s: %s: ", r.Node, r.Action)
		switch {
		case r.Err != nil:
			text, exit = text+r.Err.Error(), exitFailed
		case o.dryRun:
			text += "would be done"
		default:
			text += "done"
		}
		text = wire.OneLine(text)
		fmt.Println(text)
		log.Info(text)
	}
	switch {
	case controller && kube.Is(err, kube.Denied):
		log.Infof("%v: each node does it itself, by \"slurmk8s reconcile\" there", err)
	case err != nil:
		log.Error(err)
		exit = failed(err)
	}
	return exit
}

// options are those of both commands.
func (o *removal) options(cfg *slurmconf.Config, sources []reconcile.Source, log *logrus.Entry) reconcile.Options {
	return reconcile.Options{
		Sources: sources, Limit: o.limit, DryRun: o.dryRun, Force: o.force, Log: log,
		Guard: reconcile.Guard{Slurm: slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}, MinAge: cfg.Reconcile.MinAge.Std()},
	}
}

// share is the part of a time that falls to a node, by its name.
func share(of time.Duration, node string) time.Duration {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, node)
	return time.Duration(float64(of) * float64(sum.Sum32()) / (1 << 32))
}

// countMetrics adds up what the hooks of this host did. A metric that cannot be written
// is no failure of reconcile.
func countMetrics(textfile, dir string, results []reconcile.Result, log *logrus.Entry) {
	removed, left := 0, 0
	for _, r := range results {
		switch {
		case r.Failed():
			left++
		case r.Err == nil:
			removed++
		}
	}
	if sums := metrics.In(textfile, dir); sums != "" {
		if err := sums.Fold(textfile, removed, left, time.Now()); err != nil {
			log.Warn(err)
		}
	}
}

// report prints one line for each object; told says whether a line tells of the job.
func report(results []reconcile.Result, dryRun, told bool, log *logrus.Entry) int {
	status := exitOK
	for _, r := range results {
		done := "removed"
		switch {
		case r.Err != nil:
			done = fmt.Sprintf("left: %v", r.Err)
			if r.Failed() {
				status = exitFailed
			}
		case dryRun:
			done = "would be removed"
		}
		text := r.Name
		if told {
			text += " (" + r.Job
			if r.State != "" {
				text += "; was in " + r.State
			}
			text += ")"
		}
		text = wire.OneLine(text + ": " + done) // it may quote a user's directive
		fmt.Println(text)
		log.Info(text)
	}
	return status
}

// slurmUser lets root, at a prompt, use the credential that belongs to SlurmUser.
func slurmUser(ctx context.Context, cfg *slurmconf.Config) []uint32 {
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := users.SlurmUser(ctx, cfg.SlurmConf)
	if err != nil {
		return nil
	}
	return []uint32{account.UID}
}
