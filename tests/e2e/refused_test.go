package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestBadDirectiveIsRefusedAtSubmission(t *testing.T) {
	leaveOutIfShort(t)
	for name, c := range map[string]struct{ directive, says string }{
		"unknown command":  {"nonsense", "invalid directive '#DW nonsense'"},
		"missing argument": {"copy_in source=/a", "missing required argument 'destination'"},
		"wrong value":      {"jobdw type=ext4 capacity=1GB pool=dws name=scratch", "argument 'type' invalid string 'ext4'"},
		"no command":       {"", `"#DW" has no command`},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			refused(t, c.says, func() testbed.Result {
				result, err := sbatch(deadline(t, patience), t, script{directives: []string{c.directive}})
				require.NoError(t, err)
				return result
			})
			require.Empty(t, workflowsWith(t, c.directive))
		})
	}
}

// refused requires that a submission is refused, with words on the user's terminal, once DWS is asked: one
// that comes while the machine is too busy for an answer in time is accepted, and judged when it is staged.
func refused(t *testing.T, says string, submit func() testbed.Result) {
	t.Helper()
	eventually.True(t, "the submission is refused", func() bool {
		before := unasked(t, "")
		result := submit()
		if result.Status != 0 && strings.Contains(result.Stderr, says) {
			return true
		}
		require.Greater(t, unasked(t, ""), before, "DWS was asked: %s%s", result.Stdout, result.Stderr)
		if result.Status == 0 {
			admin(t, "scancel", "--hurry", strings.TrimSpace(result.Stdout))
		}
		awaitJudgement(t)
		return false
	})
}

// workflowsWith returns the Workflows that hold a directive.
func workflowsWith(t *testing.T, directive string) []string {
	t.Helper()
	list, err := cluster.Kube.Resource(dwssim.WorkflowsResource(dwsVersion)).Namespace(cluster.Namespace).
		List(context.Background(), metav1.ListOptions{})
	require.NoError(t, err)
	var found []string
	for i := range list.Items {
		w, err := dwssim.FromUnstructured(&list.Items[i])
		require.NoError(t, err)
		for _, d := range w.Spec.DWDirectives {
			if strings.TrimSpace(d) == strings.TrimSpace("#DW "+directive) {
				found = append(found, w.Name)
			}
		}
	}
	return found
}

// Slurm calls no hook for a job that is cancelled while its storage is not staged: nothing may
// exist by then.
func TestJobCancelledBeforeStagingLeavesNothing(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{"Setup action=complete"}, options: []string{"--begin=now+1hour"}})
	found, err := j.read(deadline(t, patience))
	require.NoError(t, err)
	require.Nil(t, found, "a Workflow exists before Slurm stages the job")
	j.scancel()
	j.ends("CANCELLED")
}
