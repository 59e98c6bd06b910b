package testbed

import (
	"context"
	"fmt"
	"strings"
)

// Node is a compute node that is also a Kubernetes worker.
type Node struct {
	Name      string // Slurm's and Kubernetes's
	Container string // of slurmd
}

// nodesOf reads NODE=CONTAINER pairs, separated by commas.
func nodesOf(text string) ([]Node, error) {
	var nodes []Node
	for pair := range strings.SplitSeq(text, ",") {
		name, container, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("E2E_NODES: %q is not NODE=CONTAINER", pair)
		}
		nodes = append(nodes, Node{name, container})
	}
	return nodes, nil
}

// On runs a command of the administrator on a compute node; it must succeed.
func (b *Cluster) On(ctx context.Context, node Node, command ...string) (string, error) {
	return b.Docker(ctx, append([]string{"exec", node.Container}, command...)...)
}

// Node returns the node of a name.
func (b *Cluster) Node(name string) (Node, error) {
	for _, n := range b.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("no node %q in E2E_NODES", name)
}
