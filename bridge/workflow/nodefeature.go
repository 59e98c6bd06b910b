package workflow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// With workflows.health = "feature" a node whose rabbit is not well loses the feature that jobs
// with storage of their nodes ask for (workflows.node_feature): all other jobs still run there.
// What we have taken, and what we left of the node's features, is kept in state_dir. It is given
// back only where that is still what the node has: else a person has changed it.

// taken is what a node has lost.
type taken struct {
	feature string
	left    []string // its features after that
}

func (f Files) takenPath() string { return filepath.Join(string(f), "node-features") }

// taken are the nodes that have lost a feature, by Slurm's names.
func (f Files) taken() (map[string]taken, error) {
	text, err := hostfile.Read(f.takenPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("features taken from nodes: %w", err)
	}
	nodes := map[string]taken{}
	for line := range strings.Lines(text) {
		if words := strings.Split(strings.TrimSuffix(line, "\n"), " "); len(words) == 3 {
			nodes[words[0]] = taken{words[1], strings.FieldsFunc(words[2], func(r rune) bool { return r == ',' })}
		}
	}
	return nodes, nil
}

func (f Files) writeTaken(nodes map[string]taken) error {
	if len(nodes) == 0 {
		return hostfile.Remove(f.takenPath())
	}
	var text strings.Builder
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		fmt.Fprintf(&text, "%s %s %s\n", node, nodes[node].feature, strings.Join(nodes[node].left, ","))
	}
	if err := hostfile.Write(f.takenPath(), text.String(), 0o600); err != nil {
		return fmt.Errorf("keep the features taken from nodes: %w", err)
	}
	return nil
}

// moveFeatures takes the feature from nodes that are ill, if workflows.health says so, and gives
// it back to those that are well again, whatever it says now. What is taken is kept before that
// is done: where it is not done after all, the node has more than we left, and keeps it.
//
// A person who gives the feature to a node that is ill loses it again: the restart of slurmctld,
// which begins with the features of slurm.conf, looks the same.
func (d *Driver) moveFeatures(ctx context.Context, h health, files Files, kept map[string]taken) error {
	feature := d.cfg.Workflows.NodeFeature
	wanted := d.cfg.Workflows.Health == slurmconf.HealthFeature
	well := h.well
	var failed []error
	var toTake []illNode
	for _, node := range h.ill {
		if !wanted {
			well = append(well, node.NodeRecord)
		} else if slices.Contains(node.Features, feature) {
			toTake = append(toTake, node)
		}
	}
	if err := h.tooMany("loses its feature"); len(toTake) > 0 && err != nil {
		failed, toTake = append(failed, err), nil
	}
	changes := map[string][]string{} // by the features that the nodes are to have
	change := func(node string, features []string) {
		list := strings.Join(features, ",")
		changes[list] = append(changes[list], node)
	}
	back := map[string]bool{}
	for _, node := range well {
		was, ours := kept[node.Name]
		if !ours {
			continue
		}
		back[node.Name] = true
		if !sameFeatures(node.Features, was.left) {
			d.log.Infof("%s may have %s again, and its features are not those that it was left with: they stay", node.Name, was.feature)
			continue
		}
		d.log.Infof("giving %s the feature %s back", node.Name, was.feature)
		change(node.Name, append(slices.Clone(node.Features), was.feature))
	}
	for _, node := range toTake {
		d.log.Warnf("taking feature %s from %s: %s", feature, node.Name, node.fault)
		left := slices.DeleteFunc(slices.Clone(node.Features), func(f string) bool { return f == feature })
		kept[node.Name] = taken{feature, left}
		change(node.Name, left)
	}
	if len(toTake) > 0 {
		if err := files.writeTaken(kept); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	for _, list := range slices.Sorted(maps.Keys(changes)) {
		if err := d.slurm().SetActiveFeatures(ctx, changes[list], strings.FieldsFunc(list, func(r rune) bool { return r == ',' })); err != nil {
			failed = append(failed, err)
			for _, node := range changes[list] {
				delete(back, node) // given back another time
			}
		}
	}
	if len(back) > 0 {
		maps.DeleteFunc(kept, func(node string, _ taken) bool { return back[node] })
		failed = append(failed, files.writeTaken(kept))
	}
	return errors.Join(failed...)
}

func sameFeatures(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// askStorage makes Slurm give a job only nodes that have the feature, if there is one: the
// storage of such a job is on the rabbits of its nodes.
func (d *Driver) askStorage(ctx context.Context, id uint32, wish slurm.Wish) error {
	if d.cfg.Workflows.NodeFeature == "" || len(wish.Required) > 0 {
		return nil
	}
	_, err := d.ask(ctx, id, wish, d.withStorage)
	return err
}

// withStorage adds the feature of nodes that have storage to a job's constraint; ok is false if
// the two cannot be put together.
func (d *Driver) withStorage(own string) (constraint string, ok bool) {
	feature := d.cfg.Workflows.NodeFeature
	switch {
	case feature == "":
		return own, true
	case strings.ContainsAny(own, "[]()*|"):
		return "", false
	case own == "":
		return feature, true
	case slices.Contains(strings.Split(own, "&"), feature):
		return own, true
	}
	constraint = own + "&" + feature
	return constraint, len(constraint) <= maxFeatures
}
