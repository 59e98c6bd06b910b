package slurm

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// NodeRecord is all that slurmctld says of what a node does, and why: "State=MIXED+DRAIN",
// "Reason=bad DIMM".
type NodeRecord struct {
	Name string
	// Base is what it does: IDLE, ALLOCATED, MIXED, DOWN, ERROR, FUTURE or UNKNOWN.
	Base   string
	Flags  []string // DRAIN, FAIL, COMPLETING, MAINTENANCE, NOT_RESPONDING, ...
	Reason string   // without who gave it and when; "" if none
	// Features are those that jobs can ask for now (ActiveFeatures).
	Features []string
}

// Has reports whether the node has a flag.
func (n NodeRecord) Has(flag string) bool { return slices.Contains(n.Flags, flag) }

// Known reports whether slurmctld knows what the node does. It does not before the node
// has registered for the first time.
func (n NodeRecord) Known() bool { return n.Base != "" && n.Base != "UNKNOWN" && n.Base != "FUTURE" }

// Drain reports whether the node takes no new job, by an administrator's or a program's
// order. Jobs may run on it: see Busy.
func (n NodeRecord) Drain() bool { return n.Has("DRAIN") }

// Down reports whether the node does nothing. It may also have an order to drain.
func (n NodeRecord) Down() bool { return n.Base == "DOWN" || n.Base == "ERROR" }

// Dead reports whether nothing runs on the node any more, as far as Slurm knows: it is DOWN, or
// switched off and not on its way back. Slurm marks a node DOWN if it has not answered for
// SlurmdTimeout.
func (n NodeRecord) Dead() bool {
	return n.Base == "DOWN" || n.Has("POWERED_DOWN") && !n.Has("POWER_UP") && !n.Has("POWERING_UP")
}

// Busy reports whether a job runs on the node, or is not gone from it.
func (n NodeRecord) Busy() bool {
	return n.Base == "ALLOCATED" || n.Base == "MIXED" || n.Has("COMPLETING")
}

// Powered reports whether Slurm has the machine off, or on its way there or back.
func (n NodeRecord) Powered() bool {
	return n.Has("POWERED_DOWN") || n.Has("POWERING_DOWN") || n.Has("POWERING_UP")
}

// NodeRecords returns the records of these nodes; without names, of all nodes, those of
// hidden partitions and of none included. An error means that nothing is known.
func (c Commands) NodeRecords(ctx context.Context, names ...string) (map[string]NodeRecord, error) {
	args := []string{"--all", "show", "node"}
	if len(names) > 0 {
		args = append(args, strings.Join(names, ","))
	}
	out, err := c.run(ctx, "scontrol", args...)
	if err != nil {
		return nil, err
	}
	states := map[string]NodeRecord{}
	for record := range strings.SplitSeq(out, "\n\n") {
		if strings.TrimSpace(record) == "" {
			continue
		}
		state, err := parseNodeRecord(record)
		if err != nil {
			return nil, err
		}
		states[state.Name] = state
	}
	for _, name := range names {
		if _, there := states[name]; !there {
			return nil, fmt.Errorf("scontrol show node: no node %s in the answer", name)
		}
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

// SetActiveFeatures replaces the features of nodes that jobs can ask for. Slurm takes only those
// that the nodes have in slurm.conf.
func (c Commands) SetActiveFeatures(ctx context.Context, nodes, features []string) error {
	_, err := c.run(ctx, "scontrol", "update", "NodeName="+strings.Join(nodes, ","), "ActiveFeatures="+strings.Join(features, ","))
	return err
}

// parseNodeRecord reads a record of "scontrol show node" (slurm_sprint_node_table() of
// node_info.c, 22.05 to 26.05). It has a line for each text that a person can write:
// --oneliner has Reason, Comment and Extra in one, where each can imitate the next.
func parseNodeRecord(record string) (n NodeRecord, err error) {
	name, there := strings.CutPrefix(strings.TrimLeft(record, "\n"), "NodeName=")
	if !there {
		return n, fmt.Errorf("scontrol show node: cannot read %q", firstLine(record))
	}
	n.Name, _, _ = strings.Cut(name, " ")
	reasons, inReason := 0, false
	for line := range strings.Lines(record) {
		text, field := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "   ")
		switch {
		case field && inReason && strings.HasPrefix(text, "       "): // its next line
			n.Reason += " " + strings.TrimSpace(text)
			continue
		case field && n.Base == "" && strings.HasPrefix(text, "ActiveFeatures="):
			if list := known(text[len("ActiveFeatures="):]); list != "" {
				n.Features = strings.Split(list, ",")
			}
		case field && n.Base == "" && strings.HasPrefix(text, "State="):
			word, _, _ := strings.Cut(text[len("State="):], " ")
			flags := strings.Split(word, "+")
			n.Base, n.Flags = strings.TrimRight(flags[0], "*~#!%$@^-"), flags[1:]
		case field && strings.HasPrefix(text, "Reason="):
			n.Reason = text[len("Reason="):]
			if at := strings.LastIndex(n.Reason, " ["); at >= 0 && strings.HasSuffix(n.Reason, "]") {
				n.Reason = n.Reason[:at] // who, and when
			}
			reasons++
			inReason = true
			continue
		}
		inReason = false
	}
	switch {
	case n.Base == "":
		return n, fmt.Errorf("scontrol show node: no State of node %s in the answer", n.Name)
	case reasons > 1: // a comment of several lines: which one it is cannot be told
		n.Reason = "(unreadable)"
	}
	return n, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
