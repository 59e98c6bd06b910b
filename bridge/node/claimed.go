package node

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// ClaimedNode is a node that jobs of this cluster hold.
type ClaimedNode struct {
	Name      string // what Kubernetes calls it
	SlurmName string // "" when the configuration does not tell
	Claims    []Claim
	// Changed is when we last changed the Node object; no claim is younger.
	Changed time.Time
}

// Claimed lists the nodes that are held.
func (b *Driver) Claimed(ctx context.Context) ([]ClaimedNode, error) {
	nodes, err := b.nodes().List(ctx, kube.Selection{Labels: labels.Set{LabelHeldBy: b.Cluster}.String()})
	if err != nil {
		return nil, err
	}
	var held []ClaimedNode
	for i := range nodes {
		if h := b.held(&nodes[i]); len(h.Claims) > 0 {
			held = append(held, h)
		}
	}
	return held, nil
}

// ClaimsOn reads who holds one node, by its name in Slurm; its own Name is "" when
// Kubernetes has no such node.
func (b *Driver) ClaimsOn(ctx context.Context, slurmNode string) (ClaimedNode, error) {
	unknown := ClaimedNode{SlurmName: slurmNode}
	name, err := b.Name(ctx, slurmNode)
	if err != nil || name == "" {
		return unknown, err
	}
	node, err := b.nodes().Get(ctx, name)
	if err != nil || node == nil {
		return unknown, err
	}
	h := b.held(node)
	h.SlurmName = slurmNode
	return h, nil
}

func (b *Driver) held(node *unstructured.Unstructured) ClaimedNode {
	h := ClaimedNode{Name: node.GetName(), SlurmName: b.slurmName(node), Changed: changed(node)}
	for _, claim := range readRecord(node).claims {
		if claim.Cluster == b.Cluster {
			h.Claims = append(h.Claims, claim)
		}
	}
	return h
}

func changed(node *unstructured.Unstructured) (last time.Time) {
	for _, entry := range node.GetManagedFields() {
		if entry.Manager == kube.FieldManager && entry.Time != nil && entry.Time.After(last) {
			last = entry.Time.Time
		}
	}
	return last
}

// slurmName is Name the other way round, as far as that is possible.
func (b *Driver) slurmName(node *unstructured.Unstructured) string {
	name := node.GetName()
	if suffix, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameSuffix); ok {
		return strings.TrimSuffix(name, suffix)
	}
	if key, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameLabel); ok {
		return node.GetLabels()[key]
	}
	if path, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameMap); ok {
		pairs, err := readMap(path)
		if err != nil {
			b.Log.Warn(err)
		}
		if at := slices.IndexFunc(pairs, func(p pair) bool { return p.kubernetes == name }); at >= 0 {
			return pairs[at].slurm
		}
		return ""
	}
	return name
}
