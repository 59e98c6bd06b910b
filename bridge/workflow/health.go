package workflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// A Reason of nodes that we have drained is "slurmk8s: storage: r2 is Offline in DWS". Only these
// are undrained again, and a person who adds a word to it makes the drain theirs.
const (
	drainReason = "slurmk8s: storage: "
	drainSuffix = " in DWS"
)

func isDrainReason(reason string) bool {
	return strings.HasPrefix(reason, drainReason) && strings.HasSuffix(reason, drainSuffix)
}

// tendNodes asks Slurm once for the nodes of all rabbits, and does what their states ask for.
func (d *Driver) tendNodes(ctx context.Context, topology *placement.Topology) []error {
	nodes := topology.Nodes()
	if len(nodes) == 0 {
		return nil
	}
	states, err := d.statesOf(ctx, nodes)
	if err != nil {
		return []error{err}
	}
	failed := []error{d.disableHolding(ctx, nodes, states)}
	if d.cfg.Workflows.Health == slurmconf.HealthDrain {
		failed = append(failed, d.drainIll(ctx, topology, states))
	}
	return failed
}

// drainIll drains the nodes whose rabbit, or link to it, is not well, and undrains those that
// we drained and that are well again. A node that is down or off is not drained: that its link
// is silent says nothing, and its own Reason is needed to bring it back. It drains nothing if
// more than half of the nodes would be affected: then it is rather the provider that fails, and
// all jobs would stop.
func (d *Driver) drainIll(ctx context.Context, topology *placement.Topology, states map[string]slurm.NodeRecord) error {
	names, err := d.names()
	if err != nil {
		return err
	}
	ill, healthy, count, of := map[string][]string{}, []string{}, 0, 0
	for _, node := range topology.Nodes() {
		state, known := states[node]
		if !known {
			continue // not of this Slurm cluster
		}
		of++
		fault := topology.Fault(node)
		if fault != "" {
			count++
		}
		switch {
		case fault != "" && !state.Drain() && !state.Dead() && !state.Powered():
			reason := drainReason + strings.Join(strings.Fields(fault), " ") + drainSuffix
			ill[reason] = append(ill[reason], node)
		case fault == "" && state.Drain() && isDrainReason(state.Reason):
			healthy = append(healthy, node)
		}
	}
	var failed []error
	if len(healthy) > 0 {
		d.log.Infof("storage is well again: undraining %s", comma(healthy))
		failed = append(failed, d.slurm().Undrain(ctx, names.slurm(healthy)))
	}
	if len(ill) > 0 && count > (of+1)/2 {
		return errors.Join(append(failed, fmt.Errorf("%d of %d nodes have no storage of their own: none is drained, since the provider itself may have failed", count, of))...)
	}
	for _, reason := range slices.Sorted(maps.Keys(ill)) {
		d.log.Warnf("draining %s: %s", comma(ill[reason]), reason)
		failed = append(failed, d.slurm().Drain(ctx, names.slurm(ill[reason]), reason))
	}
	return errors.Join(failed...)
}
