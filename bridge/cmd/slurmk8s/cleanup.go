package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const cleanupHelp = `Usage: slurmk8s cleanup [--config FILE] [--dry-run] [--force] [--limit 60s] JOBID

Removes now, on the controller, what is kept in Kubernetes for one job that is over:
its Workflow (after Teardown), services and holds on nodes. Reconcile does the same by
itself for all jobs, and both go by the same evidence that the job is over.

  --dry-run     print what would be removed
  --force       also if the job is not over, or Slurm does not answer: the job loses
                its storage, services and nodes under its feet
  --limit TIME  how long each duty may take to list, and to remove (default 60s)

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
	client, err := operatorClient(cfg, "cleanup", log)
	if err != nil {
		return failed(err)
	}
	results, errs := reconcile.Cleanup(ctx, reconcile.Options{
		Duties: controllerDuties(cfg, client, log), Guard: guard(cfg), Limit: *limit, DryRun: *dryRun, Force: *force, Log: log,
	}, id)
	exit := exitOK
	for _, err := range errs {
		if errors.Is(err, reconcile.ErrHidden) {
			fmt.Println("note:", err)
			continue
		}
		log.Error(err)
		exit = failed(err)
	}
	if len(results) == 0 && exit == exitOK {
		fmt.Printf("nothing is held for job %d\n", id)
	}
	return max(exit, report(results, *dryRun, false, log))
}
