package node

import (
	"cmp"
	"context"
	"errors"
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

// Used tells whether any job may take a node, or drains close it.
func (Duty) Used(cfg *slurmconf.Config) bool { return cfg.Nodes.Reclaims() || cfg.Nodes.Mirrors() }

// Rights are those of a controller that takes nodes, or mirrors drains and cordons: a kubelet
// has its own from Kubernetes.
func (Duty) Rights(cfg *slurmconf.Config) []duty.Rights {
	rights := []duty.Rights{{Role: "slurmk8s-node-reclaim", When: duty.ControllerTakes, Optional: []string{"events", "delete pods"}}}
	if cfg.Nodes.Mirrors() {
		rights = append(rights, duty.Rights{Role: "slurmk8s-node-mirror", When: duty.Always, Optional: []string{duty.Everything}})
	}
	return rights
}

// List returns the jobs that hold nodes, on each node.
func (Duty) List(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	driver := driverOf(h)
	held, err := driver.Claimed(ctx)
	if kube.Is(err, kube.Denied) {
		return nil, fmt.Errorf("nodes that jobs hold are not looked at (kubectl get nodes -l %s=%s shows them), each gives itself back by \"slurmk8s reconcile\" there: %w: %w",
			LabelHeldBy, h.Config.Cluster, duty.ErrHidden, err)
	}
	var objects []duty.Object
	for _, n := range held {
		for _, claim := range n.Claims {
			objects = append(objects, holdOf(n, claim, n.Changed, func(ctx context.Context) error { return driver.dropRun(ctx, n.Name, claim) }))
		}
	}
	return objects, err
}

// Notes tells which nodes this cluster's drains keep closed in Kubernetes, and why.
func (Duty) Notes(ctx context.Context, h duty.Host) ([]string, error) {
	if !h.Config.Nodes.Mirrors() {
		return nil, nil
	}
	driver := driverOf(h)
	nodes, err := driver.nodes().List(ctx, kube.Selection{Labels: LabelHeldBy})
	var notes []string
	for i := range nodes {
		if c := driver.Closure(&nodes[i]); c.Drained {
			notes = append(notes, fmt.Sprintf("node %s is closed in Kubernetes: %s in Slurm", nodes[i].GetName(), c.Why))
		}
	}
	return notes, err
}

func driverOf(h duty.Host) *Driver { return New(h.Kube, &h.Config.Nodes, h.Config.Cluster, h.Log) }

// holdOf is one job's hold on one node. The jobs of a node give it back one after
// another: the last one starts what was stopped for all.
func holdOf(n ClaimedNode, claim Claim, made time.Time, remove func(context.Context) error) duty.Object {
	return duty.Object{Name: "hold of node " + cmp.Or(n.Name, n.SlurmName), JobID: claim.JobID, Made: made, Detail: string(claim.Mode),
		Allocation: true, Node: n.SlurmName, Chain: n.Name + " " + n.SlurmName, Remove: remove}
}

// dropRun drops that run of the job and no later one.
func (b *Driver) dropRun(ctx context.Context, name string, claim Claim) error {
	return b.Release(ctx, name, func(h Claim) bool { return h == claim })
}

// Kubeconfig is the node's own credential.
func (Duty) Kubeconfig(cfg *slurmconf.Config) string { return cfg.Nodes.Kubeconfig }

// ListHere returns the jobs that hold this node, by its object in Kubernetes or by its
// own files: a job that was killed before it had a claim, or refused, is to be seen in
// the files only.
func (Duty) ListHere(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	driver, runDir := driverOf(h), h.Config.Services.RunDir
	local := ClaimFilesIn(runDir)
	held, err := driver.ClaimsOn(ctx, h.Node)
	var wrong *WrongNodeError
	if errors.As(err, &wrong) { // the files are to be seen all the same
		h.Log.Warn(err)
	} else if err != nil {
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
	add := func(claim Claim) {
		since := held.Changed // after a boot, which empties run_dir
		if at := slices.IndexFunc(files, func(f hostfile.File) bool { return f.ID == claim.JobID }); at >= 0 {
			since = files[at].Made
		}
		objects = append(objects, holdOf(held, claim, since, func(ctx context.Context) error {
			return driver.giveBackHere(ctx, local, runDir, held.Name, claim)
		}))
	}
	for _, claim := range held.Claims {
		add(claim)
	}
	for _, f := range files {
		if slices.ContainsFunc(objects, func(o duty.Object) bool { return o.JobID == f.ID }) {
			continue
		}
		claim := Claim{Cluster: driver.Cluster, JobID: f.ID}
		if note, err := local.Get(f.ID); err != nil {
			h.Log.Warn(err)
		} else if note != nil {
			claim = note.Claim
		}
		add(claim)
	}
	return objects, nil
}

// giveBackHere does what the job's epilog could not. A later run of the job may begin
// here at this moment.
func (b *Driver) giveBackHere(ctx context.Context, local ClaimFiles, runDir, name string, claim Claim) error {
	if err := b.GiveBack(ctx, local, claim.JobID, claim.Restarts); err != nil {
		return err
	}
	if name != "" {
		if err := b.dropRun(ctx, name, claim); err != nil {
			return err
		}
	}
	return Unrefuse(runDir, claim.JobID)
}
