package slurmconf

import (
	"net/netip"
	"strings"
)

// Node is a node as slurm.conf lists it.
type Node struct {
	Name string
	Addr string // host name or address: NodeAddr, else NodeHostname, else Name
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
			nodes = append(nodes, Node{Name: name, Addr: addressOf(name, i, line, defaults)})
		}
	}
	return nodes, p.err
}

// addressOf is the address of the i-th name of a NodeName line.
func addressOf(name string, i int, line, defaults map[string]string) string {
	for _, key := range []string{"nodeaddr", "nodehostname"} {
		list := line[key]
		if list == "" {
			list = defaults[key]
		}
		if _, err := netip.ParseAddr(list); err == nil {
			return list // no hostlist has the colons of IPv6
		}
		// As many as names, in their order.
		if values, err := ExpandHostlist(list); err == nil && i < len(values) {
			return values[i]
		}
	}
	return name
}
