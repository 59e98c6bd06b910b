package dwssim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// settle carries plans out until there is nothing to do now. The webhook has a say in every
// write, as in the API server.
func settle(t *testing.T, w *Workflow, now time.Time) (*Workflow, time.Time) {
	t.Helper()
	for range 20 {
		p := next(w, now, false)
		if p.write == nil {
			return w, p.wake
		}
		require.NoError(t, normal.validateUpdate(w, p.write))
		w = p.write
	}
	require.Fail(t, "the machine does not come to rest")
	return nil, time.Time{}
}

// desire is the workload manager's patch.
func desire(t *testing.T, w *Workflow, state string) *Workflow {
	t.Helper()
	changed := w.deepCopy()
	changed.Spec.DesiredState = state
	require.NoError(t, normal.validateUpdate(w, changed))
	return changed
}

func TestANewWorkflowIsReadyAfterFourWrites(t *testing.T) {
	type seen struct {
		finalizer       bool
		state, status   string
		computes, ready bool
	}
	var writes []seen
	w := newWorkflow(t)
	for p := next(w, epoch, false); p.write != nil; p = next(w, epoch, false) {
		w = p.write
		computes := w.Status.Computes != ObjectReference{}
		assert.Equal(t, computes && !w.Status.Ready, p.createComputes)
		writes = append(writes, seen{len(w.Finalizers) == 1, w.Status.State, w.Status.Status, computes, w.Status.Ready})
	}
	assert.Equal(t, []seen{
		{finalizer: true},
		{finalizer: true, state: Proposal, status: DriverWait},
		{finalizer: true, state: Proposal, status: DriverWait, computes: true},
		{finalizer: true, state: Proposal, status: Completed, computes: true, ready: true},
	}, writes)
	assert.Equal(t, ObjectReference{Kind: "Computes", Namespace: "slurm", Name: "bb7"}, w.Status.Computes)
	assert.True(t, epoch.Equal(w.Status.DesiredStateChange.Time))
}

func TestWithoutDriversEachStateIsReadyAtOnce(t *testing.T) {
	w := newWorkflow(t)
	for _, state := range States {
		w = desire(t, w, state)
		w, _ = settle(t, w, epoch.Add(time.Second))
		assert.True(t, Ready(state)(w), state)
		assert.Equal(t, Completed, w.Status.Status)
		assert.Equal(t, "0s", w.Status.ElapsedTimeLastState)
	}
}

func TestARequestIsNotYetTheState(t *testing.T) {
	w, _ := settle(t, newWorkflow(t), epoch)
	w = desire(t, w, Setup)
	assert.True(t, w.Status.Ready, "the race that clients must handle")
	assert.Equal(t, Proposal, w.Status.State)
	assert.False(t, Ready(Setup)(w))
}

func TestTeardownIsEnteredFromTheStart(t *testing.T) {
	w, _ := settle(t, desire(t, newWorkflow(t), Teardown), epoch)
	assert.True(t, Ready(Teardown)(w))
	assert.Equal(t, []string{Finalizer}, w.Finalizers)
	assert.Empty(t, w.Status.Computes, "they are made in Proposal only")
}

// TestDrivers has one directive for Proposal a case, and looks at what becomes of it.
func TestDrivers(t *testing.T) {
	type outcome struct {
		ready           bool
		status, message string
		env             map[string]string
	}
	const failed = "DW Directive 0: Reported error: disk_on_fire"
	ready := outcome{ready: true, status: Completed}
	waiting := outcome{status: DriverWait}
	tests := []struct {
		name      string
		arguments string
		atOnce    outcome
		wake      time.Duration
		later     outcome
	}{
		{"complete", "action=complete", ready, 0, ready},
		{"complete, late", "action=complete delay=2s", waiting, 2 * time.Second, ready},
		{"complete, with variables", "action=complete env=A:b,C:d:e",
			outcome{true, Completed, "", map[string]string{"A": "b", "C": "d:e"}}, 0,
			outcome{true, Completed, "", map[string]string{"A": "b", "C": "d:e"}}},
		{"complete late, with variables", "action=complete delay=1s env=A:b", waiting, time.Second,
			outcome{true, Completed, "", map[string]string{"A": "b"}}},
		{"wait", "action=wait", waiting, 0, waiting},
		{"minor by default", "action=error message=disk_on_fire", outcome{status: DriverWait, message: failed}, 0, outcome{status: DriverWait, message: failed}},
		{"in any case", "action=error message=disk_on_fire severity=faTAL", outcome{status: Error, message: failed}, 0, outcome{status: Error, message: failed}},
		{"an unknown severity", "action=error message=disk_on_fire severity=Huge",
			outcome{status: Error, message: "DW Directive 0: Internal error: unknown severity: Huge"}, 0,
			outcome{status: Error, message: "DW Directive 0: Internal error: unknown severity: Huge"}},
		{"an unknown action", "action=explode", waiting, 0, waiting},
		{"fatal", "action=error message=disk_on_fire severity=Fatal", outcome{status: Error, message: failed}, 0, outcome{status: Error, message: failed}},
		{"fatal, late", "action=error message=disk_on_fire severity=Fatal delay=1s", waiting, time.Second, outcome{status: Error, message: failed}},
		{"major", "action=error message=disk_on_fire severity=Major",
			outcome{status: TransientCondition, message: failed}, 0, outcome{status: TransientCondition, message: failed}},
		{"major that passes", "action=error message=disk_on_fire severity=Major delay=3s",
			outcome{status: TransientCondition, message: failed}, 3 * time.Second, ready},
		{"minor", "action=error message=disk_on_fire severity=Minor",
			outcome{status: DriverWait, message: failed}, 0, outcome{status: DriverWait, message: failed}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			check := func(expected outcome, w *Workflow) {
				t.Helper()
				env := map[string]string{"DW_WORKFLOW_NAME": "bb7", "DW_WORKFLOW_NAMESPACE": "slurm"}
				for key, value := range expected.env {
					env[key] = value
				}
				expected.env = env
				assert.Equal(t, expected, outcome{w.Status.Ready, w.Status.Status, w.Status.Message, w.Status.Env})
			}
			w, wake := settle(t, newWorkflow(t, "#DW Proposal "+test.arguments), epoch)
			check(test.atOnce, w)
			if test.wake == 0 {
				assert.True(t, wake.IsZero(), "woken at %s", wake)
			} else {
				assert.True(t, epoch.Add(test.wake).Equal(wake), "woken at %s", wake)
				early, _ := settle(t, w, wake.Add(-time.Millisecond))
				check(test.atOnce, early)
			}
			w, wake = settle(t, w, epoch.Add(time.Hour))
			check(test.later, w)
			assert.True(t, wake.IsZero(), "woken again at %s", wake)
		})
	}
}

func TestTheWorstDriverIsTheWorkflowsStatus(t *testing.T) {
	driver := func(status, message string, completed bool) Driver {
		return Driver{DriverID: "x", DWDIndex: 9, WatchState: Setup, Status: status, Message: message, Completed: completed}
	}
	tests := []struct {
		name    string
		drivers []Driver
		ready   bool
		status  string
		message string
	}{
		{"all completed", []Driver{driver(Completed, "", true), driver(Completed, "", true)}, true, Completed, ""},
		{"one runs", []Driver{driver(Completed, "", true), driver(Running, "copying", false)}, false, DriverWait, "DW Directive 9: copying"},
		{"one is queued", []Driver{driver(Queued, "", false)}, false, DriverWait, ""},
		{"a transient condition is worse than work", []Driver{driver(TransientCondition, "no node", false), driver(Running, "copying", false)},
			false, TransientCondition, "DW Directive 9: no node"},
		{"an error is worse than all", []Driver{driver(TransientCondition, "no node", false), driver(Error, "broken", false)}, false, Error, "DW Directive 9: broken"},
		{"of equal ones the last message counts", []Driver{driver(Running, "a", false), driver(Running, "b", false)}, false, DriverWait, "DW Directive 9: b"},
		{"of equal errors too", []Driver{driver(Error, "a", false), driver(Error, "b", false), driver(Error, "", false)}, false, Error, "DW Directive 9: b"},
		{"the message of a driver that has completed", []Driver{driver(Completed, "a", true), driver(Completed, "done", true)}, true, Completed, "DW Directive 9: done"},
		{"an error without words says nothing of others", []Driver{driver(Running, "copying", false), driver(Error, "", false)}, false, Error, ""},
		{"Completed but not yet completed", []Driver{driver(Completed, "", false)}, false, Completed, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := in(newWorkflow(t), Setup, false)
			other := driver(Error, "of another state", false)
			other.WatchState = DataIn
			w.Status.Drivers = append([]Driver{other}, test.drivers...)
			w.Status.Status = "none"
			got := judge(w, epoch).Status
			assert.Equal(t, test.ready, got.Ready)
			assert.Equal(t, test.status, got.Status)
			assert.Equal(t, test.message, got.Message)
		})
	}
}

func TestAnExternalDriverIsNotOverruled(t *testing.T) {
	w, _ := settle(t, newWorkflow(t, "#DW Proposal action=error severity=Fatal", "#DW Proposal action=wait env=A:b"), epoch)
	require.Equal(t, Error, w.Status.Status)
	w.Status.Drivers[0].Status, w.Status.Drivers[0].Error, w.Status.Drivers[0].Message = Running, "", "repairing"
	w, _ = settle(t, w, epoch)
	assert.Equal(t, DriverWait, w.Status.Status, "an error is not terminal")
	assert.Equal(t, "DW Directive 0: repairing", w.Status.Message)
	for i := range w.Status.Drivers {
		w.Status.Drivers[i].Status, w.Status.Drivers[i].Completed = Completed, true
	}
	w, _ = settle(t, w, epoch.Add(1500*time.Millisecond))
	assert.True(t, Ready(Proposal)(w))
	assert.Equal(t, "1.5s", w.Status.ElapsedTimeLastState)
	assert.Equal(t, "b", w.Status.Env["A"])
}

func TestAStateThatIsReadyIsNotJudgedAgain(t *testing.T) {
	w := in(newWorkflow(t, "#DW Setup action=wait"), Setup, true)
	w.Finalizers = []string{Finalizer}
	w.Status.Drivers[0].Status, w.Status.Drivers[0].Message = Error, "too late"
	assert.Equal(t, plan{}, next(w, epoch, false))
}

func TestForceReadyHoldsForOneState(t *testing.T) {
	w, _ := settle(t, newWorkflow(t, "#DW Proposal action=error severity=Fatal", "#DW Setup action=wait"), epoch)
	w.Spec.ForceReady = true
	w, _ = settle(t, w, epoch)
	assert.True(t, Ready(Proposal)(w))
	assert.Equal(t, Completed, w.Status.Status)
	assert.Equal(t, "Forced Ready", w.Status.Message)
	w, _ = settle(t, desire(t, w, Setup), epoch)
	assert.False(t, w.Spec.ForceReady)
	assert.False(t, w.Status.Ready)
	assert.Empty(t, w.Status.Message)
}

func TestAJobsStorageIsNamedInTheEnvironmentFromPreRunOn(t *testing.T) {
	w := newWorkflow(t, "#DW Proposal action=complete", "#DW jobdw type=xfs capacity=1GB name=my-scratch")
	for _, state := range States {
		w, _ = settle(t, desire(t, w, state), epoch)
		require.True(t, Ready(state)(w), state)
		if state == DataIn {
			assert.NotContains(t, w.Status.Env, "DW_JOB_my_scratch")
		}
	}
	assert.Equal(t, "/mnt/nnf/u1-1", w.Status.Env["DW_JOB_my_scratch"])
}

func TestADeletedWorkflowGoesWhenAllOthersHaveLetGo(t *testing.T) {
	w, _ := settle(t, newWorkflow(t, "#DW Proposal action=wait"), epoch)
	w.DeletionTimestamp = &metav1.Time{Time: epoch}
	w.Finalizers = append(w.Finalizers, "example.com/other")
	assert.Equal(t, plan{}, next(w, epoch, false))
	w.Finalizers = w.Finalizers[:1]
	p := next(w, epoch, false)
	assert.True(t, p.deleteComputes)
	require.NotNil(t, p.write)
	assert.Empty(t, p.write.Finalizers)
	assert.Equal(t, plan{}, next(p.write, epoch, false))
}
