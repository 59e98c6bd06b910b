package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// killSlurmctld kills it as a crash would; the container's entrypoint starts it again.
func killSlurmctld(t *testing.T) {
	t.Helper()
	answered := prober.Excuse(0, "slurmctld was killed")
	defer answered()
	// By its pid file, and only when that names it.
	admin(t, "bash", "-c", `pid=$(cat /run/slurm/slurmctld.pid) && [ "$(cat /proc/$pid/comm)" = slurmctld ] && kill -KILL "$pid"`)
	require.Eventually(t, func() bool {
		result, err := bed.As(deadline(t, patience), "root", "", "sinfo", "--noheader")
		return err == nil && result.Status == 0
	}, patience, lookAgain, "slurmctld does not come back: docker logs %s", bed.Slurmctld)
}

// Slurm writes down which jobs have a buffer every 30 s only (AGENT_INTERVAL): what it knows
// when it comes back depends on how old the jobs are.
func TestSlurmctldKilledWhileJobsWait(t *testing.T) {
	alone(t)
	waiting := submitWaiting(t)
	uids := map[string]string{}
	for state, j := range waiting {
		uids[state] = string(j.reaches(state).UID)
	}
	time.Sleep(35 * time.Second)
	killSlurmctld(t)

	for _, state := range dwssim.States {
		j := waiting[state]
		if stagesIn(state) {
			// Slurm does not know how far the stage-in was: it ends the buffer, waits a
			// minute and begins anew.
			j.workflowWithin(patienceAfterRestart, "to be made anew", func(w *workflow) bool { return string(w.UID) != uids[state] })
		}
		w := j.reachesWithin(patienceAfterRestart, state)
		if !stagesIn(state) {
			require.Equal(t, uids[state], string(w.UID), "the Workflow of %s was made anew", state)
		}
		j.complete(state)
	}
	for _, j := range waiting {
		j.endsWithin(patienceAfterRestart, "COMPLETED")
		j.gone()
	}
}

func stagesIn(state string) bool {
	return state == dwssim.Proposal || state == dwssim.Setup || state == dwssim.DataIn
}

// submitWaiting submits a job for each state, which waits in it.
func submitWaiting(t *testing.T) map[string]*job {
	t.Helper()
	waiting := map[string]*job{}
	for _, state := range dwssim.States {
		waiting[state] = submit(t, script{directives: []string{state + " action=wait"}})
	}
	return waiting
}

// Jobs so young that Slurm may not have written them down, nor that they have a buffer: whatever
// it makes of them, they can be cancelled, and one reconcile later nothing is left.
func TestSlurmctldKilledRightAfterSubmission(t *testing.T) {
	alone(t)
	waiting := submitWaiting(t)
	for state, j := range waiting {
		j.mayBeLost = true
		j.reaches(state)
	}
	killSlurmctld(t)
	for state, j := range waiting {
		_, _ = bed.As(deadline(t, patience), "root", "", "scancel", "--hurry", j.number())
		// A job that has run is not cancelled, and one in Teardown neither.
		if !stagesIn(state) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_ = dwssim.Complete(ctx, bed.Kube, bed.Namespace, j.workflow, state)
			cancel()
		}
	}
	time.Sleep(5 * time.Second)
	var over []*job
	for state, j := range waiting {
		seen := jobs.Get(j.id)
		t.Logf("%s: job %d: %s, buffer %s", state, j.id, seen.State(), seen["BurstBufferState"])
		over = append(over, j)
	}
	t.Log(reconcile(t).Stdout)
	for _, j := range over {
		j.gone()
	}
}
