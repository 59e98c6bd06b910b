package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

func TestScancelBeforeTheJobRuns(t *testing.T) {
	leaveOutIfShort(t)
	for _, state := range []string{dwssim.Proposal, dwssim.Setup, dwssim.DataIn, dwssim.PreRun} {
		for how, options := range map[string][]string{"": nil, " --hurry": {"--hurry"}} {
			t.Run("waiting in "+state+how, func(t *testing.T) {
				parallel(t)
				j := submit(t, script{directives: []string{state + " action=wait"}, body: "echo RAN"})
				j.reaches(state)
				j.scancel(options...)
				j.ends("CANCELLED")
				j.goneOrReconciled()
			})
		}
	}
}

func TestScancelOfARunningJob(t *testing.T) {
	leaveOutIfShort(t)
	for how, options := range map[string][]string{"plain": nil, "--hurry": {"--hurry"}} {
		t.Run(how, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{"PostRun action=complete"}, body: "exec sleep 600"})
			j.comes("RUNNING")
			j.scancel(options...)
			j.ends("CANCELLED")
			j.gone()
		})
	}
}

// The job has run, so its data are saved all the same; --hurry is what skips that.
func TestScancelAfterTheJobRanLeavesStageOutAlone(t *testing.T) {
	leaveOutIfShort(t)
	for _, state := range []string{dwssim.PostRun, dwssim.DataOut} {
		t.Run("waiting in "+state, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{state + " action=wait"}})
			j.reaches(state)
			as(t, user, "scancel", j.number())
			j.complete(state)
			j.ends("COMPLETED")
			j.gone()
		})
	}
}

func TestScancelHurryAfterTheJobRanSkipsStageOut(t *testing.T) {
	leaveOutIfShort(t)
	for _, state := range []string{dwssim.PostRun, dwssim.DataOut} {
		t.Run("waiting in "+state, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{state + " action=wait", "Teardown action=wait"}})
			j.reaches(state)
			j.scancel("--hurry")
			w := j.reaches(dwssim.Teardown)
			require.True(t, w.Spec.Hurry, "DWS is not told to hurry")
			j.complete(dwssim.Teardown)
			j.gone()
			j.ends("COMPLETED")
		})
	}
}

// Teardown is what scancel would ask for: it goes on.
func TestScancelDuringTeardown(t *testing.T) {
	leaveOutIfShort(t)
	for how, options := range map[string][]string{"plain": nil, "--hurry": {"--hurry"}} {
		t.Run(how, func(t *testing.T) {
			parallel(t)
			j := submit(t, script{directives: []string{"Teardown action=wait"}})
			j.reaches(dwssim.Teardown)
			as(t, user, append(append([]string{"scancel"}, options...), j.number())...)
			j.complete(dwssim.Teardown)
			j.gone()
			j.ends("COMPLETED")
		})
	}
}
