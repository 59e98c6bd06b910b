package workflow

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// A job whose storage is on certain rabbits has to get their nodes. Where Slurm's nodes have a
// feature that names their rabbit (workflows.rabbit_feature), slurm_bb_setup asks for these by
// the job's constraint: "[r1*2&r2*1]" is two nodes of r1 and one of r2.

// maxFeatures is how long a constraint may be (Slurm's MAX_FEATURES in job_mgr.c), in bytes.
const maxFeatures = 1024

// feature names a rabbit's nodes in Slurm.
func feature(pattern, rabbit string) string { return strings.ReplaceAll(pattern, "{rabbit}", rabbit) }

// constrain is the constraint that asks for so many nodes of each rabbit, and for what the job
// asks itself; ok is false if the two cannot be put together. all are the rabbits that there are:
// a job that asks for one of them would wait for ever for a node that has another one, too.
func constrain(own, pattern string, counts map[string]int, all []string) (constraint string, ok bool) {
	if strings.ContainsAny(own, "[]()*|") {
		return "", false
	}
	words := strings.Split(own, "&")
	if slices.ContainsFunc(all, func(rabbit string) bool { return slices.Contains(words, feature(pattern, rabbit)) }) {
		return "", false
	}
	rabbits := slices.Sorted(maps.Keys(counts))
	one := func(rabbit string) string {
		if own == "" {
			return feature(pattern, rabbit)
		}
		return own + "&" + feature(pattern, rabbit)
	}
	if len(rabbits) == 1 {
		return one(rabbits[0]), true
	}
	parts := make([]string, len(rabbits))
	for i, rabbit := range rabbits {
		part := one(rabbit)
		if own != "" {
			part = "(" + part + ")"
		}
		parts[i] = part + "*" + strconv.Itoa(counts[rabbit])
	}
	constraint = "[" + strings.Join(parts, "&") + "]"
	return constraint, len(constraint) <= maxFeatures
}

// beforeNodes prepares a Workflow whose storage is on the rabbits of the job's nodes, while these
// are not known. With persistent storage it makes Slurm choose the nodes of its rabbits. With
// placement "storage-first" it makes the storage of a job that copies data in on rabbits of its
// own choice, and Slurm choose their nodes: then placed is true.
func (d *Driver) beforeNodes(ctx context.Context, o *object, breakdowns []placement.Breakdown, instances []instance) (placed bool, err error) {
	first := d.cfg.Workflows.Placement == slurmconf.PlacementStorageFirst && len(instances) == 0 &&
		slices.ContainsFunc(o.Directives, func(directive string) bool { return command(directive) == "copy_in" })
	id, err := strconv.ParseUint(o.JobID, 10, 32)
	byRabbit := d.cfg.Workflows.RabbitFeature != "" && (first || len(instances) > 0)
	if err != nil || !byRabbit && d.cfg.Workflows.NodeFeature == "" {
		return false, nil
	}
	wish, err := d.slurm().WishOf(ctx, uint32(id))
	if err != nil {
		return false, err
	}
	if !byRabbit {
		return false, d.askStorage(ctx, uint32(id), wish)
	}
	if len(wish.Required) > 0 {
		return false, nil // it says itself where it runs
	}
	topology, err := d.topology(ctx)
	if err != nil || topology == nil {
		return false, err
	}
	if !first {
		return false, d.followInstances(ctx, uint32(id), wish, topology, instances)
	}
	nodes, err := d.chooseNodes(ctx, topology, wish)
	if err != nil {
		return false, err
	}
	if told, err := d.askRabbits(ctx, uint32(id), wish, topology, topology.PerRabbit(nodes)); !told {
		return false, err
	}
	return true, d.place(ctx, o, breakdowns, instances, nodes)
}

// followInstances asks for the nodes that persistent storage was made for.
func (d *Driver) followInstances(ctx context.Context, id uint32, wish slurm.Wish, topology *placement.Topology, instances []instance) error {
	counts := instances[0].servers.Counts()
	total := 0
	for _, n := range counts {
		total += n
	}
	if wish.Nodes != total {
		return &placement.Refusal{Never: true, Text: fmt.Sprintf("persistent storage %s was made for %d nodes, and the job asks for %d", instances[0].name, total, wish.Nodes)}
	}
	for _, other := range instances[1:] {
		if !maps.Equal(counts, other.servers.Counts()) {
			return &placement.Refusal{Never: true, Text: fmt.Sprintf("persistent storage %s and %s are on different rabbits: no nodes suit both", instances[0].name, other.name)}
		}
	}
	_, err := d.askRabbits(ctx, id, wish, topology, counts)
	return err
}

// askRabbits makes Slurm choose so many nodes of each rabbit.
func (d *Driver) askRabbits(ctx context.Context, id uint32, wish slurm.Wish, topology *placement.Topology, counts map[string]int) (told bool, err error) {
	return d.ask(ctx, id, wish, func(own string) (string, bool) {
		own, ok := d.withStorage(own)
		if !ok {
			return "", false
		}
		return constrain(own, d.cfg.Workflows.RabbitFeature, counts, topology.Rabbits())
	})
}

// ask gives a job the constraint that is made of its own; told is false if the two cannot be put
// together. What an earlier run of the job asked for is replaced.
func (d *Driver) ask(ctx context.Context, id uint32, wish slurm.Wish, with func(own string) (constraint string, ok bool)) (told bool, err error) {
	files := Files(d.cfg.StateDir)
	kept, err := files.Away(id)
	if err != nil {
		return false, err
	}
	own, ours := wish.Features, kept != nil && slices.Contains(kept.Asked, wish.Features)
	if ours {
		own = kept.Own
	}
	constraint, ok := with(own)
	if !ok {
		d.log.Infof("job %d has the constraint %q, to which nothing can be added: Slurm is not asked for nodes of its storage", id, wish.Features)
		return false, nil
	}
	if constraint == wish.Features {
		return true, nil
	}
	// Kept before Slurm is asked: what is set and not kept would be the user's. Slurm may not do it,
	// and then has what it has now.
	err = files.ChangeAway(ctx, id, func(a *Away) {
		a.Own, a.Asked = own, []string{constraint}
		if ours {
			a.Asked = []string{wish.Features, constraint}
		}
	})
	if err != nil {
		return false, err
	}
	if err := d.slurm().SetFeatures(ctx, id, constraint); err != nil {
		return false, err
	}
	d.log.Infof("job %d waits for nodes with %s", id, constraint)
	return true, nil
}

// chooseNodes are nodes, by DWS's names, for a job whose storage is made first.
func (d *Driver) chooseNodes(ctx context.Context, topology *placement.Topology, wish slurm.Wish) ([]string, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	states, err := d.statesOf(ctx, topology.Nodes())
	if err != nil {
		return nil, err
	}
	return topology.Choose(wish.Nodes, names.dws(wish.Planned), func(node string) bool {
		state, known := states[node]
		return known && !state.Dead() && !state.Drain()
	})
}
