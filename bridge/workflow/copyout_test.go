package workflow

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// copying is the Workflow of a job that has run, in a state that goes on for ever.
func copying(state State, directive string) func(kubetest.Object) kubetest.Object {
	return func(o kubetest.Object) kubetest.Object {
		o = is(state, state, false, "Running")(o)
		kubetest.Part(o, "spec")["dwDirectives"] = []any{directive}
		return o
	}
}

const copyOut = "#DW copy_out source=$DW_JOB_a destination=/home/ada/out"

func dataHeld(s *kubetest.Workflows) bool {
	_, held := kubetest.Part(kubetest.Meta(s.Current()), "annotations")[annotationHeld]
	return held
}

func TestDataThatIsNotCopiedInTimeOutlivesTheTeardown(t *testing.T) {
	until := func(d time.Duration) func(*slurmconf.Config) {
		return func(cfg *slurmconf.Config) { cfg.Workflows.Timeouts.DataOut = slurmconf.Duration(d) }
	}
	await := func(t *testing.T, d *Driver) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := d.Await(ctx, theJob, DataOut)
		return err
	}
	poll := func(t *testing.T, d *Driver) error {
		_, err := d.Poll(bounded(t), theJob, DataOut)
		return err
	}
	tests := []struct {
		name      string
		state     State
		directive string
		change    func(*slurmconf.Config)
		hook      func(*testing.T, *Driver) error
		held      bool
	}{
		{"the hook's time is over", DataOut, copyOut, nil, await, true},
		{"the state's time is over", DataOut, copyOut, until(time.Nanosecond), await, true},
		{"the state's time is over when Slurm polls", DataOut, copyOut, until(time.Nanosecond), poll, true},
		{"Slurm polls again", DataOut, copyOut, func(cfg *slurmconf.Config) { cfg.Workflows.BusyWait = slurmconf.Duration(time.Millisecond) }, poll, false},
		{"it is still being unmounted", PostRun, copyOut, nil, await, true},
		{"nothing is to be copied", DataOut, "#DW jobdw type=xfs capacity=1GiB name=a", nil, await, false},
		{"the site wants it so", DataOut, copyOut, func(cfg *slurmconf.Config) { cfg.Workflows.DataOutTimeoutAction = slurmconf.DataOutTeardown }, await, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(copying(tt.state, tt.directive))
			d := newDriver(t, s, tt.change)
			require.Error(t, tt.hook(t, d))
			assert.Equal(t, tt.held, dataHeld(s))
			s.React = doneAtOnce
			result, err := d.Teardown(bounded(t), theJob)
			require.NoError(t, err)
			assert.Equal(t, tt.held, result.Held)
			assert.Equal(t, tt.held, s.Current() != nil, "is the Workflow still there")
		})
	}
}

func TestAFailedCopyIsNotHeld(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(copying(DataOut, copyOut))
	s.Change(is(DataOut, DataOut, false, "Error"))
	_, err := newDriver(t, s, nil).Await(bounded(t), theJob, DataOut)
	var failed *DriverError
	require.ErrorAs(t, err, &failed)
	assert.False(t, dataHeld(s))
}

func TestDataThatCannotBeKeptIsTold(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(copying(DataOut, copyOut))
	d := newDriver(t, s, func(cfg *slurmconf.Config) { cfg.Workflows.Timeouts.DataOut = slurmconf.Duration(time.Nanosecond) })
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			kubetest.Status(w, http.StatusForbidden, "Forbidden", "no right to patch")
		}
		return r.Method == http.MethodPatch
	}
	_, err := d.Await(bounded(t), theJob, DataOut)
	require.ErrorContains(t, err, "the data cannot be kept")
}

// heldHere lists a held Workflow as reconcile does.
func heldHere(t *testing.T, force bool) (duty.Object, *kubetest.Workflows) {
	t.Helper()
	s := kubetest.NewWorkflows(t)
	s.Change(copying(PostRun, copyOut))
	s.Change(func(o kubetest.Object) kubetest.Object {
		kubetest.Part(kubetest.Meta(o), "annotations")[annotationHeld] = now()
		return o
	})
	cfg, client, log := newClient(t, s, func(cfg *slurmconf.Config) { cfg.StateDir = filepath.Join(t.TempDir(), "state") })
	objects, err := Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: client, Force: force, Log: log})
	require.NoError(t, err)
	require.Len(t, objects, 1)
	return objects[0], s
}

func TestReconcileCopiesWhatWasHeldAndThenRemovesIt(t *testing.T) {
	object, s := heldHere(t, false)
	assert.Equal(t, "PostRun, Running, kept until its data is copied", object.Detail)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := object.Remove(ctx)
	require.ErrorContains(t, err, "kept until its data is copied: PostRun not done")
	assert.Zero(t, s.Count("DELETE", ""))

	var states []string
	s.React = func(o kubetest.Object) kubetest.Object {
		states = append(states, kubetest.Part(o, "spec")["desiredState"].(string))
		return doneAtOnce(o)
	}
	s.Change(is(PostRun, PostRun, true, "Completed"))
	require.NoError(t, object.Remove(bounded(t)))
	assert.Equal(t, []string{"DataOut", "Teardown"}, states)
	assert.Equal(t, 1, s.Count("DELETE", "workflows/bb12"))
}

func TestWhatWasHeldIsRemovedWhenItsCopyFails(t *testing.T) {
	object, s := heldHere(t, false)
	s.Change(is(DataOut, DataOut, false, "Error"))
	s.React = doneAtOnce
	require.NoError(t, object.Remove(bounded(t)))
	assert.Equal(t, 1, s.Count("DELETE", "workflows/bb12"))
}

func TestCleanupByForceGivesHeldDataUp(t *testing.T) {
	object, s := heldHere(t, true)
	s.React = doneAtOnce
	require.NoError(t, object.Remove(bounded(t)))
	assert.Equal(t, 1, s.Count("DELETE", "workflows/bb12"))
}

func TestAnotherRunOfAJobDoesNotDropTheDataOfTheFirst(t *testing.T) {
	_, s := heldHere(t, false)
	_, err := newDriver(t, s, nil).Setup(bounded(t), theJob, []string{copyOut})
	require.ErrorContains(t, err, `"slurmk8s cleanup --force 12" gives it up`)
	require.NotNil(t, s.Current())
}
