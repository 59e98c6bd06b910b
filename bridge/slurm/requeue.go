package slurm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// RequeueRun requeues a job if it is still in the given run: two nodes may ask for the
// same, and the job may have started again elsewhere. Where without names a node, Slurm does
// not choose it again for this job.
func (c Commands) RequeueRun(ctx context.Context, id, restarts uint32, without string) error {
	r, err := c.runOf(ctx, id)
	if err != nil || r != restarts {
		return err
	}
	target, err := c.target(ctx, id)
	if err != nil {
		return err
	}
	if _, err = c.run(ctx, "scontrol", "requeue", target); err != nil || without == "" {
		return err
	}
	return c.Exclude(ctx, id, nil, without)
}

// Exclude adds nodes to those that a job is not to get (ExcNodeList). keep, if any, is told
// which of them are not there yet, before they are. A job that asked for a node by name would never start without it, so
// it keeps that. Slurm takes the list of a job that pends, which a requeued one does from the
// first moment (_update_job() of job_mgr.c).
func (c Commands) Exclude(ctx context.Context, id uint32, keep func(added []string) error, nodes ...string) error {
	required, excluded, err := c.choice(ctx, id)
	if err != nil {
		return err
	}
	var added []string
	for _, node := range nodes {
		if !slices.Contains(required, node) && !slices.Contains(excluded, node) {
			added = append(added, node)
		}
	}
	if len(added) == 0 {
		return nil
	}
	if keep != nil {
		if err := keep(added); err != nil {
			return err
		}
	}
	return c.setExcluded(ctx, id, slices.Concat(excluded, added))
}

// Readmit takes nodes out of those that a pending job is not to get.
func (c Commands) Readmit(ctx context.Context, id uint32, nodes ...string) error {
	_, excluded, err := c.choice(ctx, id)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(excluded), func(node string) bool { return slices.Contains(nodes, node) })
	if len(kept) == len(excluded) {
		return nil
	}
	return c.setExcluded(ctx, id, kept)
}

// setExcluded replaces the list: Slurm knows no other change of it. Each component of a
// heterogeneous job has its own, and JobId=10 is all of them (update_job_str() of job_mgr.c).
func (c Commands) setExcluded(ctx context.Context, id uint32, nodes []string) error {
	target, err := c.component(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.run(ctx, "scontrol", "update", "JobId="+target, "ExcNodeList="+strings.Join(nodes, ","))
	return err
}

// choice are the nodes that a job was submitted with and without.
func (c Commands) choice(ctx context.Context, id uint32) (required, excluded []string, err error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--format=%A|%n|%x")
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if len(words) != 3 || words[0] != number {
			continue
		}
		if required, err = slurmconf.ExpandHostlist(known(words[1])); err == nil {
			excluded, err = slurmconf.ExpandHostlist(known(words[2]))
		}
		return required, excluded, err
	}
	return nil, nil, fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}

// Hold keeps a pending job from starting. Its user may release it.
func (c Commands) Hold(ctx context.Context, id uint32) error {
	target, err := c.target(ctx, id)
	if err == nil {
		_, err = c.run(ctx, "scontrol", "uhold", target)
	}
	return err
}

// known is a field of squeue, empty where squeue has nothing to print.
func known(field string) string {
	if field == "(null)" {
		return ""
	}
	return field
}

// Comment sets a job's AdminComment, which leaves the user's own comment alone: of an array that
// of the one task, of a heterogeneous job that of the one component.
func (c Commands) Comment(ctx context.Context, id uint32, text string) error {
	component, err := c.component(ctx, id)
	if err == nil {
		_, err = c.run(ctx, "scontrol", "update", "JobId="+component, "AdminComment="+text)
	}
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
	component, err := c.component(ctx, id)
	whole, _, _ := strings.Cut(component, "+")
	return whole, err
}

// component is target, but of a heterogeneous job the one component: "10+1".
func (c Commands) component(ctx context.Context, id uint32) (string, error) {
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
	}
	for _, number := range strings.Split(strings.Replace(target, "+", "_", 1), "_") {
		if _, err := strconv.ParseUint(number, 10, 32); err != nil {
			return "", fmt.Errorf("squeue: cannot read the job id %q", r.display)
		}
	}
	return target, nil
}
