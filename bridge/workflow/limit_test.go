package workflow

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

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
				_, err := d.Await(bounded(t), theJob, Setup)
				require.NoError(t, err)
				return
			}
			_, err := d.Await(bounded(t), theJob, Setup)
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
		_, err := d.Await(bounded(t), theJob, Setup)
		require.NoError(t, err)
	})
	t.Run("its grace may have begun in an earlier hook", func(t *testing.T) {
		s := kubetest.NewWorkflows(t)
		s.Change(transient(time.Now().Add(-time.Hour)))
		_, err := newDriver(t, s, nil).Await(bounded(t), theJob, Setup)
		var driver *DriverError
		require.ErrorAs(t, err, &driver)
		assert.Contains(t, err.Error(), "node is away")
	})
	t.Run("without grace it fails at once", func(t *testing.T) {
		s := kubetest.NewWorkflows(t)
		s.Change(transient(time.Time{}))
		_, err := newDriver(t, s, func(c *slurmconf.Config) { c.Workflows.TransientGrace = 0 }).Await(bounded(t), theJob, Setup)
		require.ErrorContains(t, err, "node is away")
	})
}

func TestTheHooksDeadlineIsToldWithWhatDWSSays(t *testing.T) {
	tests := []struct {
		name string
		is   func(kubetest.Object) kubetest.Object
		want string
	}{
		{"DWS is away", is(Setup, Proposal, true, "Completed"), "DWS has not started it (workflow slurm/bb12 still in Proposal: is the DWS controller running?)"},
		{"DWS's message", func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "DriverWait")(o)
			kubetest.Part(o, "status")["message"] = "3 of 4 done"
			return o
		}, "Setup not done when the hook's deadline passed: 3 of 4 done"},
		{"the directive that is worked on", func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "DriverWait")(o)
			kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW a", "#DW b"}
			kubetest.Part(o, "status")["drivers"] = []any{
				kubetest.Object{"dwdIndex": 0, "watchState": "Setup", "status": "Completed"},
				kubetest.Object{"dwdIndex": 1, "watchState": "Setup", "status": "Running"}}
			return o
		}, "DWS is still working on #DW b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(tt.is)
			d := newDriver(t, s, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := d.Await(ctx, theJob, Setup)
			require.ErrorContains(t, err, tt.want)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

func TestPollReadsTheWorkflowHoweverShortTheWait(t *testing.T) {
	none := func(c *slurmconf.Config) { c.Workflows.BusyWait = 0 }
	s := kubetest.NewWorkflows(t)
	s.Change(is(DataIn, DataIn, false, "DriverWait"))
	_, err := newDriver(t, s, none).Poll(bounded(t), theJob, DataIn)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	s.Change(is(DataIn, DataIn, true, "Completed"))
	_, err = newDriver(t, s, none).Poll(bounded(t), theJob, DataIn)
	require.NoError(t, err)
}
