package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const (
	errorArguments = " action=error message=TEST_FATAL_ERROR severity=Fatal"
	errorText      = "TEST FATAL ERROR"
)

func TestFatalErrorBeforeTheJobRunsCancelsIt(t *testing.T) {
	leaveOutIfShort(t)
	for _, state := range []string{dwssim.Proposal, dwssim.Setup, dwssim.DataIn, dwssim.PreRun} {
		t.Run(state, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{state + errorArguments}, body: "echo RAN"})
			j.ends("CANCELLED")
			j.says(errorText)
			j.goneOrReconciled()
			out := as(t, "root", "cat", "/home/"+user+"/slurm-"+j.number()+".out")
			require.NotContains(t, out.Stdout, "RAN", "the job ran without its storage")
		})
	}
}

func TestFatalErrorAfterTheJobIsReportedAndTheJobIsCompleted(t *testing.T) {
	leaveOutIfShort(t)
	for _, state := range []string{dwssim.PostRun, dwssim.DataOut} {
		t.Run(state, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{state + errorArguments}})
			j.says(errorText)
			j.ends("COMPLETED")
			j.gone()
		})
	}
}

// The Workflow's end needs somebody who fixes what the driver complains of. Slurm calls
// teardown three times, 10 s apart.
func TestFatalErrorInTeardownIsMendedBySlurmsRetry(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{dwssim.Teardown + errorArguments}})
	j.says(errorText)
	j.complete(dwssim.Teardown)
	j.gone()
	j.ends("COMPLETED")
}

func TestFatalErrorInTeardownIsMendedByReconcile(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{dwssim.Teardown + errorArguments}})
	j.says(errorText)
	// Slurm gives up after three times: no hook of its own is left for the job.
	j.awaitBuffer("complete")
	j.ends("COMPLETED")
	found, err := j.read(deadline(t, patience))
	require.NoError(t, err)
	require.NotNil(t, found, "the Workflow was deleted though its driver did not finish Teardown")
	j.complete(dwssim.Teardown)
	reconcile(t)
	j.gone()
}

// A driver's TransientCondition has workflows.transient_grace (8 s in the test cluster) to recover.
func TestTransientConditionIsToleratedForAWhile(t *testing.T) {
	leaveOutIfShort(t)
	t.Run("recovers", func(t *testing.T) {
		parallel(t)
		j := submit(t, script{directives: []string{dwssim.Setup + " action=error message=busy severity=Major delay=4s"}})
		j.ends("COMPLETED")
	})
	t.Run("lasts", func(t *testing.T) {
		parallel(t)
		j := submit(t, script{directives: []string{dwssim.DataIn + " action=error message=TEST_FATAL_ERROR severity=Major"}})
		j.says(errorText)
		j.ends("CANCELLED")
	})
}
