package workflow

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// DWS accepts the next state in place of a Teardown that it has not taken up.
func TestATeardownThatAnotherHookAskedForIsNotReplaced(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	var asked atomic.Bool
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && asked.CompareAndSwap(false, true) {
			s.Change(is(Teardown, Setup, true, "Completed")) // between this hook's read and its patch
		}
		return false
	}
	_, err := newDriver(t, s, nil).Await(bounded(t), theJob, DataIn)
	require.ErrorContains(t, err, "is in Teardown and cannot go to DataIn")
	assert.Equal(t, "Teardown", kubetest.Part(s.Current(), "spec")["desiredState"])
}

func TestAWorkflowWhoseTeardownWasReplacedIsTornDownBeforeItIsDeleted(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	d := newDriver(t, s, nil)
	patches := 0
	s.React = func(o kubetest.Object) kubetest.Object {
		if patches++; patches == 2 {
			return doneAtOnce(o)
		}
		return nil
	}
	var deletedIn atomic.Value
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			deletedIn.Store(kubetest.Part(s.Current(), "status")["state"])
		}
		return false
	}
	whenWatched(t, s, func() { s.Change(is(DataIn, DataIn, false, "DriverWait")) })
	_, err := d.Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.Equal(t, "Teardown", deletedIn.Load())
	assert.Equal(t, 2, s.Count("PATCH", "bb12"), "Teardown is asked for again")
	assert.Nil(t, s.Current())
}

// A provider destroys the instance in Teardown, whatever happened before.
func TestAPersistentInstanceIsDestroyedOnlyForAJobThatRan(t *testing.T) {
	destroy := []any{"#DW destroy_persistent name=data"}
	tests := []struct {
		name       string
		directives []any
		is         func(kubetest.Object) kubetest.Object
		tornDown   bool
	}{
		{"refused in Proposal", destroy, is(Proposal, Proposal, false, "Error"), false},
		{"cancelled in Proposal", destroy, is(Proposal, Proposal, true, "Completed"), false},
		{"not seen by DWS yet", destroy, is(Proposal, "", false, ""), false},
		{"cancelled after staging in", destroy, is(DataIn, DataIn, true, "Completed"), false},
		{"cancelled in PreRun", destroy, is(PreRun, PreRun, false, "DriverWait"), false},
		{"after the job", destroy, is(PostRun, PostRun, true, "Completed"), true},
		{"PostRun is asked for", destroy, is(PostRun, PreRun, true, "Completed"), true},
		{"after staging out", destroy, is(DataOut, DataOut, true, "Completed"), true},
		{"somebody has asked for Teardown", destroy, is(Teardown, Setup, true, "Completed"), true},
		{"another directive that names it", []any{"#DW jobdw name=destroy_persistent"}, is(Setup, Setup, true, "Completed"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object {
				o = tt.is(o)
				kubetest.Part(o, "spec")["dwDirectives"] = tt.directives
				return o
			})
			var deletedIn atomic.Value
			s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
				o := s.Current()
				switch {
				case r.Method == http.MethodDelete:
					deletedIn.Store(kubetest.Part(o, "spec")["desiredState"])
				case o != nil && kubetest.Part(o, "spec")["desiredState"] == "Teardown":
					s.Change(is(Teardown, Teardown, true, "Completed"))
				}
				return false
			}
			_, err := newDriver(t, s, nil).Teardown(bounded(t), theJob)
			require.NoError(t, err)
			assert.Equal(t, tt.tornDown, deletedIn.Load() == "Teardown", "deleted in %v", deletedIn.Load())
			assert.Nil(t, s.Current())
		})
	}
}

// NNF refuses for good to destroy what is another user's or in use. Its Workflow would stay
// in Teardown and be tried by each reconcile; deleted, it leaves the instance.
func TestAPersistentInstanceThatCannotBeDestroyedStaysAndItsWorkflowDoesNot(t *testing.T) {
	for directive, kept := range map[string]string{
		"#DW destroy_persistent name=data": "Teardown failed: DW Directive 0: User error: persistent storage cannot be deleted while in use",
		"#DW jobdw type=xfs":               "",
	} {
		s := kubetest.NewWorkflows(t)
		s.Change(func(o kubetest.Object) kubetest.Object {
			o = is(DataOut, DataOut, true, "Completed")(o)
			kubetest.Part(o, "spec")["dwDirectives"] = []any{directive}
			return o
		})
		s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
			if o := s.Current(); o != nil && r.Method == http.MethodGet && kubetest.Part(o, "spec")["desiredState"] == "Teardown" {
				s.Change(func(o kubetest.Object) kubetest.Object {
					if o != nil && kubetest.Part(o, "status")["status"] != "Error" {
						o = is(Teardown, Teardown, false, "Error")(o)
						kubetest.Part(o, "status")["message"] = "DW Directive 0: User error: persistent storage cannot be deleted while in use"
					}
					return o
				})
			}
			return false
		}
		result, err := newDriver(t, s, nil).Teardown(bounded(t), theJob)
		assert.Equal(t, kept, result.NotDestroyed)
		if kept != "" {
			require.NoError(t, err)
			assert.Nil(t, s.Current())
		} else {
			require.ErrorContains(t, err, "cannot be deleted")
			assert.NotNil(t, s.Current())
		}
	}
}

// What decides is looked at again if the Workflow changed before it was deleted.
func TestAJobThatRanMeanwhileHasItsPersistentInstanceDestroyed(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(func(o kubetest.Object) kubetest.Object {
		o = is(PreRun, PreRun, true, "Completed")(o)
		kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW destroy_persistent name=data"}
		return o
	})
	var deletes atomic.Int32
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		o := s.Current()
		switch {
		case r.Method == http.MethodDelete && deletes.Add(1) == 1:
			s.Change(is(PostRun, PreRun, true, "Completed")) // by the job's other hook
		case r.Method == http.MethodDelete:
			assert.Equal(t, "Teardown", kubetest.Part(o, "status")["state"])
		case o != nil && kubetest.Part(o, "spec")["desiredState"] == "Teardown":
			s.Change(is(Teardown, Teardown, true, "Completed"))
		}
		return false
	}
	_, err := newDriver(t, s, nil).Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.EqualValues(t, 2, deletes.Load())
}

func TestAVersionThatIsNoLongerServedIsNotAWorkflowThatIsGone(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, false, "DriverWait"))
	var dropped atomic.Bool
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if dropped.Load() && strings.Contains(r.URL.Path, "/workflows") {
			http.Error(w, "404 page not found", 404)
			return true
		}
		return false
	}
	d := newDriver(t, s, nil)
	dropped.Store(true)
	_, err := d.Teardown(bounded(t), theJob)
	require.ErrorContains(t, err, "could not find the requested resource")
	_, err = d.Await(bounded(t), theJob, Setup)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "somebody deleted it")
	assert.NotNil(t, s.Current())
}

func TestDisposeLeavesAWorkflowThatWasMadeAnew(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	d := newDriver(t, s, nil)
	left, err := d.get(t.Context(), "bb12")
	require.NoError(t, err)
	s.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "u2"; return o })
	_, err = d.dispose(bounded(t), left, true)
	require.NoError(t, err)
	// A patch bears the uid that was read, so that the server refuses it.
	assert.Zero(t, s.Count("DELETE", ""))
	assert.Equal(t, "Setup", kubetest.Part(s.Current(), "spec")["desiredState"])
}

func TestEveryChangeNamesTheUIDItIsMeantFor(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataOut, DataOut, true, "Completed"))
	d := newDriver(t, s, nil)
	whenWatched(t, s, func() { s.Change(is(Teardown, Teardown, true, "Completed")) })
	_, err := d.Teardown(bounded(t), &Job{Job: job.Job{Cluster: "hpc", ID: 12}, Hurry: true})
	require.NoError(t, err)
	seen := 0
	for _, r := range s.Requests() {
		var body kubetest.Object
		_ = json.Unmarshal([]byte(r.Body), &body)
		switch r.Method {
		case "PATCH":
			assert.Equal(t, "u1", kubetest.Meta(body)["uid"])
			assert.Equal(t, true, kubetest.Part(body, "spec")["hurry"])
			seen++
		case "DELETE":
			assert.Equal(t, "u1", kubetest.Part(body, "preconditions")["uid"])
			seen++
		}
	}
	assert.Equal(t, 2, seen)
}
