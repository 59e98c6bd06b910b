package slurmconf

import (
	"net/netip"
	"path/filepath"
	"strings"
)

// NodeAddr returns the host name or address under which slurm.conf reaches a node:
// its NodeAddr, else its NodeHostname, else the name itself, as for a node that
// slurm.conf does not list. An error (one line) says that the file could not be
// read as a whole; the answer is the best there is then.
func NodeAddr(slurmConf, node string) (string, error) {
	p := &slurmFile{dir: filepath.Dir(slurmConf), values: map[string]string{}, bytes: maxSlurmFileBytes}
	p.read(slurmConf, 0)
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
			if name != node {
				continue
			}
			for _, key := range []string{"nodeaddr", "nodehostname"} {
				list := line[key]
				if list == "" {
					list = defaults[key]
				}
				if _, err := netip.ParseAddr(list); err == nil {
					return list, p.err // no hostlist has the colons of IPv6
				}
				// As many as names, in their order.
				if values, err := ExpandHostlist(list); err == nil && i < len(values) {
					return values[i], p.err
				}
			}
			return node, p.err
		}
	}
	return node, p.err
}
