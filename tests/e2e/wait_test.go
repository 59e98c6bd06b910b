package e2e

import (
	"testing"
	"time"

	"slurmk8s.io/slurmk8s/tests/eventually"
)

const (
	patience = eventually.Patience
	// lookAgain is the time between two looks where nothing tells of a change.
	lookAgain = 300 * time.Millisecond
)

// exists tells whether slurmctld's host, or the home that all hosts share, has a file.
func exists(t *testing.T, file string) bool {
	t.Helper()
	return as(t, "root", "test", "-e", file).Status == 0
}
