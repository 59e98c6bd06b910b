package api

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

func TestTeardownFromEveryStateTwiceAndFromNone(t *testing.T) {
	for _, step := range order {
		t.Run(step.state, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
			j.bring(step.state)
			for range 2 {
				j.ok("job_teardown")
				assert.Empty(t, s.names())
			}
		})
	}
	t.Run("a job that never had one", func(t *testing.T) {
		t.Parallel()
		s := shared(t).newSite(t)
		j := s.job()
		require.NoError(t, os.Remove(j.fields[wire.KeyScript])) // Slurm's may be gone
		j.ok("job_teardown")
	})
}

func TestTeardownOfAWorkflowInTheMiddleOfAState(t *testing.T) {
	for _, state := range []string{dwssim.Proposal, dwssim.Setup, dwssim.DataIn} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW " + state + " action=wait")
			if state == dwssim.DataIn {
				j.ok("setup")
				j.ok("data_in")
			} else {
				j.fails("setup", "DEADLINE_MS=6000")
			}
			j.wait("in the state", entered(state))
			j.ok("job_teardown", "HURRY=true")
			assert.Empty(t, s.names())
		})
	}
}

func TestHurryComesWithTeardownAndOnlyWhenSlurmSaysSo(t *testing.T) {
	for _, hurry := range []string{"true", "false"} {
		t.Run(hurry, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW Teardown action=wait")
			j.fields[wire.KeyHurry] = hurry // in all hooks: it counts in one
			j.ok("setup")
			j.ok("data_in")
			j.ok("test_data_in")
			assert.False(t, j.workflow().Spec.Hurry)
			done := j.start("job_teardown")
			w := j.wait("in Teardown", entered(dwssim.Teardown))
			assert.Equal(t, hurry == "true", w.Spec.Hurry)
			j.complete(dwssim.Teardown)
			assert.Equal(t, outcome{wire.OK, ""}, <-done)
		})
	}
	t.Run("afterwards, as scancel --hurry does", func(t *testing.T) {
		t.Parallel()
		s := shared(t).newSite(t)
		j := s.job("#DW Teardown action=wait")
		j.ok("setup")
		j.fails("job_teardown", "DEADLINE_MS=6000")
		assert.False(t, j.workflow().Spec.Hurry)
		j.fails("job_teardown", "DEADLINE_MS=6000", "HURRY=true")
		assert.True(t, j.workflow().Spec.Hurry)
	})
}

func TestATeardownThatTakesLongerThanTheHookMay(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Teardown action=wait")
	j.ok("setup")
	for range 2 {
		assert.Equal(t, "Teardown not done when the hook's deadline passed: DWS is still working on #DW Teardown action=wait",
			j.fails("job_teardown", "DEADLINE_MS=6000"))
		assert.NotNil(t, j.workflow(), "not deleted before DWS is done")
		assert.NotEmpty(t, j.env(), "nothing is forgotten before either")
	}
	j.complete(dwssim.Teardown)
	j.ok("job_teardown")
	assert.Empty(t, s.names())
}

func TestAFinalizerThatHoldsTheDeletedWorkflow(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Setup action=complete")
	j.ok("setup")
	hold := func(finalizers string) {
		t.Helper()
		_, err := s.workflows().Patch(t.Context(), j.name(), types.JSONPatchType,
			[]byte(fmt.Sprintf(`[{"op":"replace","path":"/metadata/finalizers","value":%s}]`, finalizers)), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	hold(fmt.Sprintf(`[%q,"example.org/mine"]`, dwssim.Finalizer))
	message := j.fails("job_teardown", "DEADLINE_MS=6000")
	assert.Contains(t, message, "is deleted but not gone: a finalizer holds it")
	assert.Contains(t, j.fails("setup", "DEADLINE_MS=6000", "RESTART_COUNT=1"), "a finalizer holds it")
	hold(fmt.Sprintf(`[%q]`, dwssim.Finalizer))
	j.ok("job_teardown")
	assert.Empty(t, s.names())
}

// deletedIn tells the state of the Workflow, and whether it was ready, when it was
// deleted for good.
func (j *job) deletedIn() <-chan string {
	j.s.t.Helper()
	watcher, err := j.s.workflows().Watch(j.s.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + j.name()})
	require.NoError(j.s.t, err)
	deleted := make(chan string, 1)
	go func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type != watch.Deleted {
				continue
			}
			state, _, _ := unstructured.NestedString(object.Object, "status", "state")
			ready, _, _ := unstructured.NestedBool(object.Object, "status", "ready")
			deleted <- fmt.Sprintf("%s ready=%t", state, ready)
			return
		}
		close(deleted)
	}()
	return deleted
}

// DWS accepts the next state in place of a Teardown that it has not taken up, and then
// never tears the Workflow down.
func TestATeardownThatSomebodyReplacesIsAskedForAgain(t *testing.T) {
	c := own(t, dwssim.DefaultVersions...)
	s := c.newSite(t)
	j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
	j.bring(dwssim.Setup)
	deleted := j.deletedIn()

	c.sim.SetControllerStopped(true)
	done := j.start("job_teardown")
	j.wait("asked to be in Teardown", func(w *dwssim.Workflow) bool { return w.Spec.DesiredState == dwssim.Teardown })
	_, err := s.workflows().Patch(t.Context(), j.name(), types.MergePatchType, []byte(`{"spec":{"desiredState":"DataIn"}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	c.sim.SetControllerStopped(false)

	assert.Equal(t, outcome{wire.OK, ""}, <-done)
	assert.Equal(t, "Teardown ready=true", <-deleted)
}

func TestNoHookOfTheJobKeepsAWorkflowFromItsTeardown(t *testing.T) {
	for _, other := range []string{"data_in", "test_data_in", "pre_run"} {
		t.Run(other, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			for range 8 {
				j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
				j.ok("setup")
				deleted := j.deletedIn()
				done := j.start("job_teardown")
				code, message := j.run(other)
				assert.Equal(t, outcome{wire.OK, ""}, <-done)
				assert.Equal(t, "Teardown ready=true", <-deleted, "%s: %d %s", other, code, message)
				assert.Empty(t, s.names())
			}
		})
	}
}

func TestAPersistentInstanceOutlivesAJobThatWouldDestroyItButNeverRan(t *testing.T) {
	t.Parallel()
	simulatorOnly(t, "a look at the instances of the simulator")
	s := shared(t).newSite(t)
	name := s.namespace
	exists := func() bool { return slices.Contains(s.c.sim.Persistent(), name) }
	run := func(directive string, hooks ...string) {
		t.Helper()
		j := s.job(directive)
		for _, hook := range slices.Concat(hooks, []string{"job_teardown"}) {
			j.ok(hook)
		}
		assert.Empty(t, s.names())
	}
	ends := []string{"post_run", "data_out", "test_data_out"}
	starts := []string{"setup", "data_in", "test_data_in", "pre_run"}
	run("#DW create_persistent type=xfs capacity=1GiB name="+name, slices.Concat(starts, ends)...)
	require.True(t, exists())
	for i := range starts {
		run("#DW destroy_persistent name="+name, starts[:i+1]...)
		assert.True(t, exists(), "after %s", starts[i])
	}
	refused := s.job("#DW destroy_persistent name="+name, "#DW Proposal action=error severity=Fatal")
	refused.fails("setup")
	refused.ok("job_teardown")
	assert.True(t, exists())
	run("#DW destroy_persistent name="+name, slices.Concat(starts, ends[:1])...)
	assert.False(t, exists())
}
