package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Placement is which jobs are on which nodes: of a job that is completing, only the
// nodes that Slurm does not have back yet.
type Placement map[uint32][]string

// Placement asks for all jobs that hold nodes. An error means that nothing is known.
func (c Commands) Placement(ctx context.Context) (Placement, error) { return c.placement(ctx) }

// NodesOf returns the nodes that a job holds now: none, if it is over or unknown.
func (c Commands) NodesOf(ctx context.Context, job uint32) ([]string, error) {
	p, err := c.placement(ctx, "--jobs="+strconv.FormatUint(uint64(job), 10))
	if unknownJob(err) {
		return nil, nil
	}
	return p[job], err
}

func (c Commands) placement(ctx context.Context, args ...string) (Placement, error) {
	args = append([]string{"--noheader", "--all", "--array", "--states=all", "--format=%A|%T|%N"}, args...)
	out, err := c.run(ctx, "squeue", args...)
	if err != nil {
		return nil, err
	}
	p := Placement{}
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if len(words) != 3 {
			return nil, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		id, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("squeue: cannot read %q: %w", strings.TrimSpace(line), err)
		}
		if over[words[1]] || waiting[words[1]] || words[2] == "" || words[2] == "(null)" {
			continue
		}
		names, err := slurmconf.ExpandHostlist(words[2])
		if err != nil {
			return nil, fmt.Errorf("squeue: cannot read the nodes of job %d: %w", id, err)
		}
		p[uint32(id)] = append(p[uint32(id)], names...)
	}
	return p, nil
}

// Started is when slurmctld began: shortly after that, not every job may be known.
func (c Commands) Started(ctx context.Context) (time.Time, error) {
	out, err := c.run(ctx, "scontrol", "show", "config")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) != "BOOT_TIME" {
			continue
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // SLURM_TIME_FORMAT=%s
		if err != nil {
			return time.Time{}, fmt.Errorf("scontrol show config: cannot read %q", strings.TrimSpace(line))
		}
		return time.Unix(seconds, 0), nil
	}
	return time.Time{}, fmt.Errorf("scontrol show config: says no BOOT_TIME")
}
