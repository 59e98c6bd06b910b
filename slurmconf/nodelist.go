package slurmconf

import (
	"fmt"
	"strings"
)

// Node is a node as slurm.conf lists it.
type Node struct {
	Name     string
	Host     string // NodeHostname, else Name
	Addr     string // host name or address: NodeAddr, else NodeHostname, else Name
	Features []string
}

// Nodes are the nodes of slurm.conf, in its order. An error (one line) says that
// the file could not be read as a whole; the nodes are those that were.
func Nodes(slurmConf string) ([]Node, error) {
	p := newSlurmFile(slurmConf)
	p.read(slurmConf, 0)
	var nodes []Node
	defaults := map[string]string{}
	for _, line := range p.nodes {
		if strings.EqualFold(line["nodename"], "DEFAULT") {
			for key, value := range line {
				defaults[key] = value
			}
			continue
		}
		names, err := ExpandHostlist(line["nodename"])
		if err != nil {
			continue // Slurm judges its own file
		}
		for i, name := range names {
			nodes = append(nodes, Node{
				Name:     name,
				Host:     hostOf(name, i, line, defaults, "nodehostname"),
				Addr:     hostOf(name, i, line, defaults, "nodeaddr", "nodehostname"),
				Features: featuresOf(line, defaults),
			})
		}
	}
	return nodes, p.err
}

// hostOf is what the first of these keys that is set says of the i-th name of a NodeName
// line; the name itself if none is.
func hostOf(name string, i int, line, defaults map[string]string, keys ...string) string {
	for _, key := range keys {
		list := line[key]
		if list == "" {
			list = defaults[key]
		}
		// As many as names, in their order, or one for all: several slurmd on a host.
		values, err := expandAddresses(list)
		switch {
		case err == nil && i < len(values):
			return values[i]
		case err == nil && len(values) == 1:
			return values[0]
		}
	}
	return name
}

// NamePairs reads a file with a pair of names on each line, "NODENAME OTHERNAME"; "#" begins a
// comment. No name may be in two pairs.
func NamePairs(path string) ([][2]string, error) {
	data, err := readRegular(path, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	var pairs [][2]string
	first, second := map[string]bool{}, map[string]bool{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		text, _, _ := strings.Cut(line, "#")
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
			continue
		case len(words) != 2:
			return nil, fmt.Errorf("%s:%d: want two names, found %d", path, number, len(words))
		case first[words[0]] || second[words[1]]:
			return nil, fmt.Errorf("%s:%d: %s %s: one of the names is given twice", path, number, words[0], words[1])
		}
		first[words[0]], second[words[1]] = true, true
		pairs = append(pairs, [2]string{words[0], words[1]})
	}
	return pairs, nil
}

// featuresOf are the features of a NodeName line.
func featuresOf(line, defaults map[string]string) []string {
	for _, from := range []map[string]string{line, defaults} {
		for _, key := range []string{"feature", "features"} {
			if text := from[key]; text != "" {
				return strings.Split(text, ",")
			}
		}
	}
	return nil
}
