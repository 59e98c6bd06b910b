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

// HeldNode is a node that jobs of this cluster hold.
type HeldNode struct {
	Name      string // what Kubernetes calls it
	SlurmName string // "" when the configuration does not tell
	Holders   []Holder
	// Changed is when we last changed the Node object; no holder is younger.
	Changed time.Time
}

// Held lists the nodes that are held.
func (b *Bridge) Held(ctx context.Context) ([]HeldNode, error) {
	nodes, err := b.nodes().List(ctx, kube.Selection{Labels: labels.Set{LabelHeldBy: b.Cluster}.String()})
	if err != nil {
		return nil, err
	}
	var held []HeldNode
	for i := range nodes {
		if h := b.held(&nodes[i]); len(h.Holders) > 0 {
			held = append(held, h)
		}
	}
	return held, nil
}

// HeldHere reads who holds one node, by its name in Slurm; its own Name is "" when
// Kubernetes has no such node.
func (b *Bridge) HeldHere(ctx context.Context, slurmNode string) (HeldNode, error) {
	unknown := HeldNode{SlurmName: slurmNode}
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

func (b *Bridge) held(node *unstructured.Unstructured) HeldNode {
	h := HeldNode{Name: node.GetName(), SlurmName: b.slurmName(node), Changed: changed(node)}
	for _, holder := range readRecord(node).holders {
		if holder.Cluster == b.Cluster {
			h.Holders = append(h.Holders, holder)
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
func (b *Bridge) slurmName(node *unstructured.Unstructured) string {
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
