package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func cleanupCommand() *cobra.Command {
	var o removal
	cmd := &cobra.Command{
		Use: "cleanup JOBID", Short: "remove what a job that is over left, now",
		Long: `Removes now, on the controller, what is kept in Kubernetes for one job that is over:
its Workflow (after Teardown), services and holds on nodes. Reconcile does the same by
itself for all jobs, and both go by the same evidence that the job is over.

Exit status: 0 nothing is left, 1 something is, or nothing was touched.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := jobArgument(cmd, args)
			if err != nil {
				return err
			}
			return end(o.cleanup(cmd.Context(), id))
		},
	}
	o.flags(cmd, "remove it also if the job is not over, or Slurm does not answer: the job loses its storage, services and nodes under its feet")
	return cmd
}

func (o *removal) cleanup(ctx context.Context, id uint32) int {
	cfg, err := slurmconf.Load(o.config)
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
		Duties: controllerDuties(cfg, client, log), Guard: guard(cfg), Limit: o.limit, DryRun: o.dryRun, Force: o.force, Log: log,
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
	return max(exit, report(results, o.dryRun, false, log))
}
