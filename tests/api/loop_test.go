package api

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changes is how many changes were asked of Kubernetes so far.
func (s *site) changes() int { return strings.Count(s.log(), "audit: ") }

// A user who requeues and cancels in a tight loop costs the same each time, and leaves
// nothing: neither Workflows nor files.
func TestRequeueAndCancelInATightLoopLeaveNothing(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Setup action=complete")
	first := 0
	for run := range 20 {
		before := s.changes()
		restart := fmt.Sprintf("RESTART_COUNT=%d", run)
		j.ok("job_process", "DEADLINE_MS=30000", restart)
		j.ok("setup", restart)
		if run%2 == 0 { // or cancelled later
			j.ok("data_in", restart)
			j.ok("test_data_in", restart)
		}
		j.ok("job_teardown", "HURRY=true", restart)
		require.Empty(t, s.names(), "run %d", run)
		if run < 2 {
			first = max(first, s.changes()-before)
		}
		require.LessOrEqual(t, s.changes()-before, first+2, "run %d asks for more than the first", run)
	}
	require.Positive(t, first)
	assert.LessOrEqual(t, len(s.files()), 3, "%v", s.files())
}

// Of a job that is cancelled while it is pending Slurm tells nobody.
func TestSubmissionsInATightLoopLeaveNothing(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	for range 100 {
		s.job("#DW Setup action=complete").ok("job_process", "DEADLINE_MS=30000")
	}
	assert.Empty(t, s.names())
	assert.Zero(t, s.changes(), "only dry runs")
	assert.LessOrEqual(t, len(s.files()), 66, "the scripts that were accepted last: %v", s.files())
}

// files are those in the state directory.
func (s *site) files() []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.path("state"))
	require.NoError(s.t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
