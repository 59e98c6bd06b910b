package slurm

import (
	"os"
	"strings"
)

// ThisNode is this host's name as a node, in Slurm's words. slurmd tells it to
// HealthCheckProgram in SLURMD_NODENAME.
func ThisNode() string {
	if name := os.Getenv("SLURMD_NODENAME"); name != "" {
		return name
	}
	name, _ := os.Hostname()
	short, _, _ := strings.Cut(name, ".")
	return short
}
