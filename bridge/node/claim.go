package node

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Claim enters a job's claim on a node, and closes or marks the node for it.
// known is false when Kubernetes has no such node.
func (b *Driver) Claim(ctx context.Context, name string, h Claim) (known bool, err error) {
	return b.change(ctx, name, "held by job "+h.String(), func(r *record) []Claim { return r.with(h) })
}

// Release removes claims from a node; removing the last one restores the node. A missing
// node or claim is not an error.
func (b *Driver) Release(ctx context.Context, name string, gone func(Claim) bool) error {
	_, err := b.change(ctx, name, "given back", func(r *record) []Claim {
		return r.without(func(h Claim) bool { return h.Cluster == b.Cluster && gone(h) })
	})
	return err
}

// RunOf selects this run of a job and earlier ones.
func RunOf(job, restarts uint32) func(Claim) bool {
	return func(h Claim) bool { return h.JobID == job && h.Restarts <= restarts }
}

// change reads the Node and patches what is not as it has to be, again when somebody
// else changed it in between.
func (b *Driver) change(ctx context.Context, name, did string, claims func(*record) []Claim) (known bool, err error) {
	return b.changeRead(ctx, nil, name, did, claims)
}

// changeRead is change of a Node that was read already; nil if it was not.
func (b *Driver) changeRead(ctx context.Context, node *unstructured.Unstructured, name, did string, claims func(*record) []Claim) (known bool, err error) {
	var pauses kube.Pauses
	for ; ; node = nil {
		if node == nil {
			if node, err = b.nodes().Get(ctx, name); err != nil || node == nil {
				return false, err
			}
		}
		r := readRecord(node)
		patch, err := r.patch(claims(r), b.Cfg)
		if err != nil || patch == nil {
			return true, err
		}
		_, err = b.nodes().Patch(ctx, name, patch)
		switch {
		case err == nil:
			b.Log.WithField("node", name).WithField("object_uid", string(node.GetUID())).Infof("node %s: %s: %s", name, did, patch)
			return true, nil
		case kube.Is(err, kube.NotFound):
			return false, nil
		case !kube.Is(err, kube.Conflict) || pauses.Wait(ctx) != nil:
			return true, err
		}
	}
}

func (b *Driver) nodes() *kube.Objects { return b.Kube.Objects(Nodes, "") }
