package workflow

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/api/fakeapi"
)

// DWS accepts the next state in place of a Teardown that it has not taken up.
func TestATeardownThatAnotherHookAskedForIsNotReplaced(t *testing.T) {
	s := fakeapi.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	var asked atomic.Bool
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && asked.CompareAndSwap(false, true) {
			s.Change(is(Teardown, Setup, true, "Completed")) // between this hook's read and its patch
		}
		return false
	}
	_, err := newDriver(t, s, nil).Await(bounded(t), job, DataIn)
	require.ErrorContains(t, err, "is in Teardown and cannot go to DataIn")
	assert.Equal(t, "Teardown", fakeapi.Part(s.Current(), "spec")["desiredState"])
}

func TestAWorkflowWhoseTeardownWasReplacedIsTornDownBeforeItIsDeleted(t *testing.T) {
	s := fakeapi.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	d := newDriver(t, s, nil)
	var patches atomic.Int32
	var deletedIn atomic.Value
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPatch:
			patches.Add(1)
		case r.Method == http.MethodDelete:
			deletedIn.Store(fakeapi.Part(s.Current(), "status")["state"])
		case patches.CompareAndSwap(2, 3): // the watch for the second one
			s.Change(is(Teardown, Teardown, true, "Completed"))
		}
		return false
	}
	whenWatched(t, s, func() { s.Change(is(DataIn, DataIn, false, "DriverWait")) })
	_, err := d.Teardown(bounded(t), job)
	require.NoError(t, err)
	assert.Equal(t, "Teardown", deletedIn.Load())
	assert.Equal(t, 2, s.Count("PATCH", "bb12"), "Teardown is asked for again")
	assert.Nil(t, s.Current())
}
