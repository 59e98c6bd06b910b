package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Controller is what slurmctld says about itself.
type Controller struct {
	// Started is when it began: shortly after that, not every node has registered.
	Started time.Time
	// NextJob is the id that the next job gets. It counts up from FirstJobId to
	// MaxJobId and begins again; without its state, slurmctld begins again at once.
	NextJob uint32
}

// Passed reports whether the counter is above a job's id, and so whether this slurmctld,
// with its present state, can have had that job. In a federation the upper six bits of an
// id are the cluster that the job was submitted to, and the counter says nothing about ids
// of other clusters: see SameOrigin.
func (c Controller) Passed(id uint32) bool { return c.SameOrigin(id) && id < c.NextJob }

// SameOrigin reports whether the job was submitted to this cluster of a federation.
// Without one it is always true: MaxJobId is below 1<<26.
func (c Controller) SameOrigin(id uint32) bool { return id>>26 == c.NextJob>>26 }

// Config returns what "scontrol show config" prints: the settings that slurmctld runs with,
// those that slurm.conf leaves to Slurm among them.
func (c Commands) Config(ctx context.Context) (map[string]string, error) {
	out, err := c.run(ctx, "scontrol", "show", "config")
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, "="); ok {
			settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return settings, nil
}

// Controller asks slurmctld by "scontrol show config".
func (c Commands) Controller(ctx context.Context) (Controller, error) {
	settings, err := c.Config(ctx)
	if err != nil {
		return Controller{}, err
	}
	number := func(key string, bits int) (uint64, error) {
		text, there := settings[key]
		if !there {
			return 0, fmt.Errorf("scontrol show config: no %s in the answer", key)
		}
		n, err := strconv.ParseUint(text, 10, bits)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("scontrol show config: cannot read %q", key+" = "+text)
		}
		return n, nil
	}
	seconds, err := number("BOOT_TIME", 62) // SLURM_TIME_FORMAT=%s
	if err != nil {
		return Controller{}, err
	}
	next, err := number("NEXT_JOB_ID", 32)
	return Controller{Started: time.Unix(int64(seconds), 0), NextJob: uint32(next)}, err
}
