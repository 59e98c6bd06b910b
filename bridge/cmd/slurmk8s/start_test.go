package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Slurm starts the program and loads the library for each hook, and each time all of this is
// done again: an expression that is compiled for a package's variable costs every job.
func TestOurPackagesComputeNextToNothingBeforeMain(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), program, "--version")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	trace, err := cmd.CombinedOutput()
	require.NoError(t, err)

	packages, bytes, allocs := 0, 0, 0
	for line := range strings.Lines(string(trace)) {
		var name string
		var at, clock float64
		var ofBytes, ofAllocs int
		n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &clock, &ofBytes, &ofAllocs)
		if n == 5 && strings.HasPrefix(name, "slurmk8s.io/") {
			packages, bytes, allocs = packages+1, bytes+ofBytes, allocs+ofAllocs
		}
	}
	require.Positive(t, packages, "%s", trace)
	assert.LessOrEqual(t, bytes, 60_000, "bytes:\n%s", trace)
	assert.LessOrEqual(t, allocs, 400, "allocations:\n%s", trace)
}
