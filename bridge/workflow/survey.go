package workflow

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Survey compares Slurm's nodes with those of the provider.
type Survey struct {
	Rabbits []placement.Room
	// Unknown are Slurm's nodes that SystemConfiguration does not have: no job with storage can
	// run there. Missing are nodes of SystemConfiguration that Slurm does not have.
	Unknown, Missing []string
	// Featureless are nodes with storage that do not have workflows.node_feature in slurm.conf.
	Featureless []string

	names *names
}

// TakeSurvey asks DWS; nil if the provider has no servers.
func TakeSurvey(ctx context.Context, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) (*Survey, error) {
	d, err := New(ctx, cfg, client, log)
	if err != nil {
		return nil, err
	}
	topology, err := d.topology(ctx)
	if err != nil || topology == nil || len(topology.Nodes()) == 0 {
		return nil, err
	}
	s := &Survey{Rabbits: topology.Rooms()}
	if s.names, err = d.names(); err != nil {
		return nil, err
	}
	nodes, err := slurmconf.Nodes(cfg.SlurmConf)
	if err != nil {
		return nil, err
	}
	inSlurm := make([]string, len(nodes))
	for i, node := range nodes {
		inSlurm[i] = node.Name
	}
	for i, name := range s.names.dws(inSlurm) {
		if topology.Check([]string{name}) != nil {
			s.Unknown = append(s.Unknown, inSlurm[i])
		} else if f := cfg.Workflows.NodeFeature; f != "" && !slices.Contains(nodes[i].Features, f) {
			s.Featureless = append(s.Featureless, inSlurm[i])
		}
	}
	for _, name := range s.names.slurm(topology.Nodes()) {
		if !slices.Contains(inSlurm, name) {
			s.Missing = append(s.Missing, name)
		}
	}
	return s, nil
}

// PrintNodes writes which feature each node of slurm.conf has to have.
func (s *Survey) PrintNodes(out io.Writer, pattern, nodeFeature string) {
	if pattern == "" {
		pattern = "{rabbit}"
	}
	also, set := "", ""
	if nodeFeature != "" {
		also, set = nodeFeature+",", fmt.Sprintf(" and node_feature = %q", nodeFeature)
	}
	fmt.Fprintf(out, "# Features for slurm.conf, with workflows.rabbit_feature = %q%s in slurmk8s.toml: add each to\n# the NodeName lines of these nodes.\n", pattern, set)
	for _, room := range s.Rabbits {
		if len(room.Nodes) > 0 {
			fmt.Fprintf(out, "NodeName=%s Feature=%s%s\n", strings.Join(s.names.slurm(room.Nodes), ","), also, feature(pattern, room.Rabbit))
		}
	}
}
