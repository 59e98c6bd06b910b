package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// RequeueRun requeues a job if it is still in the given run: two nodes may ask for the
// same, and the job may have started again elsewhere.
func (c Commands) RequeueRun(ctx context.Context, id, restarts uint32) error {
	r, err := c.runOf(ctx, id)
	if err != nil || r != restarts {
		return err
	}
	target, err := c.target(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.run(ctx, "scontrol", "requeue", target)
	return err
}

// Comment sets a job's AdminComment, which leaves the user's own comment alone.
func (c Commands) Comment(ctx context.Context, id uint32, text string) error {
	_, err := c.run(ctx, "scontrol", "update", fmt.Sprintf("JobId=%d", id), "AdminComment="+text)
	return err
}

// runOf is how often a job was restarted.
func (c Commands) runOf(ctx context.Context, id uint32) (uint32, error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--Format=JobID:20 ,RestartCnt:20 ")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) != 2 || words[0] != number {
			continue
		}
		n, err := strconv.ParseUint(words[1], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		return uint32(n), nil
	}
	return 0, fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}

// target is how scancel and scontrol are to be told of one job: of an array the one
// task, which would otherwise stand for all of them when it has the array's id; of a
// heterogeneous job the whole.
func (c Commands) target(ctx context.Context, id uint32) (string, error) {
	r, err := c.record(ctx, id)
	if err != nil {
		return "", err
	}
	target := r.display
	if array, tasks, ok := strings.Cut(r.display, "_"); ok {
		task := strings.TrimSuffix(strings.TrimPrefix(tasks, "["), "]")
		if _, err := strconv.ParseUint(task, 10, 32); err != nil {
			return "", fmt.Errorf("job %d still stands for the array tasks %s: not touched", id, task)
		}
		target = array + "_" + task
	} else if whole, _, ok := strings.Cut(r.display, "+"); ok {
		target = whole
	}
	for _, number := range strings.Split(target, "_") {
		if _, err := strconv.ParseUint(number, 10, 32); err != nil {
			return "", fmt.Errorf("squeue: cannot read the job id %q", r.display)
		}
	}
	return target, nil
}
