package slurm

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// JobState is what a person wants to know of a job first.
type JobState struct {
	ID    uint32
	State string // as squeue writes it: "RUNNING"
	User  string
	Over  bool // it will run no more
}

// Jobs are the jobs that Slurm knows, by id: all of them, or with a user only theirs.
func (c Commands) Jobs(ctx context.Context, of *user.User) (map[uint32]JobState, error) {
	args := []string{"--noheader", "--all", "--array", "--states=all", "--format=%A|%T|%u"}
	if of != nil {
		args = append(args, "--user="+of.Uid)
	}
	out, err := c.run(ctx, "squeue", args...)
	if err != nil {
		return nil, err
	}
	jobs := map[uint32]JobState{}
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if len(words) != 3 {
			return nil, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		id, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("squeue: cannot read %q: %w", strings.TrimSpace(line), err)
		}
		jobs[uint32(id)] = JobState{ID: uint32(id), State: words[1], User: words[2], Over: over[words[1]]}
	}
	return jobs, nil
}

// WorkflowStatus is the answer of "scontrol show bbstat workflow ID": what the bridge
// says of a job's Workflow to whoever Slurm lets ask.
func (c Commands) WorkflowStatus(ctx context.Context, id uint32) (string, error) {
	out, err := c.run(ctx, "scontrol", "show", "bbstat", "workflow", strconv.FormatUint(uint64(id), 10))
	return strings.TrimSpace(out), err
}
