package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// patience bounds a test that would otherwise hang.
const patience = 30 * time.Second

func newDriver(t *testing.T, s *kubetest.Workflows, change func(*slurmconf.Config)) *Driver {
	t.Helper()
	cfg := slurmconf.Default()
	cfg.Cluster = "hpc"
	if change != nil {
		change(cfg)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	log := logrus.NewEntry(logger)
	client, err := kube.New(kube.Options{
		Kubeconfig: s.Kubeconfig(), RequestTimeout: cfg.Kubernetes.RequestTimeout.Std(), UserAgent: "test", Log: log,
	})
	require.NoError(t, err)
	d, err := New(t.Context(), cfg, client, log)
	require.NoError(t, err)
	return d
}

var job = &Job{ID: 12, UID: 1000, GID: 1000}

// is makes the Workflow be in a state; spec and status are overwritten field by field.
func is(desired, state State, ready bool, status string) func(kubetest.Object) kubetest.Object {
	return func(o kubetest.Object) kubetest.Object {
		if o == nil {
			o = kubetest.Object{
				"apiVersion": kubetest.Group + "/" + kubetest.Version, "kind": "Workflow",
				"metadata": kubetest.Object{
					"name": "bb12", "namespace": "slurm", "uid": "u1",
					"labels": kubetest.Object{LabelManagedBy: ManagedBy, LabelCluster: "hpc", LabelJobID: "12"},
				},
			}
		}
		kubetest.Part(o, "spec")["desiredState"] = string(desired)
		st := kubetest.Part(o, "status")
		st["state"], st["ready"], st["status"] = string(state), ready, status
		return o
	}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// whenWatched does things one after the other, each when a watch is open.
func whenWatched(t *testing.T, s *kubetest.Workflows, things ...func()) {
	go func() {
		for _, thing := range things {
			for s.Watches() == 0 {
				if t.Context().Err() != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
			thing()
		}
	}()
}

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
	_, err := d.Await(bounded(t), job, Setup)
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
	require.NoError(t, d.Request(bounded(t), job, Setup))
	assert.Equal(t, 1, s.Count("PATCH", "bb12"))
}

func TestAwaitEndsWith(t *testing.T) {
	tests := []struct {
		name string
		then func(s *kubetest.Workflows)
		want string
	}{
		{"deleted", func(s *kubetest.Workflows) { s.Change(func(kubetest.Object) kubetest.Object { return nil }) },
			"workflow slurm/bb12 does not exist any more: somebody deleted it"},
		{"made anew", func(s *kubetest.Workflows) {
			s.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "u2"; return o })
		}, "was deleted and made anew by somebody"},
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
			_, err := d.Await(bounded(t), job, Setup)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAnErrorOfTheFormerStateIsNotTakenForOneOfTheNew(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataIn, Setup, true, "Error")) // DWS has not taken DataIn up yet
	d := newDriver(t, s, nil)
	whenWatched(t, s, func() { s.Change(is(DataIn, DataIn, true, "Completed")) })
	_, err := d.Await(bounded(t), job, DataIn)
	require.NoError(t, err)
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
	_, err := d.Teardown(bounded(t), job)
	require.ErrorContains(t, err, "could not find the requested resource")
	_, err = d.Await(bounded(t), job, Setup)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "somebody deleted it")
	assert.NotNil(t, s.Current())
}

func TestAStatesTimeoutCountsFromWhenItWasAskedFor(t *testing.T) {
	tests := []struct {
		name  string
		since string
		want  string
	}{
		{"long over", time.Now().Add(-time.Hour).Format(time.RFC3339), "Setup not done after 10m0s: "},
		{"not yet", time.Now().Add(-time.Minute).Format(time.RFC3339), ""},
		{"damaged: begins now", "yesterday", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object {
				o = is(Setup, Setup, false, "DriverWait")(o)
				kubetest.Part(kubetest.Meta(o), "annotations")[annotationStateSince] = tt.since
				return o
			})
			d := newDriver(t, s, func(c *slurmconf.Config) { c.Workflows.Timeouts.Setup = slurmconf.Duration(10 * time.Minute) })
			if tt.want == "" {
				whenWatched(t, s, func() { s.Change(is(Setup, Setup, true, "Completed")) })
				_, err := d.Await(bounded(t), job, Setup)
				require.NoError(t, err)
				return
			}
			_, err := d.Await(bounded(t), job, Setup)
			require.ErrorContains(t, err, tt.want)
			assert.False(t, errors.Is(err, context.DeadlineExceeded), "no hook is to try again: it is over")
		})
	}
}

func TestTransientCondition(t *testing.T) {
	transient := func(since time.Time) func(kubetest.Object) kubetest.Object {
		return func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "TransientCondition")(o)
			kubetest.Part(o, "status")["message"] = "node is away"
			if !since.IsZero() {
				kubetest.Part(kubetest.Meta(o), "annotations")[annotationTransientSince] = since.UTC().Format(time.RFC3339)
			}
			return o
		}
	}
	t.Run("within its grace it is waited for, and its begin is kept", func(t *testing.T) {
		s := kubetest.NewWorkflows(t)
		s.Change(transient(time.Time{}))
		d := newDriver(t, s, nil)
		whenWatched(t, s, func() {
			noted := s.Current()
			assert.NotEmpty(t, kubetest.Part(kubetest.Meta(noted), "annotations")[annotationTransientSince])
			s.Change(is(Setup, Setup, false, "DriverWait"))
		})
		// The note is taken away when the condition is over: it must not count for the next one.
		go func() {
			for t.Context().Err() == nil {
				if o := s.Current(); kubetest.Part(o, "status")["status"] == "DriverWait" && kubetest.Part(kubetest.Meta(o), "annotations")[annotationTransientSince] == nil {
					s.Change(is(Setup, Setup, true, "Completed"))
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		_, err := d.Await(bounded(t), job, Setup)
		require.NoError(t, err)
	})
	t.Run("its grace may have begun in an earlier hook", func(t *testing.T) {
		s := kubetest.NewWorkflows(t)
		s.Change(transient(time.Now().Add(-time.Hour)))
		_, err := newDriver(t, s, nil).Await(bounded(t), job, Setup)
		var driver *DriverError
		require.ErrorAs(t, err, &driver)
		assert.Contains(t, err.Error(), "node is away")
	})
	t.Run("without grace it fails at once", func(t *testing.T) {
		s := kubetest.NewWorkflows(t)
		s.Change(transient(time.Time{}))
		_, err := newDriver(t, s, func(c *slurmconf.Config) { c.Workflows.TransientGrace = 0 }).Await(bounded(t), job, Setup)
		require.ErrorContains(t, err, "node is away")
	})
}

func TestTheHooksDeadlineIsToldWithWhatDWSSays(t *testing.T) {
	tests := []struct {
		name string
		is   func(kubetest.Object) kubetest.Object
		want string
	}{
		{"DWS is away", is(Setup, Proposal, true, "Completed"), "DWS has not taken it up (workflow slurm/bb12 still in Proposal: is the DWS controller running?)"},
		{"DWS's message", func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "DriverWait")(o)
			kubetest.Part(o, "status")["message"] = "3 of 4 done"
			return o
		}, "Setup not done when the hook's time was over: 3 of 4 done"},
		{"the directive that is worked on", func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "DriverWait")(o)
			kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW a", "#DW b"}
			kubetest.Part(o, "status")["drivers"] = []any{
				kubetest.Object{"dwdIndex": 0, "watchState": "Setup", "status": "Completed"},
				kubetest.Object{"dwdIndex": 1, "watchState": "Setup", "status": "Running"}}
			return o
		}, "DWS still works on #DW b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(tt.is)
			d := newDriver(t, s, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := d.Await(ctx, job, Setup)
			require.ErrorContains(t, err, tt.want)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

func TestPollReadsTheWorkflowHoweverShortTheWait(t *testing.T) {
	none := func(c *slurmconf.Config) { c.Workflows.BusyWait = 0 }
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataIn, DataIn, false, "DriverWait"))
	_, err := newDriver(t, s, none).Poll(bounded(t), job, DataIn)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	s.Change(is(DataIn, DataIn, true, "Completed"))
	_, err = newDriver(t, s, none).Poll(bounded(t), job, DataIn)
	require.NoError(t, err)
}

func TestDisposeLeavesAWorkflowThatWasMadeAnew(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, true, "Completed"))
	d := newDriver(t, s, nil)
	left, err := d.get(t.Context(), "bb12")
	require.NoError(t, err)
	s.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "u2"; return o })
	require.NoError(t, d.dispose(bounded(t), left, true))
	// A patch bears the uid that was read, so that the server refuses it.
	assert.Zero(t, s.Count("DELETE", ""))
	assert.Equal(t, "Setup", kubetest.Part(s.Current(), "spec")["desiredState"])
}

func TestEveryChangeNamesTheUIDItIsMeantFor(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataOut, DataOut, true, "Completed"))
	d := newDriver(t, s, nil)
	whenWatched(t, s, func() { s.Change(is(Teardown, Teardown, true, "Completed")) })
	_, err := d.Teardown(bounded(t), &Job{ID: 12, Hurry: true})
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

func TestAStateThatAnotherHookMovedOnIsNotSetBack(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(is(Setup, Setup, false, "DriverWait"))
	d := newDriver(t, s, nil)
	// This hook wants PreRun and waits for Setup first; another one goes straight on to PreRun.
	whenWatched(t, s, func() { s.Change(is(PreRun, PreRun, true, "Completed")) })
	_, err := d.Await(bounded(t), job, PreRun)
	require.NoError(t, err)
	assert.Zero(t, s.Count("PATCH", ""))
}

func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	for name, change := range map[string]func(labels kubetest.Object){
		"without labels":          func(l kubetest.Object) { clear(l) },
		"another cluster's":       func(l kubetest.Object) { l[LabelCluster] = "other" },
		"managed by another tool": func(l kubetest.Object) { l[LabelManagedBy] = "flux" },
	} {
		t.Run(name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object {
				o = is(Setup, Setup, true, "Completed")(o)
				change(kubetest.Part(kubetest.Meta(o), "labels"))
				return o
			})
			d := newDriver(t, s, nil)
			before := s.Current()
			_, err := d.Setup(bounded(t), job, []string{"#DW a"})
			require.ErrorContains(t, err, "was not made by slurmk8s for cluster hpc; it was left alone")
			_, err = d.Await(bounded(t), job, DataIn)
			require.ErrorContains(t, err, "it was left alone")
			_, err = d.Teardown(bounded(t), job)
			require.NoError(t, err)
			_, err = d.Status(bounded(t), job, 0, true)
			require.ErrorContains(t, err, "has no workflow")
			assert.Equal(t, before, s.Current())
			for _, method := range []string{"PATCH", "POST", "DELETE", "PUT"} {
				assert.Zero(t, s.Count(method, ""), method)
			}
		})
	}
}

func TestSetupMakesAnewWhatIsOfAnotherRun(t *testing.T) {
	directives := []string{"#DW a"}
	same := func(o kubetest.Object) kubetest.Object {
		o = is(Setup, Setup, true, "Completed")(o)
		kubetest.Part(o, "spec")["userID"] = 1000
		kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW a"}
		annotations := kubetest.Part(kubetest.Meta(o), "annotations")
		annotations[annotationRestart], annotations[annotationSubmitTime] = "0", "100"
		return o
	}
	this := &Job{ID: 12, UID: 1000, Restarts: "0", SubmitTime: "100"}
	tests := []struct {
		name   string
		job    Job
		change func(o kubetest.Object)
		anew   bool
	}{
		{"the same run again", *this, func(kubetest.Object) {}, false},
		{"22.05 tells neither restarts nor time", Job{ID: 12, UID: 1000}, func(kubetest.Object) {}, false},
		{"requeued", Job{ID: 12, UID: 1000, Restarts: "1", SubmitTime: "100"}, func(kubetest.Object) {}, true},
		{"the id was used again", Job{ID: 12, UID: 1000, Restarts: "0", SubmitTime: "200"}, func(kubetest.Object) {}, true},
		{"another owner", *this, func(o kubetest.Object) { kubetest.Part(o, "spec")["userID"] = 1001 }, true},
		{"other directives", *this, func(o kubetest.Object) { kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW b"} }, true},
		{"further than setup ever brings it", *this, func(o kubetest.Object) { is(PreRun, PreRun, true, "Completed")(o) }, true},
		{"in Teardown", *this, func(o kubetest.Object) { is(Teardown, Teardown, true, "Completed")(o) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object { o = same(o); tt.change(o); return o })
			// A DWS that is done at once.
			s.Before = func(http.ResponseWriter, *http.Request) bool {
				if o := s.Current(); o != nil && kubetest.Part(o, "status")["state"] != kubetest.Part(o, "spec")["desiredState"] {
					want := State(kubetest.Part(o, "spec")["desiredState"].(string))
					s.Change(is(want, want, true, "Completed"))
				}
				return false
			}
			_, err := newDriver(t, s, nil).Setup(bounded(t), &tt.job, directives)
			require.NoError(t, err)
			assert.Equal(t, tt.anew, kubetest.Meta(s.Current())["uid"] != "u1")
			assert.Equal(t, "Setup", kubetest.Part(s.Current(), "spec")["desiredState"])
		})
	}
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
	_, err := newDriver(t, s, nil).Await(bounded(t), job, Setup)
	require.NoError(t, err)
}
