package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
)

func cleanupCommand() *cobra.Command {
	var o removal
	cmd := &cobra.Command{
		Use: "cleanup JOBID", Short: "remove the objects of one ended job now",
		Long: `Removes the objects of one ended job from Kubernetes: its Workflow (after Teardown),
services and holds on nodes. Run it on the controller. "slurmk8s reconcile" does this for
all jobs; both require the same evidence that a job has ended.

Exit status: 0 nothing is left, 1 something is left or nothing was changed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := jobArgument(cmd, args)
			if err != nil {
				return err
			}
			return end(o.cleanup(cmd.Context(), id))
		},
	}
	o.flags(cmd, "remove them even if the job is alive or Slurm does not answer; a running job loses its storage, services and nodes, and data that was not copied yet is lost")
	return cmd
}

func (o *removal) cleanup(ctx context.Context, id uint32) int {
	cfg, logger, sink, err := withLog(o.config)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	log := logger.WithFields(logrus.Fields{"hook": "cleanup", "job": id})
	client, err := operatorClient(ctx, cfg, "cleanup", log)
	if err != nil {
		return failed(err)
	}
	sources := reconcile.Everywhere(all.Used(cfg), duty.Host{Config: cfg, Kube: client, Job: id, Force: o.force, Log: log})
	results, errs := reconcile.Cleanup(ctx, o.options(cfg, sources, log))
	exit := exitOK
	for _, err := range errs {
		if errors.Is(err, duty.ErrHidden) {
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
