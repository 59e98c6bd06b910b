package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/state"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const reconcileHelp = `Usage: slurmk8s reconcile [--config FILE] [--node NAME] [--dry-run] [--limit 60s]

Ends the Workflows whose Slurm job is over and deletes them: what a cancelled
hook, an API server that was down, or a failed teardown left behind. With rules for
services, it also removes the services of jobs that run no more: on the controller
those of all nodes, on a node what its epilogs could not. The same with nodes that
jobs took from Kubernetes and did not give back. When Slurm does not answer, or was
started a moment ago, nothing is touched.

  --node NAME   only what is to be done on this node, which Slurm calls NAME
  --dry-run     print what would be done
  --limit TIME  how long one Teardown may take (default 60s)

Exit status: 0 nothing is left, 1 something is; each line says what and why.
`

// flags makes a command's flags, which print nothing: a mistake is told in one
// line, and help is the one text that people see.
func flags(name string) (*flag.FlagSet, *string) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return set, set.String("config", slurmconf.DefaultPath, "")
}

func runReconcile(ctx context.Context, args []string) int {
	set, config := flags("reconcile")
	dryRun := set.Bool("dry-run", false, "")
	limit := set.Duration("limit", time.Minute, "")
	nodeName := set.String("node", "", "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Print(reconcileHelp)
		return exitOK
	case err != nil:
		return usage("reconcile: %v", err)
	case set.NArg() > 0:
		return usage("reconcile takes no argument %q", set.Arg(0))
	}
	cfg, err := slurmconf.Load(*config)
	if err != nil {
		return failed(err)
	}
	logger, sink, err := logging.New(cfg.Log)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	log := logger.WithFields(logrus.Fields{"hook": "reconcile"})
	limited, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	var results []reconcile.Result
	status := exitOK
	add := func(some []reconcile.Result, err error) {
		results = append(results, some...)
		if err != nil {
			log.Error(err)
			status = failed(err)
		}
	}
	d := dutiesOf(cfg)
	if *nodeName != "" {
		d.workflows, d.allNodes = false, false
	} else {
		*nodeName = thisNode()
	}
	if !*dryRun {
		renewInPassing(limited, cfg, log)
	}
	if d.workflows {
		add(reconcileWorkflows(ctx, cfg, d, *limit, *dryRun, log))
	}
	if d.workflows && d.services {
		add(reconcileServices(limited, cfg, *dryRun, log))
	}
	if d.node {
		add(reconcileNode(limited, cfg, *nodeName, *dryRun, log))
	}
	if d.allNodes {
		add(reconcileAllNodes(limited, cfg, *dryRun, log))
	}
	if d.thisNode {
		add(reconcileThisNode(limited, cfg, *nodeName, *dryRun, log))
	}
	if !*dryRun {
		countMetrics(cfg, d, results, log)
	}
	return max(status, report(results, *dryRun, log))
}

// countMetrics adds up what the hooks of this host did. A metric that cannot be written
// is no failure of reconcile.
func countMetrics(cfg *slurmconf.Config, d duties, results []reconcile.Result, log *logrus.Entry) {
	removed, left := 0, 0
	for _, r := range results {
		if r.Err != nil {
			left++
		} else {
			removed++
		}
	}
	for _, of := range []struct {
		here bool
		dir  string
	}{{d.workflows, cfg.StateDir}, {d.node, cfg.Services.RunDir}} {
		if dir := metrics.In(cfg.Metrics.Textfile, of.dir); of.here && dir != "" {
			if err := dir.Fold(cfg.Metrics.Textfile, removed, left, time.Now()); err != nil {
				log.Warn(err)
			}
			return // a host is one or the other
		}
	}
}

// clientOf reaches Kubernetes by one of the credentials of this host.
func clientOf(cfg *slurmconf.Config, kubeconfig string, log *logrus.Entry) (*kube.Client, error) {
	return kube.New(kube.Options{
		Kubeconfig:     kubeconfig,
		RequestTimeout: cfg.Kubernetes.RequestTimeout.Std(),
		UserAgent:      fmt.Sprintf("slurmk8s/%s (cluster %s; reconcile)", version.Version, cfg.Cluster),
		AlsoTrusted:    slurmUser(cfg),
		Log:            log,
	})
}

func reconcileWorkflows(ctx context.Context, cfg *slurmconf.Config, d duties, limit time.Duration, dryRun bool, log *logrus.Entry) ([]reconcile.Result, error) {
	client, err := clientOf(cfg, cfg.Kubernetes.Kubeconfig, log)
	if err != nil {
		return nil, err
	}
	listing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if d.services || d.allNodes {
		if there, err := hasWorkflows(listing, client); err != nil || !there {
			return nil, err // a site may have other duties only
		}
	}
	driver, err := workflow.New(listing, cfg, client, log)
	if err != nil {
		return nil, err
	}
	return reconcile.Workflows(ctx, reconcile.Options{
		Driver: driver,
		Slurm:  slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf},
		Local:  state.Dir(cfg.StateDir),
		Limit:  limit,
		DryRun: dryRun,
		Log:    log,
	})
}

func report(results []reconcile.Result, dryRun bool, log *logrus.Entry) int {
	status := exitOK
	for _, r := range results {
		done := "removed"
		if dryRun {
			done = "would be removed"
		}
		was := ""
		if r.State != "" {
			was = "; was in " + r.State
		}
		text := fmt.Sprintf("%s (job %d is over%s): %s", r.Object, r.JobID, was, done)
		if r.Err != nil {
			text = fmt.Sprintf("%s (job %d is over%s): left: %v", r.Object, r.JobID, was, r.Err)
			status = exitFailed
		}
		text = wire.OneLine(text) // it may quote a user's directive
		fmt.Println(text)
		log.Info(text)
	}
	return status
}

// slurmUser lets root, at a prompt, use the credential that belongs to SlurmUser.
func slurmUser(cfg *slurmconf.Config) []uint32 {
	if os.Geteuid() != 0 {
		return nil
	}
	conf, err := slurmconf.ReadSlurmConf(cfg.SlurmConf)
	if err != nil {
		return nil
	}
	account, err := user.Lookup(conf.SlurmUser)
	if err != nil {
		return nil
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil
	}
	return []uint32{uint32(uid)}
}
