package slurmconf

// NodeAddr returns the host name or address under which slurm.conf reaches a node:
// its NodeAddr, else its NodeHostname, else the name itself, as for a node that
// slurm.conf does not list. An error (one line) says that the file could not be
// read as a whole; the answer is the best there is then.
func NodeAddr(slurmConf, node string) (string, error) {
	nodes, err := Nodes(slurmConf)
	for _, n := range nodes {
		if n.Name == node {
			return n.Addr, err
		}
	}
	return node, err
}
