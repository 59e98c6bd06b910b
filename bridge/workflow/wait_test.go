package workflow

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

func TestOneWatchServesAllChanges(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Proposal, Proposal, true, "Completed"))
	d := newDriver(t, s, nil)
	var gets int
	whenWatched(t, s,
		func() { gets = s.Count("GET", "/workflows/bb12") },
		func() { s.Change(is(Setup, Setup, false, "DriverWait")) },
		func() { s.Change(is(Setup, Setup, false, "Running")) },
		func() { s.Change(is(Setup, Setup, true, "Completed")) })
	_, err := d.Await(bounded(t), theJob, Setup)
	require.NoError(t, err)
	assert.Equal(t, 1, s.Count("GET", "watch=true"))
	assert.Equal(t, gets, s.Count("GET", "/workflows/bb12"), "after the watch began nothing was read")
	assert.Equal(t, 1, s.Count("GET", "/workflows?"), "but for the watch")
	assert.Equal(t, 1, s.Count("PATCH", "bb12"))
}

// A request at a version that was read before the wait would be refused each time.
func TestTheNextStateIsAskedForAtTheVersionThatTheWaitEndedWith(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Proposal, Proposal, false, "DriverWait"))
	d := newDriver(t, s, nil)
	whenWatched(t, s, func() { s.Change(is(Proposal, Proposal, true, "Completed")) })
	require.NoError(t, d.Request(bounded(t), theJob, Setup))
	assert.Equal(t, 1, s.Count("PATCH", "bb12"))
}

func TestAwaitEndsWith(t *testing.T) {
	tests := []struct {
		name string
		then func(s *kubetest.Workflows)
		want string
	}{
		{"deleted", func(s *kubetest.Workflows) { s.Change(func(kubetest.Object) kubetest.Object { return nil }) },
			"workflow slurm/bb12 no longer exists: somebody deleted it"},
		{"made again", func(s *kubetest.Workflows) {
			s.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "u2"; return o })
		}, "was deleted and created again by somebody else"},
		{"torn down by somebody", func(s *kubetest.Workflows) { s.Change(is(Teardown, Setup, false, "DriverWait")) },
			"is in Teardown and cannot go to Setup: somebody ended it"},
		{"driver error", func(s *kubetest.Workflows) {
			s.Change(func(o kubetest.Object) kubetest.Object {
				o = is(Setup, Setup, false, "Error")(o)
				kubetest.Part(o, "status")["message"] = "DW Directive 0: no space"
				return o
			})
		}, "Setup failed: DW Directive 0: no space"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(is(Setup, Setup, false, "DriverWait"))
			d := newDriver(t, s, nil)
			whenWatched(t, s, func() { tt.then(s) })
			_, err := d.Await(bounded(t), theJob, Setup)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAnErrorOfTheFormerStateIsNotTakenForOneOfTheNew(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataIn, Setup, true, "Error")) // DWS has not taken DataIn up yet
	d := newDriver(t, s, nil)
	whenWatched(t, s, func() { s.Change(is(DataIn, DataIn, true, "Completed")) })
	_, err := d.Await(bounded(t), theJob, DataIn)
	require.NoError(t, err)
}

func TestAStateThatAnotherHookMovedOnIsNotSetBack(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, false, "DriverWait"))
	d := newDriver(t, s, nil)
	// This hook wants PreRun and waits for Setup first; another one goes straight on to PreRun.
	whenWatched(t, s, func() { s.Change(is(PreRun, PreRun, true, "Completed")) })
	_, err := d.Await(bounded(t), theJob, PreRun)
	require.NoError(t, err)
	assert.Zero(t, s.Count("PATCH", ""))
}

func TestAPatchWhoseAnswerIsLostIsNotRepeatedBlindly(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Proposal, Proposal, true, "Completed"))
	var lost atomic.Bool
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && lost.CompareAndSwap(false, true) {
			s.Change(is(Setup, Setup, true, "Completed")) // it was carried out
			panic(http.ErrAbortHandler)
		}
		return false
	}
	_, err := newDriver(t, s, nil).Await(bounded(t), theJob, Setup)
	require.NoError(t, err)
}
