package slurm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// waiting are the states of a job that holds no nodes now but may again: what its
// former run left is over.
var waiting = map[string]bool{
	"PENDING": true, "REQUEUED": true, "REQUEUE_FED": true, "REQUEUE_HOLD": true, "RESV_DEL_HOLD": true, "SPECIAL_EXIT": true,
}

// RunningJobs returns the ids of the jobs that hold nodes. An error means that
// nothing is known, not that no job runs.
func (c Commands) RunningJobs(ctx context.Context) (map[uint32]bool, error) {
	return c.running(ctx)
}

// Running tells whether a job holds nodes. A job that Slurm does not know does not.
func (c Commands) Running(ctx context.Context, id uint32) (bool, error) {
	jobs, err := c.running(ctx, "--jobs="+strconv.FormatUint(uint64(id), 10))
	if unknownJob(err) {
		return false, nil
	}
	return jobs[id], err
}

func (c Commands) running(ctx context.Context, args ...string) (map[uint32]bool, error) {
	args = append([]string{"--noheader", "--all", "--array", "--states=all", "--format=%A %T"}, args...)
	out, err := c.run(ctx, "squeue", args...)
	if err != nil {
		return nil, err
	}
	jobs := map[uint32]bool{}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		id, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("squeue: cannot read %q: %w", strings.TrimSpace(line), err)
		}
		if !over[words[1]] && !waiting[words[1]] {
			jobs[uint32(id)] = true
		}
	}
	return jobs, nil
}

// unknownJob recognizes Slurm's words (ESLURM_INVALID_JOB_ID) for a job that it
// has forgotten or never had.
func unknownJob(err error) bool {
	var failed *CommandError
	return errors.As(err, &failed) && strings.Contains(failed.Reason, "Invalid job id specified")
}

// Account returns the account that a job is charged to, in Slurm's own words and
// not in those of the job's environment.
func (c Commands) Account(ctx context.Context, id uint32) (string, error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--format=%A %a")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == number {
			return words[1], nil
		}
	}
	return "", fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}
