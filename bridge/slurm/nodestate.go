package slurm

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// NodeState is what Slurm says of a node.
type NodeState struct {
	Flags  []string // state and flags in lower case: "down", "not_responding", "drain"
	Reason string   // why it is drained or down; "": no reason
}

// Dead reports whether nothing runs on the node any more, as far as Slurm knows: it is DOWN, or
// switched off and not on its way back. Slurm marks a node DOWN if it has not answered for
// SlurmdTimeout.
func (s NodeState) Dead() bool {
	return s.is("down") || s.is("powered_down") && !s.is("power_up") && !s.is("powering_up")
}

// Off reports whether the machine is off, or on its way there or back.
func (s NodeState) Off() bool {
	return s.is("powered_down") || s.is("powering_down") || s.is("powering_up")
}

// Drained reports whether no new job gets the node.
func (s NodeState) Drained() bool { return s.is("drain") }

func (s NodeState) is(flag string) bool { return slices.Contains(s.Flags, flag) }

// namedNodes is how many nodes are named on a command line; if there are more, Slurm is asked
// for all nodes.
const namedNodes = 1000

// NodeStates asks for the states of nodes. A node that Slurm does not know is not in the
// answer.
func (c Commands) NodeStates(ctx context.Context, nodes []string) (map[string]NodeState, error) {
	args := []string{"--noheader", "--all", "--Node", "--Format=NodeList:300 ,StateComplete:300 ,Reason:500 "}
	if len(nodes) <= namedNodes {
		args = append(args, "--nodes="+strings.Join(nodes, ","))
	}
	out, err := c.run(ctx, "sinfo", args...)
	if err != nil {
		return nil, err
	}
	states := map[string]NodeState{}
	for line := range strings.Lines(out) { // a line for each partition that a node is in
		words := strings.Fields(line)
		if len(words) < 2 {
			return nil, fmt.Errorf("sinfo: cannot read %q", strings.TrimSpace(line))
		}
		reason := strings.Join(words[2:], " ")
		if reason == "none" {
			reason = ""
		}
		// "*" marks a node that does not respond.
		flags := strings.Split(strings.ReplaceAll(strings.ToLower(words[1]), "*", ""), "+")
		states[words[0]] = NodeState{flags, reason}
	}
	return states, nil
}

// Drain lets no new job run on nodes.
func (c Commands) Drain(ctx context.Context, nodes []string, reason string) error {
	_, err := c.run(ctx, "scontrol", "update", "NodeName="+strings.Join(nodes, ","), "State=DRAIN", "Reason="+reason)
	return err
}

// Undrain takes that back.
func (c Commands) Undrain(ctx context.Context, nodes []string) error {
	_, err := c.run(ctx, "scontrol", "update", "NodeName="+strings.Join(nodes, ","), "State=UNDRAIN")
	return err
}
