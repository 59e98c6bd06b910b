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
func (d *Driver) tendNodes(ctx context.Context, topology *placement.Topology, files Files, kept map[string]taken) []error {
	nodes := topology.Nodes()
	if len(nodes) == 0 {
		return nil
	}
	states, err := d.statesOf(ctx, nodes)
	if err != nil {
		return []error{err}
	}
	names, err := d.names()
	if err != nil {
		return []error{err}
	}
	health := judge(topology, names, states)
	failed := []error{d.disableHolding(ctx, nodes, states)}
	if d.cfg.Workflows.Health == slurmconf.HealthDrain {
		failed = append(failed, d.drainIll(ctx, health))
	}
	return append(failed, d.moveFeatures(ctx, health, files, kept))
}

// health is how the rabbits of Slurm's nodes are, and their links.
type health struct {
	well       []slurm.NodeRecord // by Slurm's names, as in ill
	ill        []illNode
	faults, of int // nodes with a fault, of all
}

// illNode is a node whose rabbit, or link to it, is not well.
type illNode struct {
	slurm.NodeRecord
	fault string
}

// tooMany is an error if more than half of the nodes have a fault: then it is rather the provider
// that fails, and all jobs would stop. what is what is not done with any.
func (h health) tooMany(what string) error {
	if h.faults <= (h.of+1)/2 {
		return nil
	}
	return fmt.Errorf("%d of %d nodes have no storage of their own: none %s, since the provider itself may have failed", h.faults, h.of, what)
}

// judge leaves out nodes that are not of this Slurm cluster, and ill ones that are down or off:
// that such a node's link is silent says nothing.
func judge(topology *placement.Topology, names *names, states map[string]slurm.NodeRecord) (h health) {
	for _, node := range topology.Nodes() {
		state, known := states[node]
		if !known {
			continue
		}
		h.of++
		state.Name = names.slurm([]string{node})[0]
		fault := strings.Join(strings.Fields(topology.Fault(node)), " ")
		if fault == "" {
			h.well = append(h.well, state)
			continue
		}
		h.faults++
		if !state.Dead() && !state.Powered() {
			h.ill = append(h.ill, illNode{state, fault})
		}
	}
	return h
}

// drainIll drains the nodes that are ill, and undrains those that we drained and that are well
// again. A node that is down keeps its own Reason, which is needed to bring it back.
func (d *Driver) drainIll(ctx context.Context, h health) error {
	ill, healthy := map[string][]string{}, []string{}
	for _, node := range h.ill {
		if !node.Drain() {
			reason := drainReason + node.fault + drainSuffix
			ill[reason] = append(ill[reason], node.Name)
		}
	}
	for _, node := range h.well {
		if node.Drain() && isDrainReason(node.Reason) {
			healthy = append(healthy, node.Name)
		}
	}
	var failed []error
	if len(healthy) > 0 {
		d.log.Infof("storage is well again: undraining %s", comma(healthy))
		failed = append(failed, d.slurm().Undrain(ctx, healthy))
	}
	if err := h.tooMany("is drained"); len(ill) > 0 && err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, reason := range slices.Sorted(maps.Keys(ill)) {
		d.log.Warnf("draining %s: %s", comma(ill[reason]), reason)
		failed = append(failed, d.slurm().Drain(ctx, ill[reason], reason))
	}
	return errors.Join(failed...)
}
