package slurm

import (
	"os"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// ThisNode is this host's name as a node, in Slurm's words. slurmd tells it to
// HealthCheckProgram in SLURMD_NODENAME.
func ThisNode(slurmConf string) string {
	name := os.Getenv("SLURMD_NODENAME")
	if name == "" {
		name, _ = os.Hostname()
	}
	return NodeOn(slurmConf, name)
}

// NodeOn is the NodeName of a host, which may be named by its NodeHostname, as slurmd
// finds its own: in cloud sites the two differ. A host of several nodes, and one that
// slurm.conf does not know, keeps its short name.
func NodeOn(slurmConf, host string) string {
	short, _, _ := strings.Cut(host, ".")
	nodes, _ := slurmconf.Nodes(slurmConf)
	found := ""
	for _, n := range nodes {
		if n.Name == host || n.Name == short {
			return n.Name
		}
		if n.Host == host || n.Host == short {
			if found != "" {
				return short
			}
			found = n.Name
		}
	}
	if found != "" {
		return found
	}
	return short
}
