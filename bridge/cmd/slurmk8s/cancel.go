package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const cancelHelp = `Usage: slurmk8s cancel-job [--config FILE] [--after-pid PID] JOBID

Cancels a job: of a job array the one task that has this job id. With
--after-pid it first waits until that process, a hook of the job, is over.
`

// cancelLimit bounds the wait for the hook and the wait for Slurm, each.
const cancelLimit = 2 * time.Minute

// settle is what Slurm gets to take in the answer of a hook that just ended.
const settle = 500 * time.Millisecond

func runCancel(ctx context.Context, args []string) int {
	set, config := flags("cancel-job")
	afterPID := set.Int("after-pid", 0, "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Print(cancelHelp)
		return exitOK
	case err != nil:
		return usage("cancel-job: %v", err)
	case set.NArg() != 1:
		return usage("cancel-job takes one job id")
	}
	id, err := strconv.ParseUint(set.Arg(0), 10, 32)
	if err != nil || id == 0 {
		return usage("cancel-job: %q is not a job id", set.Arg(0))
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
	log := logger.WithFields(logrus.Fields{"hook": "cancel-job", "job": id})
	if *afterPID > 0 {
		if err := awaitExit(ctx, *afterPID); err != nil {
			log.Warn(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cancelLimit)
	defer cancel()
	if err := (slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}).Cancel(ctx, uint32(id)); err != nil {
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
	time.Sleep(settle)
	return nil
}
