package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// killSlurmctld kills it as a crash would; the container's entrypoint starts it again.
func killSlurmctld(t *testing.T) {
	t.Helper()
	answered := prober.Excuse()
	defer answered()
	// By its pid file, and only when that names it.
	admin(t, "bash", "-c", `pid=$(cat /run/slurm/slurmctld.pid) && [ "$(cat /proc/$pid/comm)" = slurmctld ] && kill -KILL "$pid"`)
	eventually.True(t, "slurmctld is back (docker logs "+cluster.Slurmctld+")", func() bool {
		result, err := cluster.As(deadline(t, patience), "root", "", "sinfo", "--noheader")
		return err == nil && result.Status == 0
	})
}

// stopDaemon is shell that ends a daemon by its pid file, if that names it. The container's
// entrypoint starts it again. After "scontrol reconfigure" newer ones have run themselves again, by
// the name that Debian gives the file: slurmd-wlm.
const stopDaemon = `pid=$(cat /run/slurm/%[1]s.pid); grep -qxE '%[1]s(-wlm)?' "/proc/$pid/comm"; kill -TERM "$pid"; while [ -e "/proc/$pid" ]; do sleep 0.1; done; `

// isSaved waits until slurmctld has written the job down as it is now, which it does some seconds after
// a change. One that is killed knows nothing else when it is back.
func (j *job) isSaved() {
	j.t.Helper()
	comment := fmt.Sprintf("saved at %d", time.Now().UnixNano())
	admin(j.t, "scontrol", "update", "JobId="+j.number(), "Comment="+comment)
	eventually.True(j.t, "slurmctld has written down job "+j.number(), func() bool {
		return as(j.t, "root", "grep", "-q", comment, "/var/spool/slurm/state/job_state").Status == 0
	})
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

	// These go on at once, and what goes on has its hook's minute.
	for _, state := range dwssim.States {
		if !stagesIn(state) {
			w := waiting[state].reaches(state)
			require.Equal(t, uids[state], string(w.UID), "the Workflow in %s was made again", state)
			waiting[state].complete(state)
		}
	}
	// Of these, Slurm does not know how far the stage-in was: it ends the buffer, waits a minute
	// and begins again.
	for _, state := range dwssim.States {
		if stagesIn(state) {
			j := waiting[state]
			j.awaitWorkflow("to be made again", func(w *workflow) bool { return string(w.UID) != uids[state] })
			j.reaches(state)
			j.complete(state)
		}
	}
	for _, j := range waiting {
		j.ends("COMPLETED")
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

// Jobs so young that Slurm has not written down their buffers, nor all the jobs themselves:
// whatever it makes of them, they can be cancelled, and reconcile or cleanup leaves nothing.
// Not for jobs that have run: Slurm would have them stage out for ever, without a hook.
func TestSlurmctldKilledRightAfterSubmission(t *testing.T) {
	alone(t)
	var young []*job
	for _, state := range []string{dwssim.Proposal, dwssim.Setup, dwssim.DataIn, dwssim.PreRun} {
		j := submit(t, script{directives: []string{state + " action=wait"}})
		j.mayBeLost = true
		j.reaches(state)
		young = append(young, j)
	}
	killSlurmctld(t)
	for _, j := range young {
		_, _ = cluster.As(deadline(t, patience), "root", "", "scancel", "--hurry", j.number()) // it may be unknown
	}
	time.Sleep(5 * time.Second)
	for _, j := range young {
		seen := jobs.Get(j.id)
		t.Logf("job %d: state %q, buffer %q", j.id, seen.State(), seen["BurstBufferState"])
		if seen.State() == "" {
			// Slurm's counter of job ids may have forgotten the job as well. Then reconcile
			// touches nothing, and says what the administrator is to do:
			as(t, "slurm", "/opt/slurmk8s/bin/slurmk8s", "cleanup", "--force", "--limit=20s", j.number())
		}
	}
	// It decides nothing in the first minute of a slurmctld.
	eventually.True(t, "reconcile removes what the jobs left", func() bool {
		reconcile(t)
		return !slices.ContainsFunc(young, func(j *job) bool {
			found, err := j.read(deadline(t, patience))
			require.NoError(t, err)
			return found != nil
		})
	})
}
