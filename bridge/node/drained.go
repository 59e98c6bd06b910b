package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// drainHolder ends the entry of AnnotationHolders of a Slurm cluster that lets no job
// start on the node: "alps=drain". A version that does not know it keeps the node closed.
const drainHolder = "=drain"

// Closure is who keeps a Node closed to new pods.
type Closure struct {
	Cordoned  bool   // by somebody else
	Reclaimed bool   // a job has it to itself
	Drained   bool   // this cluster drains its Slurm node
	Why       string // then: what Drain was told
	Other     bool   // then: Why is another cluster's, which drains its node too
	Undone    bool   // it is not as its holders need it: somebody has opened it
}

// Closure reads who keeps a Node closed.
func (b *Driver) Closure(node *unstructured.Unstructured) Closure {
	r := readRecord(node)
	cordoned, _, _ := unstructured.NestedBool(node.Object, "spec", "unschedulable")
	us, others := r.cordonedBy()
	patch, _ := r.patch(r.claims, b.Cfg)
	why, _ := strings.CutPrefix(r.drained, b.Cluster+": ")
	drained := slices.Contains(r.drains, b.Cluster)
	return Closure{
		Cordoned:  cordoned && (others || !us && !r.changed[changedCordon]),
		Reclaimed: slices.ContainsFunc(r.claims, func(h Claim) bool { return h.Mode == Reclaim }),
		Drained:   drained,
		Why:       why,
		Other:     drained && b.drainedFor(r) != b.Cluster,
		Undone:    patch != nil,
	}
}

// drainedFor is the cluster whose reason AnnotationDrained has: this one, unless another one that
// drains its node noted its own first.
func (b *Driver) drainedFor(r *record) string {
	if cluster, _, ok := strings.Cut(r.drained, ": "); ok && slices.Contains(r.drains, cluster) {
		return cluster
	}
	return b.Cluster
}

// Drain closes a Node that was read because this cluster lets no job start there, or notes
// another reason for that: "drained: bad DIMM". The reason of another cluster that drains its
// node stays. It evicts nothing.
func (b *Driver) Drain(ctx context.Context, node *unstructured.Unstructured, why string) error {
	why = b.Cluster + ": " + why
	known, err := b.changeRead(ctx, node, node.GetName(), why, func(r *record) []Claim {
		if b.drainedFor(r) == b.Cluster {
			r.drained = why
		}
		if !slices.Contains(r.drains, b.Cluster) {
			r.drains = append(r.drains, b.Cluster)
		}
		return r.claims
	})
	if err == nil && known {
		b.tellDrain(ctx, node, "DrainedInSlurm", "closed to new pods: Slurm's node of cluster "+why)
	}
	return err
}

// Undrain takes back Drain: the last holder to leave opens the node.
func (b *Driver) Undrain(ctx context.Context, node *unstructured.Unstructured) error {
	known, err := b.changeRead(ctx, node, node.GetName(), "resumed in Slurm", func(r *record) []Claim {
		r.drains = slices.DeleteFunc(r.drains, func(cluster string) bool { return cluster == b.Cluster })
		if len(r.drains) == 0 || strings.HasPrefix(r.drained, b.Cluster+": ") {
			r.drained = ""
		}
		return r.claims
	})
	if err == nil && known {
		b.tellDrain(ctx, node, "ResumedInSlurm", fmt.Sprintf("Slurm cluster %s uses the node again", b.Cluster))
	}
	return err
}

func (b *Driver) tellDrain(ctx context.Context, node *unstructured.Unstructured, reason, text string) {
	kube.NewEvents(b.Kube, node.GetName()).Tell(ctx, nodeObject(node.GetName()), kube.EventNormal, reason, text)
}

// All lists all Nodes, with no more of their status than the conditions: the images of a
// kubelet are most of a Node.
func (b *Driver) All(ctx context.Context) ([]unstructured.Unstructured, error) {
	return b.nodes().List(ctx, kube.Selection{Trim: func(u *unstructured.Unstructured) {
		conditions, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "conditions")
		u.Object["status"] = map[string]any{"conditions": conditions}
	}})
}

// Of reads the Node of one Slurm node; nil if Kubernetes has none.
func (b *Driver) Of(ctx context.Context, slurmNode string) (*unstructured.Unstructured, error) {
	name, err := b.Name(ctx, slurmNode)
	if err != nil || name == "" {
		return nil, err
	}
	return b.nodes().Get(ctx, name)
}
