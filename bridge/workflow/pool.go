package workflow

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// Slurm lets a job wait in the queue until its pool has room for the capacity= of its
// directives. The pool is all rabbits together, so that room there is needed for a job to run,
// and not enough: the placement decides.

// WritePools writes what burst_buffer.lua gives to Slurm as its pools: what all rabbits have,
// and what is free of those that are well. Slurm multiplies both with the granularity: it is 1,
// so that they are bytes.
func (f Files) WritePools(pool string, rooms []placement.Room) error {
	var total, free int64
	for _, room := range rooms {
		total += room.Total
		if room.Fault == "" {
			free += room.Free
		}
	}
	text := fmt.Sprintf(`{"pools":[{"id":%q,"quantity":%d,"granularity":1,"free":%d}]}`+"\n", pool, total, free)
	if err := hostfile.Write(filepath.Join(string(f), "pools.json"), text, 0o600); err != nil {
		return fmt.Errorf("write the pools: %w", err)
	}
	return nil
}

// WriteSize keeps for slurm_bb_real_size how many bytes a job's storage has.
func (f Files) WriteSize(id uint32, bytes int64) error {
	if err := hostfile.Write(filepath.Join(f.job(id), "size"), strconv.FormatInt(bytes, 10)+"\n", 0o600); err != nil {
		return fmt.Errorf("keep the size of the job's storage: %w", err)
	}
	return nil
}

// Size is how many bytes of the rabbits a job's storage takes: what was placed, and for storage
// of nodes that waits for these what it takes on so many nodes.
func (d *Driver) Size(ctx context.Context, job *Job, nodes func() (int, error)) (int64, error) {
	o, err := d.find(ctx, job.Name())
	if err != nil || len(o.Breakdowns) == 0 {
		return 0, err
	}
	breakdowns, err := d.breakdowns(ctx, o)
	if err != nil {
		return 0, err
	}
	var sum int64
	for i := range breakdowns {
		b := &breakdowns[i]
		if len(b.Sets) == 0 {
			continue
		}
		count := 1
		if placement.NeedsNodes(breakdowns[i : i+1]) {
			if count, err = nodes(); err != nil {
				return 0, err
			}
		}
		servers := placement.Servers{ID: types.NamespacedName(b.Servers)}
		u, err := d.objects("servers", b.Servers.Namespace).Get(ctx, b.Servers.Name)
		if err != nil {
			return 0, err
		}
		if u != nil {
			servers = placement.ReadServers(u)
		}
		sum += placement.Bytes(b, &servers, count)
	}
	return sum, nil
}
