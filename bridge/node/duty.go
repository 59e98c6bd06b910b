package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duty is what is kept for jobs that take nodes from Kubernetes: their holds.
type Duty struct{}

// Used tells whether any job may take a node.
func (Duty) Used(cfg *slurmconf.Config) bool { return cfg.Nodes.Reclaims() }

// Rights are those of a controller that takes nodes: a kubelet has its own from Kubernetes.
func (Duty) Rights(*slurmconf.Config) []duty.Rights {
	return []duty.Rights{{Role: "slurmk8s-node-reclaim", When: duty.ControllerTakes, Optional: []string{"events", "delete pods"}}}
}

// List returns the jobs that hold nodes, on each node.
func (Duty) List(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	bridge := bridgeOf(h)
	held, err := bridge.Held(ctx)
	if kube.Is(err, kube.Denied) {
		return nil, fmt.Errorf("nodes that jobs hold are not looked at (kubectl get nodes -l %s=%s shows them), each gives itself back by \"slurmk8s reconcile\" there: %w: %w",
			LabelHeldBy, h.Config.Cluster, duty.ErrHidden, err)
	}
	var objects []duty.Object
	for _, n := range held {
		for _, holder := range n.Holders {
			objects = append(objects, holdOf(n, holder, n.Changed, func(ctx context.Context) error { return bridge.dropRun(ctx, n.Name, holder) }))
		}
	}
	return objects, err
}

func bridgeOf(h duty.Host) *Bridge { return New(h.Kube, &h.Config.Nodes, h.Config.Cluster, h.Log) }

// holdOf is one job's hold on one node. The jobs of a node give it back one after
// another: the last one starts what was stopped for all.
func holdOf(n HeldNode, holder Holder, made time.Time, remove func(context.Context) error) duty.Object {
	return duty.Object{Name: "hold of node " + cmp.Or(n.Name, n.SlurmName), JobID: holder.JobID, Made: made, Detail: string(holder.Mode),
		Allocation: true, Node: n.SlurmName, Chain: n.Name + " " + n.SlurmName, Remove: remove}
}

// dropRun drops that run of the job and no later one.
func (b *Bridge) dropRun(ctx context.Context, name string, holder Holder) error {
	return b.Drop(ctx, name, func(h Holder) bool { return h == holder })
}

// Kubeconfig is the node's own credential.
func (Duty) Kubeconfig(cfg *slurmconf.Config) string { return cfg.Nodes.Kubeconfig }

// ListHere returns the jobs that hold this node, by its object in Kubernetes or by its
// own files: a job that was killed before it was a holder, or refused, is to be seen in
// the files only.
func (Duty) ListHere(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	bridge, runDir := bridgeOf(h), h.Config.Services.RunDir
	local := LocalIn(runDir)
	held, err := bridge.HeldHere(ctx, h.Node)
	if err != nil {
		return nil, err
	}
	noted, err := local.Jobs()
	if err != nil {
		return nil, err
	}
	refused, err := Refused(runDir)
	if err != nil {
		return nil, err
	}
	files := append(noted, refused...)
	var objects []duty.Object
	add := func(holder Holder) {
		since := held.Changed // after a boot, which empties run_dir
		if at := slices.IndexFunc(files, func(f hostfile.File) bool { return f.ID == holder.JobID }); at >= 0 {
			since = files[at].Made
		}
		objects = append(objects, holdOf(held, holder, since, func(ctx context.Context) error {
			return bridge.giveBackHere(ctx, local, runDir, held.Name, holder)
		}))
	}
	for _, holder := range held.Holders {
		add(holder)
	}
	for _, f := range files {
		if slices.ContainsFunc(objects, func(o duty.Object) bool { return o.JobID == f.ID }) {
			continue
		}
		holder := Holder{Cluster: bridge.Cluster, JobID: f.ID}
		if note, err := local.Get(f.ID); err != nil {
			h.Log.Warn(err)
		} else if note != nil {
			holder = note.Holder
		}
		add(holder)
	}
	return objects, nil
}

// giveBackHere does what the job's epilog could not. A later run of the job may begin
// here at this moment.
func (b *Bridge) giveBackHere(ctx context.Context, local Local, runDir, name string, holder Holder) error {
	if err := b.GiveBack(ctx, local, holder.JobID, holder.Restarts); err != nil {
		return err
	}
	if name != "" {
		if err := b.dropRun(ctx, name, holder); err != nil {
			return err
		}
	}
	return Unrefuse(runDir, holder.JobID)
}
