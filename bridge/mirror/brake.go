package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// brake keeps one run on the controller from closing many nodes on one side, and a node that
// compares only itself from being one of many: then none is closed there. What is opened is not
// counted, since for that both sides must have said so.
func (o Options) brake(ctx context.Context, changes []change, nodes int) ([]change, error) {
	if o.Force {
		return changes, nil
	}
	var held []error
	for _, verb := range []Verb{Drain, Close} {
		is := func(c change) bool { return c.Verb == verb }
		if !slices.ContainsFunc(changes, is) {
			continue
		}
		check := func() error { return o.tooMany(verb, changes, nodes) }
		if o.Node != "" {
			check = func() error { return o.tooManyOthers(ctx, verb) }
		}
		if err := check(); err != nil {
			changes = slices.DeleteFunc(changes, is)
			held = append(held, err)
		}
	}
	return changes, errors.Join(held...)
}

// where says in words what a verb does.
var where = map[Verb]string{Drain: "drained in Slurm", Close: "closed in Kubernetes"}

// tooMany is an error if a run on the controller would close more nodes than it may.
func (o Options) tooMany(verb Verb, changes []change, nodes int) error {
	closing := 0
	for _, c := range changes {
		if c.Verb == verb {
			closing++
		}
	}
	if most := o.Nodes.Cfg.MirrorLimit(nodes); closing > most {
		return fmt.Errorf("mirror: held back: %d of the %d nodes that Slurm and Kubernetes share would be %s, and one run does that to %d at most "+
			"(nodes.mirror_max_nodes = %q); \"slurmk8s reconcile --force\" does it now", closing, nodes, where[verb], most, o.Nodes.Cfg.MirrorMaxNodes)
	}
	return nil
}

// tooManyOthers is an error if this node would be one too many of those that slurmk8s has
// drained, or that Slurm has closed. A kubelet may not list the Nodes, so Slurm's are counted.
func (o Options) tooManyOthers(ctx context.Context, verb Verb) error {
	records, err := o.Slurm.NodeRecords(ctx)
	if err != nil {
		return fmt.Errorf("mirror: node %s is not %s: the others are not known: %w", o.Node, where[verb], err)
	}
	closed := 1 // this one
	for name, r := range records {
		if name != o.Node && (verb == Drain && drainedByUs(r) || verb == Close && slurmsWhy(r) != "") {
			closed++
		}
	}
	if most := o.Nodes.Cfg.MirrorLimit(len(records)); closed > most {
		return fmt.Errorf("mirror: held back: node %s would be %s: with it that is %d of Slurm's %d nodes, and %d at most do so by themselves "+
			"(nodes.mirror_max_nodes = %q); \"slurmk8s reconcile --force\" on the node does it now",
			o.Node, where[verb], closed, len(records), most, o.Nodes.Cfg.MirrorMaxNodes)
	}
	return nil
}

func drainedByUs(r slurm.NodeRecord) bool { return r.Drain() && isOurs(r.Reason) }

// againstOthers looks again after this node has drained itself, and takes it back if it was one
// too many: nodes that do so at the same moment do not see each other before. So the last of
// them sees all, and no more than the limit stay.
func (o Options) againstOthers(ctx context.Context) error {
	many := o.tooManyOthers(ctx, Drain)
	if many == nil {
		return nil
	}
	now, err := o.Slurm.NodeRecords(ctx, o.Node)
	if err == nil && drainedByUs(now[o.Node]) {
		err = o.Slurm.Undrain(ctx, []string{o.Node})
	}
	return errors.Join(many, err)
}
