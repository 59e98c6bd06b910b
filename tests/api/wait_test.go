package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// steps are the hooks in Slurm's order with the state that each one waits for.
var steps = []struct{ hook, state string }{
	{"setup", dwssim.Proposal}, {"setup", dwssim.Setup}, {"test_data_in", dwssim.DataIn}, {"pre_run", dwssim.PreRun},
	{"post_run", dwssim.PostRun}, {"test_data_out", dwssim.DataOut}, {"job_teardown", dwssim.Teardown},
}

func TestADriverErrorInEachState(t *testing.T) {
	for i, step := range steps {
		t.Run(step.state, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			directive := "#DW " + step.state + " action=error severity=Fatal message=disk_is_full"
			j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab", directive)
			for _, before := range steps[:i] {
				if before.hook != step.hook {
					j.ok(before.hook)
				}
			}
			message := j.fails(step.hook)
			assert.Equal(t, step.state+" failed: DW Directive 1: Reported error: disk_is_full (disk is full) ["+directive+"]", message,
				"DWS's message first, then the directive")
			assert.Equal(t, message, j.fails(step.hook), "asked again it is the same")

			if step.state == dwssim.Teardown {
				require.NotNil(t, j.workflow(), "not deleted before DWS is done")
				j.complete(dwssim.Teardown)
			}
			j.ok("job_teardown", "HURRY=true")
			assert.Empty(t, s.names())
			neverRan := i < 4
			if neverRan {
				assert.Contains(t, s.cancelled(), fmt.Sprintf("--config %s %d\n", s.path("slurmk8s.toml"), j.id))
			} else {
				assert.NoFileExists(t, s.path("cancelled"))
			}
		})
	}
}

func TestATransientCondition(t *testing.T) {
	tests := []struct {
		name, arguments, grace string
		recovers               bool
	}{
		{"that recovers within its grace", "delay=300ms", "60s", true},
		{"that does not recover", "", "1s", false},
		{"that comes without grace", "", "0s", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t, fmt.Sprintf("transient_grace = %q", tt.grace))
			j := s.job("#DW Setup action=error severity=Major message=node_is_away " + tt.arguments)
			if tt.recovers {
				j.ok("setup")
				j.in(dwssim.Setup)
				return
			}
			assert.Contains(t, j.fails("setup"), "Setup failed: DW Directive 0: Reported error: node_is_away (node is away) [#DW Setup action=error")
		})
	}
}

func TestAMinorErrorIsNone(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Setup action=error severity=Minor message=retrying")
	done := j.start("setup")
	j.wait("to report", func(w *dwssim.Workflow) bool { return strings.Contains(w.Status.Message, "retrying") })
	j.complete(dwssim.Setup)
	assert.Equal(t, outcome{wire.OK, ""}, <-done)
}

func TestBusyUntilDWSIsDone(t *testing.T) {
	for _, wait := range []string{"0s", "100ms"} {
		t.Run(wait, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t, fmt.Sprintf("busy_wait = %q", wait))
			j := s.job("#DW DataIn action=wait env=IN:1", "#DW DataOut action=wait")
			j.ok("setup")
			j.ok("data_in")
			for range 2 {
				code, message := j.run("test_data_in")
				assert.Equal(t, wire.Busy, code, message)
			}
			j.complete(dwssim.DataIn)
			j.ok("test_data_in")
			j.in(dwssim.DataIn)
			j.ok("pre_run")
			j.ok("post_run")
			j.ok("data_out")
			code, _ := j.run("test_data_out")
			assert.Equal(t, wire.Busy, code)
			j.complete(dwssim.DataOut)
			j.ok("test_data_out")
		})
	}
}

func TestAStatesTimeoutHoldsOverManyPolls(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t, `busy_wait = "100ms"`, `[workflows.timeouts]`, `data_in = "5s"`)
	j := s.job("#DW DataIn action=wait")
	j.ok("setup")
	j.ok("data_in")
	j.wait("in DataIn", entered(dwssim.DataIn))
	busy := 0
	for {
		code, message := j.run("test_data_in")
		if code == wire.Busy {
			busy++
			continue
		}
		assert.Equal(t, wire.Failed, code)
		assert.Equal(t, "DataIn not done after 5s: DWS is still working on #DW DataIn action=wait", message)
		break
	}
	assert.Positive(t, busy)
	j.ok("job_teardown", "HURRY=true")
}

func TestAWorkflowThatGoesAwayWhileAHookWaits(t *testing.T) {
	begin := func(t *testing.T) (*job, <-chan outcome) {
		s := shared(t).newSite(t)
		j := s.job("#DW Setup action=wait")
		done := j.start("setup")
		j.wait("in Setup", entered(dwssim.Setup))
		return j, done
	}
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		j, done := begin(t)
		require.NoError(t, j.s.workflows().Delete(t.Context(), j.name(), metav1.DeleteOptions{}))
		o := <-done
		assert.Equal(t, wire.Failed, o.code)
		assert.Equal(t, fmt.Sprintf("workflow %s/%s no longer exists: somebody deleted it", j.s.namespace, j.name()), o.message)
		j.ok("setup", "RESTART_COUNT=1", "SCRIPT="+j.s.job("#DW Setup action=complete").fields[wire.KeyScript])
	})
	t.Run("deleted and created again by somebody else", func(t *testing.T) {
		t.Parallel()
		j, done := begin(t)
		copied := j.get()
		require.NoError(t, j.s.workflows().Delete(t.Context(), j.name(), metav1.DeleteOptions{}))
		again := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": copied.GetAPIVersion(), "kind": "Workflow", "metadata": map[string]any{"name": j.name()}, "spec": copied.Object["spec"]}}
		again.SetLabels(copied.GetLabels())
		require.NoError(t, unstructured.SetNestedField(again.Object, "Proposal", "spec", "desiredState"))
		eventually.True(t, "the Workflow is gone and can be made again", func() bool {
			_, err := j.s.workflows().Create(t.Context(), again, metav1.CreateOptions{})
			return err == nil
		})
		o := <-done
		assert.Equal(t, wire.Failed, o.code, o.message)
		assert.Contains(t, o.message, "somebody")
		assert.Equal(t, dwssim.Proposal, j.workflow().Spec.DesiredState, "the new one is nobody's to change")
	})
	t.Run("torn down by somebody", func(t *testing.T) {
		t.Parallel()
		j, done := begin(t)
		j.ok("job_teardown")
		o := <-done
		assert.Equal(t, wire.Failed, o.code)
		assert.Regexp(t, "somebody (ended|deleted) it", o.message)
		assert.Contains(t, j.fails("data_in"), "no longer exists")
	})
}

func TestTheHooksDeadlineSaysWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab", "#DW Setup action=wait")
	message := j.fails("setup", "DEADLINE_MS=20000")
	assert.Equal(t, "Setup not done when the hook's deadline passed: DWS is still working on #DW Setup action=wait", message)
}
