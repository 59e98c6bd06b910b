package workflow

import (
	"context"
	"fmt"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// names translate between a node's NodeName in Slurm and its name in DWS, which is that of
// SystemConfiguration. A name that is in neither map is the same in both.
type names struct {
	ofSlurm map[string]string // DWS's name by Slurm's
	ofDWS   map[string]string // Slurm's name by DWS's
}

// readNames reads them as workflows.compute_names says.
func readNames(cfg *slurmconf.Config) (*names, error) {
	n := &names{map[string]string{}, map[string]string{}}
	switch how := cfg.Workflows.ComputeNames; how {
	case slurmconf.ComputeNamesNode, "":
		return n, nil
	case slurmconf.ComputeNamesHostname:
		nodes, err := slurmconf.Nodes(cfg.SlurmConf)
		for _, node := range nodes {
			n.add(node.Name, node.Host)
		}
		if err != nil {
			return nil, fmt.Errorf("names of nodes in DWS (workflows.compute_names): %w", err)
		}
	default:
		pairs, err := slurmconf.NamePairs(how)
		if err != nil {
			return nil, fmt.Errorf("workflows.compute_names: %w", err)
		}
		for _, pair := range pairs {
			n.add(pair[0], pair[1])
		}
	}
	return n, nil
}

func (n *names) add(slurm, dws string) {
	n.ofSlurm[slurm], n.ofDWS[dws] = dws, slurm
}

// dws are the names in DWS of Slurm's nodes, slurm those in Slurm of DWS's nodes.
func (n *names) dws(nodes []string) []string   { return mapped(n.ofSlurm, nodes) }
func (n *names) slurm(nodes []string) []string { return mapped(n.ofDWS, nodes) }

func mapped(names map[string]string, nodes []string) []string {
	if len(names) == 0 {
		return nodes
	}
	all := make([]string, len(nodes))
	for i, node := range nodes {
		if name, there := names[node]; there {
			node = name
		}
		all[i] = node
	}
	return all
}

// statesOf asks Slurm for the states of nodes, which are given and returned by DWS's names. A
// node that Slurm does not know is not in the answer: so Slurm is asked for all nodes, since it
// refuses to answer for names of which it does not know one.
func (d *Driver) statesOf(ctx context.Context, nodes []string) (map[string]slurm.NodeRecord, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	states, err := d.slurm().NodeRecords(ctx)
	if err != nil {
		return nil, err
	}
	byDWS := make(map[string]slurm.NodeRecord, len(nodes))
	for i, name := range names.slurm(nodes) {
		if state, known := states[name]; known {
			byDWS[nodes[i]] = state
		}
	}
	return byDWS, nil
}

// comma joins names for a command or a message.
func comma(names []string) string { return strings.Join(names, ", ") }
