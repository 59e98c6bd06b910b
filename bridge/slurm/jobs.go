package slurm

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Job is a job as squeue prints it.
type Job struct {
	ID    uint32
	State string // "RUNNING"
	User  string
	// Nodes are those that Slurm gave to the job; while it is COMPLETING, only the
	// nodes that Slurm does not have back yet.
	Nodes []string
}

// over are the states in which a job will run no more. A job that is over but
// still has its data staged out is in state STAGE_OUT for squeue.
var over = map[string]bool{
	"BOOT_FAIL": true, "CANCELLED": true, "COMPLETED": true, "DEADLINE": true, "FAILED": true,
	"NODE_FAIL": true, "OUT_OF_MEMORY": true, "PREEMPTED": true, "REVOKED": true, "TIMEOUT": true,
}

// waiting are the states of a job that holds no nodes now but may again: what its
// former run left is over.
var waiting = map[string]bool{
	"PENDING": true, "REQUEUED": true, "REQUEUE_FED": true, "REQUEUE_HOLD": true, "RESV_DEL_HOLD": true, "SPECIAL_EXIT": true,
}

// holding are the states of a job that has nodes, or has them no more and prints them still.
var holding = map[string]bool{
	"COMPLETING": true, "CONFIGURING": true, "POWER_UP_NODE": true, "RESIZING": true, "RUNNING": true,
	"SIGNALING": true, "STAGE_OUT": true, "STOPPED": true, "SUSPENDED": true,
}

// Over reports whether the job will not run any more.
func (j Job) Over() bool { return over[j.State] }

// Waiting reports whether the job is in the queue.
func (j Job) Waiting() bool { return waiting[j.State] }

// HoldsNodes reports whether the job has nodes, whatever it does on them. STAGE_OUT comes
// after COMPLETING: Slurm has the nodes back and still prints them.
func (j Job) HoldsNodes() bool {
	return !j.Over() && !j.Waiting() && j.State != "STAGE_OUT" && len(j.Nodes) > 0
}

// On reports whether the job holds a node. Names are compared as Kubernetes writes
// them: in lower case.
func (j Job) On(node string) bool {
	if j.HoldsNodes() {
		for _, name := range j.Nodes {
			if strings.EqualFold(name, node) {
				return true
			}
		}
	}
	return false
}

// Jobs returns the jobs that Slurm knows, by id: all of them, or with a user only
// theirs. An error means that nothing is known, not that there are no jobs.
func (c Commands) Jobs(ctx context.Context, of *user.User) (map[uint32]Job, error) {
	if of != nil {
		return c.squeue(ctx, "--user="+of.Uid)
	}
	return c.squeue(ctx)
}

// Asked for one job, squeue makes slurmctld look up that job alone, and an unknown
// one is an error of its own. Asked for several, it fetches all jobs and prints those
// (squeue.c, up to 26.05). So few jobs are asked for one by one; where there are too
// many for a command line, all are printed.
const (
	oneByOne   = 8
	inOneQuery = 5000
)

// Lookup asks for these jobs only. A job that is not in the answer is unknown to Slurm.
// An error means that nothing is known.
func (c Commands) Lookup(ctx context.Context, ids ...uint32) (map[uint32]Job, error) {
	if len(ids) > inOneQuery {
		return c.squeue(ctx)
	}
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.FormatUint(uint64(id), 10)
	}
	if len(ids) > oneByOne {
		return c.squeue(ctx, "--jobs="+strings.Join(words, ","))
	}
	found := map[uint32]Job{}
	for i, id := range ids {
		jobs, err := c.squeue(ctx, "--jobs="+words[i])
		if err != nil && !unknownJob(err) {
			return nil, err
		}
		if job, known := jobs[id]; known {
			found[id] = job
		}
	}
	return found, nil
}

// NodesOf returns the nodes that a job holds now: none if it has ended or is unknown.
func (c Commands) NodesOf(ctx context.Context, id uint32) ([]string, error) {
	jobs, err := c.Lookup(ctx, id)
	if err != nil || !jobs[id].HoldsNodes() {
		return nil, err
	}
	return jobs[id].Nodes, nil
}

// Running reports whether a job holds nodes. A job that Slurm does not know holds none.
func (c Commands) Running(ctx context.Context, id uint32) (bool, error) {
	jobs, err := c.Lookup(ctx, id)
	return jobs[id].HoldsNodes(), err
}

// squeue prints jobs in all states, each task of an array for itself. Without --all,
// SlurmUser would not see the jobs of hidden partitions.
func (c Commands) squeue(ctx context.Context, args ...string) (map[uint32]Job, error) {
	args = append([]string{"--noheader", "--all", "--array", "--states=all", "--format=%A|%T|%u|%N"}, args...)
	out, err := c.run(ctx, "squeue", args...)
	if err != nil {
		return nil, err
	}
	jobs := map[uint32]Job{}
	for line := range strings.Lines(out) {
		job, err := parseJob(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		if len(job.Nodes) > 0 && !job.Over() && !job.Waiting() && !holding[job.State] {
			if err := c.askForNodes(ctx, &job); err != nil {
				return nil, err
			}
		}
		// Tasks of an array that wait share the id of the array, which one of them
		// keeps when it starts.
		if other, twice := jobs[job.ID]; twice {
			job = merge(other, job)
		}
		jobs[job.ID] = job
	}
	return jobs, nil
}

// askForNodes is for a job in a state that is unknown here. %N prints nodes also for a job that
// waits and had them before, such as one that is EXPEDITING (25.11). %R prints a reason in
// parentheses then, and nodes only for a job that has them.
func (c Commands) askForNodes(ctx context.Context, job *Job) error {
	number := strconv.FormatUint(uint64(job.ID), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--array", "--states=all", "--format=%A|%R", "--jobs="+number)
	if unknownJob(err) {
		job.Nodes = nil // since the question before
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if id, where, _ := strings.Cut(line, "|"); id == number {
			if strings.HasPrefix(where, "(") {
				job.Nodes = nil
			}
			return nil
		}
	}
	return fmt.Errorf("squeue --jobs=%d: no such job in its answer", job.ID)
}

func parseJob(line string) (Job, error) {
	words := strings.Split(line, "|")
	if len(words) != 4 || words[1] == "" {
		return Job{}, fmt.Errorf("squeue: cannot read %q", line)
	}
	id, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil {
		return Job{}, fmt.Errorf("squeue: cannot read %q: %w", line, err)
	}
	job := Job{ID: uint32(id), State: words[1], User: words[2]}
	if words[3] != "" && words[3] != "(null)" {
		if job.Nodes, err = slurmconf.ExpandHostlist(words[3]); err != nil {
			return Job{}, fmt.Errorf("squeue: cannot read the nodes of job %d: %w", id, err)
		}
	}
	return job, nil
}

// merge is the more alive one of two records with the same id: what it needs is kept.
func merge(a, b Job) Job {
	switch {
	case a.HoldsNodes() && b.HoldsNodes():
		a.Nodes = append(a.Nodes, b.Nodes...)
		return a
	case b.HoldsNodes() || a.Over():
		return b
	}
	return a
}

// unknownJob recognizes Slurm's words (ESLURM_INVALID_JOB_ID) for a job that it
// has forgotten or never had.
func unknownJob(err error) bool {
	var failed *CommandError
	return errors.As(err, &failed) && strings.Contains(failed.Reason, "Invalid job id specified")
}

// Account returns the account that a job is charged to, as Slurm says and not as the
// job's environment says.
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

// BurstBufferState returns the state of a job's burst buffer in Slurm's words, such as
// "staging-in"; "" if it has none.
func (c Commands) BurstBufferState(ctx context.Context, id uint32) (string, error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--Format=JobID:20 ,BurstBufferState:20 ")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] != number:
			continue // another part of an array or of a heterogeneous job
		case len(words) == 1 || words[1] == "N/A":
			return "", nil
		}
		return words[1], nil
	}
	return "", fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}

// WorkflowStatus returns the answer of "scontrol show bbstat workflow ID": the status of
// a job's Workflow, for users whom Slurm lets ask.
func (c Commands) WorkflowStatus(ctx context.Context, id uint32) (string, error) {
	out, err := c.run(ctx, "scontrol", "show", "bbstat", "workflow", strconv.FormatUint(uint64(id), 10))
	return strings.TrimSpace(out), err
}

// Owner is whose a job is, as Slurm says.
type Owner struct {
	UID                      uint32
	User, Account, Partition string // Partition is the first of several that a job may wait for
}

// Owner asks whose a job is.
func (c Commands) Owner(ctx context.Context, id uint32) (Owner, error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--format=%A|%U|%u|%a|%P")
	if err != nil {
		return Owner{}, err
	}
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if words[0] != number {
			continue // another part of an array or of a heterogeneous job
		}
		if len(words) != 5 {
			return Owner{}, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		uid, err := strconv.ParseUint(words[1], 10, 32)
		if err != nil {
			return Owner{}, fmt.Errorf("squeue: cannot read %q: %w", strings.TrimSpace(line), err)
		}
		partition, _, _ := strings.Cut(words[4], ",")
		return Owner{UID: uint32(uid), User: words[2], Account: known(words[3]), Partition: known(partition)}, nil
	}
	return Owner{}, fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}
