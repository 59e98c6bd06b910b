package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Wish is what a pending job asks for.
type Wish struct {
	Nodes    int      // how many; the least, of a range
	Features string   // its constraint, "gpu&ib"
	Required []string // nodes that it names
	Planned  []string // nodes on which Slurm expects to start it
}

// WishOf asks Slurm for it.
func (c Commands) WishOf(ctx context.Context, id uint32) (Wish, error) {
	number := strconv.FormatUint(uint64(id), 10)
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--format=%A|%D|%n|%Y|%f")
	if err != nil {
		return Wish{}, err
	}
	for line := range strings.Lines(out) {
		words := strings.SplitN(strings.TrimSpace(line), "|", 5) // a constraint may have "|"
		if words[0] != number {
			continue
		}
		if len(words) != 5 {
			return Wish{}, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		least, _, _ := strings.Cut(words[1], "-")
		w := Wish{Features: known(words[4])}
		if w.Nodes, err = strconv.Atoi(least); err == nil {
			w.Required, err = slurmconf.ExpandHostlist(known(words[2]))
		}
		if err == nil {
			w.Planned, err = slurmconf.ExpandHostlist(known(words[3]))
		}
		if err != nil {
			return Wish{}, fmt.Errorf("squeue: cannot read %q: %w", strings.TrimSpace(line), err)
		}
		return w, nil
	}
	return Wish{}, fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}

// SetFeatures replaces the constraint of a pending job; of a heterogeneous job, that of the one
// component.
func (c Commands) SetFeatures(ctx context.Context, id uint32, features string) error {
	r, err := c.record(ctx, id)
	if err != nil {
		return err
	}
	target := r.display
	if !strings.Contains(target, "+") {
		if target, err = c.target(ctx, id); err != nil {
			return err
		}
	}
	_, err = c.run(ctx, "scontrol", "update", "JobId="+target, "Features="+features)
	return err
}
