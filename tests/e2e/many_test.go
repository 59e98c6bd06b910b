package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestEachTaskOfAnArrayHasItsOwnWorkflow(t *testing.T) {
	parallel(t)
	const size = 20
	result, err := sbatch(deadline(t, patience), t, script{
		directives: []string{"Setup action=complete"},
		body:       "env | grep ^DW_WORKFLOW_NAME=",
		options:    []string{fmt.Sprintf("--array=1-%d", size), "--output=array-%A.%a.out"},
	})
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	first := adopt(t, parseID(t, result.Stdout))

	// Slurm gives each task a job id of its own when it looks at it.
	ofArray := func(seen testbed.Job) bool { return seen["ArrayJobId"] == first.number() && isOver(seen.State()) }
	eventually.Equal(t, size, func() int { return len(jobs.Find(ofArray)) }, "tasks of array job %s that are over", first.number())
	var names []string
	for id, seen := range jobs.Find(ofArray) {
		require.Equal(t, "COMPLETED", seen.State())
		if id != first.id {
			adopt(t, id)
		}
		out := admin(t, "cat", fmt.Sprintf("/home/%s/array-%s.%s.out", user, first.number(), seen["ArrayTaskId"]))
		require.Equal(t, fmt.Sprintf("DW_WORKFLOW_NAME=bb%d", id), strings.TrimSpace(out))
		names = append(names, out)
	}
	require.Len(t, names, size)
}

// submitMany hands a script to sbatch many times.
func submitMany(t *testing.T, count int, s script) (all []*job) {
	t.Helper()
	loop := fmt.Sprintf("script=$(cat); for i in $(seq %d); do sbatch --parsable --job-name=many <<<\"$script\" || exit; done", count)
	result, err := cluster.As(deadline(t, patience), user, s.text(), "bash", "-c", loop)
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	for line := range strings.Lines(result.Stdout) {
		all = append(all, adopt(t, parseID(t, line)))
	}
	require.Len(t, all, count)
	return all
}

func TestFiftyJobsAtOnce(t *testing.T) {
	alone(t)
	const count = 50
	began := time.Now()
	all := submitMany(t, count, script{directives: waitNowhere(), body: "env | grep ^DW_WORKFLOW_NAME="})
	t.Logf("%d submissions took %v", count, time.Since(began).Round(time.Millisecond))
	for _, j := range all {
		j.ends("COMPLETED")
	}
	t.Logf("%d jobs took %v", count, time.Since(began).Round(time.Millisecond))
	require.Equal(t, "DW_WORKFLOW_NAME="+all[count-1].workflow, strings.TrimSpace(all[count-1].output()))
}
