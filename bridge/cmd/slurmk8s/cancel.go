package main

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// cancelLimit bounds the wait for the hook and the wait for Slurm, each.
const cancelLimit = 2 * time.Minute

// settleLimit bounds the wait for a burst buffer in which no hook runs. Without
// Flags=TeardownFailure Slurm keeps the buffer of a failed stage-in as it is.
const settleLimit = 10 * time.Second

func cancelCommand() *cobra.Command {
	var config string
	var afterPID int
	cmd := &cobra.Command{
		Use: "cancel-job JOBID", Short: "cancel a job, or one task of a job array",
		Long: "Cancels a job. Of a job array, cancels only the task that has this job id.",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := jobArgument(cmd, args)
			if err != nil {
				return err
			}
			return end(runCancel(cmd.Context(), config, afterPID, id))
		},
	}
	withConfig(cmd, &config)
	cmd.Flags().IntVar(&afterPID, "after-pid", 0, "wait until process `PID`, a hook of the job, has ended")
	return cmd
}

// jobArgument is the one job that a command takes.
func jobArgument(cmd *cobra.Command, args []string) (uint32, error) {
	if len(args) != 1 {
		return 0, fmt.Errorf("%s takes one job id", cmd.Name())
	}
	id, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("%s: %q is not a job id", cmd.Name(), args[0])
	}
	return uint32(id), nil
}

func runCancel(ctx context.Context, config string, afterPID int, id uint32) int {
	cfg, logger, sink, err := withLog(config)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	log := logger.WithFields(logrus.Fields{"hook": "cancel-job", "job": id})
	commands := slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}
	if afterPID > 0 {
		if err := awaitExit(ctx, afterPID); err != nil {
			log.Warn(err)
		}
		if err := settle(ctx, commands, id); err != nil {
			log.Warn(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cancelLimit)
	defer cancel()
	if err := commands.Cancel(ctx, id); err != nil {
		log.Error(err)
		return failed(err)
	}
	log.Info("cancelled: it could never have run")
	return exitOK
}

// awaitExit waits for a process that is not our child.
func awaitExit(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, cancelLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d is still there: going on", pid)
		}
	}
	return nil
}

// settle waits until Slurm runs no hook of the job. Slurm kills the hooks of a job that is
// cancelled, and the kill of a stage-in can hit the teardown that follows it, which Slurm does
// not run again: the Workflow would be left to reconcile. 26.05 stages a held job in again
// within a second of the teardown.
func settle(ctx context.Context, commands slurm.Commands, id uint32) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := commands.BurstBufferState(ctx, id)
		if err != nil {
			return err
		}
		if state != "staging-in" && state != "teardown" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the burst buffer of job %d is still in %s: going on", id, state)
		}
	}
}
