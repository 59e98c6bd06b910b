package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/state"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const cleanupHelp = `Usage: slurmk8s cleanup [--config FILE] [--dry-run] [--force] [--limit 60s] JOBID

Removes now, on the controller, what is held in Kubernetes for one job that is over:
its Workflow (after Teardown), services and hold on nodes. Reconcile does the same by
itself for all jobs.

  --dry-run     print what would be removed
  --force       also if the job is not over, or Slurm does not answer: the job loses
                its storage, services and nodes under its feet
  --limit TIME  how long a Teardown may take (default 60s)

Exit status: 0 nothing is left, 1 something is, or nothing was touched.
`

func runCleanup(ctx context.Context, args []string) int {
	set, config := flags("cleanup")
	dryRun := set.Bool("dry-run", false, "")
	force := set.Bool("force", false, "")
	limit := set.Duration("limit", time.Minute, "")
	id, help, err := parseJob(set, args, 1)
	switch {
	case help:
		fmt.Print(cleanupHelp)
		return exitOK
	case err != nil:
		return usage("cleanup: %v", err)
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
	log := logger.WithFields(logrus.Fields{"hook": "cleanup", "job": id})
	ctx, cancel := context.WithTimeout(ctx, *limit+statusLimit)
	defer cancel()

	if !*force && !*dryRun {
		if err := isOver(ctx, slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}, id); err != nil {
			return failed(err)
		}
	}
	client, err := operatorClient(cfg, "cleanup", log)
	if err != nil {
		return failed(err)
	}
	o, err := cleanupOptions(ctx, cfg, client, log)
	if err != nil {
		return failed(err)
	}
	o.DryRun, o.Limit = *dryRun, *limit
	results, errs := reconcile.Cleanup(ctx, o, id)
	exit := exitOK
	for _, err := range errs {
		if errors.Is(err, reconcile.ErrNodesHidden) {
			fmt.Println("note:", err)
			continue
		}
		log.Error(err)
		exit = failed(err)
	}
	if len(results) == 0 && exit == exitOK {
		fmt.Printf("nothing is held for job %d\n", id)
	}
	return max(exit, reportCleanup(results, *dryRun, log))
}

// isOver refuses a job that may still need what is held for it.
func isOver(ctx context.Context, commands slurm.Commands, id uint32) error {
	jobs, err := commands.Jobs(ctx, nil)
	if err != nil {
		return fmt.Errorf("nothing was touched, since Slurm does not say whether job %d is over: %w (--force does it all the same)", id, err)
	}
	if job, known := jobs[id]; known && !job.Over {
		return fmt.Errorf("nothing was touched: job %d is %s; scancel it first (--force does it all the same)", id, job.State)
	}
	return nil
}

func cleanupOptions(ctx context.Context, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) (reconcile.CleanupOptions, error) {
	o := reconcile.CleanupOptions{Local: state.Dir(cfg.StateDir)}
	there, err := hasWorkflows(ctx, client)
	if err == nil && there {
		o.Driver, err = workflow.New(ctx, cfg, client, log)
	}
	if err != nil {
		return o, err
	}
	if len(cfg.Services.Allow) > 0 {
		o.Sweeper = &service.Sweeper{Kube: client, Cluster: cfg.Cluster, Log: log}
		o.Namespaces = policy.Literal(&cfg.Services)
		if policy.Patterns(&cfg.Services) {
			o.Namespaces = []string{""}
		}
	}
	if cfg.Nodes.Reclaims() {
		o.Bridge = node.New(client, &cfg.Nodes, cfg.Cluster, log)
	}
	return o, nil
}

func reportCleanup(results []reconcile.Result, dryRun bool, log *logrus.Entry) int {
	exit := exitOK
	for _, r := range results {
		text := r.Object + ": removed"
		switch {
		case dryRun:
			text = r.Object + ": would be removed"
		case r.Err != nil:
			text = fmt.Sprintf("%s: left: %v", r.Object, r.Err)
			exit = exitFailed
		}
		text = wire.OneLine(text)
		fmt.Println(text)
		log.Info(text)
	}
	return exit
}
