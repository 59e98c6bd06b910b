package node

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// events tell the owners of pods and the administrators of nodes which job it was.
type events struct {
	*kube.Events
	node  string
	claim Claim
}

func (b *Driver) events(node string, h Claim) *events {
	return &events{kube.NewEvents(b.Kube, node), node, h}
}

func (e *events) job() string {
	return fmt.Sprintf("Slurm job %d of cluster %s", e.claim.JobID, e.claim.Cluster)
}

func (e *events) evicted(ctx context.Context, p pod) {
	e.Tell(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		kube.EventNormal, "ReclaimedBySlurm", fmt.Sprintf("evicted: %s reclaims node %s", e.job(), e.node))
}

func (e *events) taken(ctx context.Context) {
	e.Tell(ctx, nodeObject(e.node), kube.EventNormal, "ReclaimedBySlurm", "closed to new pods: reclaimed by "+e.job())
}

// nodeObject is a Node as the kubelet's Events have it: its own name is its UID.
func nodeObject(name string) kube.Object {
	return kube.Object{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}
}
