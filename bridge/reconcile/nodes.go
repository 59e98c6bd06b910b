package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
)

// Nodes is the duty of nodes that jobs take from Kubernetes, for all nodes.
type Nodes struct {
	Bridge *node.Bridge
}

// List returns the jobs that hold nodes, on each node.
func (n Nodes) List(ctx context.Context) ([]Object, error) {
	held, err := n.Bridge.Held(ctx)
	if kube.Is(err, kube.Denied) {
		return nil, fmt.Errorf("nodes are not looked at, each gives itself back by \"slurmk8s reconcile\" there: %w: %w", ErrHidden, err)
	}
	var objects []Object
	for _, h := range held {
		for _, holder := range h.Holders {
			objects = append(objects, nodeObject(h, holder, h.Changed, func(ctx context.Context) error { return drop(ctx, n.Bridge, h.Name, holder) }))
		}
	}
	return objects, err
}

// nodeObject is one job's on one node. The jobs of a node give it back one after
// another: the last one starts what was stopped for all.
func nodeObject(h node.HeldNode, holder node.Holder, made time.Time, remove func(context.Context) error) Object {
	return Object{Name: "hold of node " + cmp.Or(h.Name, h.SlurmName), JobID: holder.JobID, Made: made,
		Allocation: true, Node: h.SlurmName, Chain: h.Name + " " + h.SlurmName, Remove: remove}
}

func drop(ctx context.Context, bridge *node.Bridge, name string, holder node.Holder) error {
	return bridge.Drop(ctx, name, func(h node.Holder) bool { return h == holder })
}

// ThisNode is the same duty on one node: what the epilogs of its jobs could not do.
type ThisNode struct {
	Bridge *node.Bridge
	RunDir string
	Node   string // by its name in Slurm
	Log    *logrus.Entry
}

// List returns the jobs that hold this node, by its object in Kubernetes or by its own
// files: a job that was killed before it was a holder, or refused, is to be seen in
// the files only.
func (n ThisNode) List(ctx context.Context) ([]Object, error) {
	held, err := n.Bridge.HeldHere(ctx, n.Node)
	if err != nil {
		return nil, err
	}
	local := node.LocalIn(n.RunDir)
	noted, err := local.Jobs()
	if err != nil {
		return nil, err
	}
	refused, err := node.Refused(n.RunDir)
	if err != nil {
		return nil, err
	}
	files := append(noted, refused...)
	var objects []Object
	add := func(holder node.Holder) {
		since := held.Changed // after a boot, which empties run_dir
		if at := slices.IndexFunc(files, func(f hostfile.File) bool { return f.ID == holder.JobID }); at >= 0 {
			since = files[at].Made
		}
		objects = append(objects, nodeObject(held, holder, since, func(ctx context.Context) error { return n.giveBack(ctx, local, held.Name, holder) }))
	}
	for _, holder := range held.Holders {
		add(holder)
	}
	for _, f := range files {
		if slices.ContainsFunc(objects, func(o Object) bool { return o.JobID == f.ID }) {
			continue
		}
		holder := node.Holder{Cluster: n.Bridge.Cluster, JobID: f.ID}
		if note, err := local.Get(f.ID); err != nil {
			n.Log.Warn(err)
		} else if note != nil {
			holder = note.Holder
		}
		add(holder)
	}
	return objects, nil
}

// giveBack gives back that run of the job and no later one, which may begin here at
// this moment.
func (n ThisNode) giveBack(ctx context.Context, local node.Local, name string, holder node.Holder) error {
	if err := n.Bridge.GiveBack(ctx, local, holder.JobID, holder.Restarts); err != nil {
		return err
	}
	if name != "" {
		if err := drop(ctx, n.Bridge, name, holder); err != nil {
			return err
		}
	}
	return node.Unrefuse(n.RunDir, holder.JobID)
}
