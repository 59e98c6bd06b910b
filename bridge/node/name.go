package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// WrongNodeError is a node_name that contradicts the kubelet's credential, which can
// change one node only.
type WrongNodeError struct{ SlurmNode, Name, Rule, Kubelet string }

func (e *WrongNodeError) Error() string {
	return fmt.Sprintf("nodes.node_name = %q says that Slurm's node %s is Kubernetes's node %s, but nodes.kubeconfig is the credential of node %s: correct node_name",
		e.Rule, e.SlurmNode, e.Name, e.Kubelet)
}

// Name returns the Kubernetes name of a Slurm node; "" if by the configuration it is not
// a Kubernetes node. With a kubelet's credential any other node than its own is a
// *WrongNodeError.
func (b *Driver) Name(ctx context.Context, slurmNode string) (string, error) {
	name, err := b.mappedName(ctx, slurmNode)
	if own := b.Kube.Kubelet(); err == nil && name != "" && own != "" && name != own {
		return "", &WrongNodeError{SlurmNode: slurmNode, Name: name, Rule: b.Cfg.NodeName, Kubelet: own}
	}
	return name, err
}

// mappedName is what nodes.node_name makes of a name.
func (b *Driver) mappedName(ctx context.Context, slurmNode string) (string, error) {
	rule := b.Cfg.NodeName
	if suffix, ok := strings.CutPrefix(rule, slurmconf.NodeNameSuffix); ok {
		return strings.ToLower(slurmNode) + suffix, nil
	}
	if path, ok := strings.CutPrefix(rule, slurmconf.NodeNameMap); ok {
		return mapped(path, slurmNode)
	}
	if key, ok := strings.CutPrefix(rule, slurmconf.NodeNameLabel); ok {
		return b.labelled(ctx, key, slurmNode)
	}
	return strings.ToLower(slurmNode), nil // as the kubelet does with a host's name
}

// maxMapBytes bounds a map file: some 100,000 nodes.
const maxMapBytes = 16 << 20

// pair is a line of a map file.
type pair struct{ slurm, kubernetes string }

// mapped looks a node up in a map file.
func mapped(path, slurmNode string) (string, error) {
	pairs, err := readMap(path)
	if at := slices.IndexFunc(pairs, func(p pair) bool { return p.slurm == slurmNode }); at >= 0 {
		return pairs[at].kubernetes, nil
	}
	return "", err
}

// readMap reads a map file: "NODENAME KUBERNETESNAME" a line, # begins a comment.
func readMap(path string) ([]pair, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("node_name: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("node_name: %s is not a file that only root can write: run \"chown root %s; chmod go-w %s\"", path, path, path)
	}
	if info.Size() > maxMapBytes {
		return nil, fmt.Errorf("node_name: %s is larger than %d MiB", path, maxMapBytes>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node_name: %w", err)
	}
	var pairs []pair
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case len(words) != 2:
			return nil, fmt.Errorf("node_name: %s:%d: want NODENAME KUBERNETESNAME", path, number)
		default:
			pairs = append(pairs, pair{words[0], words[1]})
		}
	}
	return pairs, nil
}

// Pair finds the Node of each Slurm node among all Nodes, without a request. A machine that
// is not one Node and one Slurm node is left out: odd says which, and why.
func (b *Driver) Pair(slurmNodes []string, nodes []unstructured.Unstructured) (pairs map[string]*unstructured.Unstructured, odd []string, err error) {
	key := func(n *unstructured.Unstructured) string { return n.GetName() }
	name := strings.ToLower
	if suffix, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameSuffix); ok {
		name = func(slurm string) string { return strings.ToLower(slurm) + suffix }
	} else if label, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameLabel); ok {
		key = func(n *unstructured.Unstructured) string { return n.GetLabels()[label] }
		name = func(slurm string) string { return slurm }
	} else if path, ok := strings.CutPrefix(b.Cfg.NodeName, slurmconf.NodeNameMap); ok {
		lines, err := readMap(path)
		if err != nil {
			return nil, nil, err
		}
		names := map[string]string{}
		for _, line := range slices.Backward(lines) { // the first one counts, as in mapped
			names[line.slurm] = line.kubernetes
		}
		name = func(slurm string) string { return names[slurm] }
	}
	byKey := map[string][]*unstructured.Unstructured{}
	for i := range nodes {
		if k := key(&nodes[i]); k != "" {
			byKey[k] = append(byKey[k], &nodes[i])
		}
	}
	pairs, claimants := map[string]*unstructured.Unstructured{}, map[string][]string{}
	for _, slurm := range slices.Sorted(slices.Values(slurmNodes)) {
		switch found := byKey[name(slurm)]; len(found) {
		case 0:
		case 1:
			pairs[slurm] = found[0]
			claimants[found[0].GetName()] = append(claimants[found[0].GetName()], slurm)
		default:
			odd = append(odd, fmt.Sprintf("%d Kubernetes nodes are Slurm's node %s: %s and others", len(found), slurm, found[0].GetName()))
		}
	}
	for _, node := range slices.Sorted(maps.Keys(claimants)) {
		if of := claimants[node]; len(of) > 1 {
			odd = append(odd, fmt.Sprintf("Kubernetes node %s is %d Slurm nodes: %s and others", node, len(of), of[0]))
			for _, slurm := range of {
				delete(pairs, slurm)
			}
		}
	}
	return pairs, odd, nil
}

// labelled finds the node with a label. The kubelet's credential may not list nodes:
// then it is its own one, if that has the label.
func (b *Driver) labelled(ctx context.Context, key, slurmNode string) (string, error) {
	found, err := b.nodes().List(ctx, kube.Selection{Labels: labels.Set{key: slurmNode}.String()})
	if kube.Is(err, kube.Denied) {
		return b.ownName(ctx, key, slurmNode)
	}
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", fmt.Errorf("nodes %s and %s both have the label %s=%s: remove it from one of them",
			found[0].GetName(), found[1].GetName(), key, slurmNode)
	}
	return found[0].GetName(), nil
}

func (b *Driver) ownName(ctx context.Context, key, slurmNode string) (string, error) {
	own := b.Kube.Kubelet()
	if own == "" {
		return "", fmt.Errorf("the credential of nodes.kubeconfig may not list nodes, which node_name = %q needs: give it that right", b.Cfg.NodeName)
	}
	node, err := b.nodes().Get(ctx, own)
	if err != nil || node == nil || node.GetLabels()[key] != slurmNode {
		return "", err
	}
	return own, nil
}
