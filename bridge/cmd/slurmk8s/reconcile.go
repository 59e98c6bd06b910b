package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/metrics"
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
	limit, spread time.Duration
}

// flags are those that both have.
func (o *removal) flags(cmd *cobra.Command, force string) {
	withConfig(cmd, &o.config)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be removed")
	cmd.Flags().BoolVar(&o.force, "force", false, force)
	cmd.Flags().DurationVar(&o.limit, "limit", time.Minute, "`TIME` limit for each duty, to list and again to remove")
}

func reconcileCommand() *cobra.Command {
	var o removal
	cmd := &cobra.Command{
		Use: "reconcile", Short: "remove the objects of ended jobs",
		Long: `Removes the objects of ended jobs from Kubernetes: Workflows (after Teardown), services
and holds on nodes. On the controller it does this for all jobs. On a node it does what
the node's own epilogs did not do.

A job counts as ended only if Slurm has said so twice, if Slurm's next job id is above
the job's, and if slurmctld has been up for some time. Otherwise nothing is changed. A run
that would remove the objects of too many jobs removes nothing; if the next run comes to
the same result, it removes them ([reconcile] in slurmk8s.toml).

Exit status: 0 nothing is left, 1 something is left; each line says what and why.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return end(o.reconcile(cmd.Context())) },
	}
	o.flags(cmd, "remove them even if they are too many for one run")
	cmd.Flags().StringVar(&o.node, "node", "", "do only what concerns this node; `NAME` is its NodeName or NodeHostname")
	cmd.Flags().DurationVar(&o.spread, "spread", 0,
		"wait up to `TIME`, different on each node, before asking Slurm; for HealthCheckProgram, which Slurm may start on all nodes at once")
	return cmd
}

func (o *removal) reconcile(ctx context.Context) int {
	cfg, err := slurmconf.Load(o.config)
	if err != nil {
		return failed(err)
	}
	logger, sink, err := logging.New(cfg)
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
	exit := exitOK
	for _, err := range append(errs, more...) {
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
	return max(exit, report(results, o.dryRun, true, log))
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
		if r.Err != nil {
			left++
		} else {
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
			status = exitFailed
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
	conf, err := slurmconf.ReadSlurmConf(cfg.SlurmConf)
	if err != nil {
		return nil
	}
	account, err := users.AccountOf(ctx, conf.SlurmUser)
	if err != nil {
		return nil
	}
	return []uint32{account.UID}
}
