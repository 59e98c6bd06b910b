package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// told is what "kubectl describe workflow" shows or has shown: "Warning TimedOut: text",
// each once.
func (j *job) told() []string {
	j.s.t.Helper()
	list, err := j.s.c.admin.Resource(kube.EventsGVR).Namespace(j.s.namespace).List(j.s.t.Context(), metav1.ListOptions{
		FieldSelector: "involvedObject.kind=Workflow,involvedObject.name=" + j.name()})
	require.NoError(j.s.t, err)
	var all []string
	for _, u := range list.Items {
		all = append(all, fmt.Sprintf("%v %v: %v", u.Object["type"], u.Object["reason"], u.Object["message"]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAFailedHookTellsItOnTheWorkflow(t *testing.T) {
	t.Parallel()
	t.Run("a driver's error, once for each hook that failed on it", func(t *testing.T) {
		t.Parallel()
		j := shared(t).newSite(t).job("#DW Setup action=error severity=Fatal message=disk_is_full")
		message := j.fails("setup")
		uid := string(j.get().GetUID())
		assert.Equal(t, []string{"Warning DriverFailed: slurm_bb_setup: " + message}, j.told())
		list, err := j.s.c.admin.Resource(kube.EventsGVR).Namespace(j.s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + uid})
		require.NoError(t, err)
		require.Len(t, list.Items, 1, "kubectl describe asks by the uid")
		version, _, _ := unstructured.NestedString(list.Items[0].Object, "involvedObject", "apiVersion")
		assert.Equal(t, j.get().GetAPIVersion(), version)
	})
	t.Run("a state's timeout, but not that Slurm has to ask again", func(t *testing.T) {
		t.Parallel()
		j := shared(t).newSite(t, `busy_wait = "100ms"`, `[workflows.timeouts]`, `data_in = "5s"`).job("#DW DataIn action=wait")
		j.ok("setup")
		j.ok("data_in")
		j.wait("in DataIn", entered(dwssim.DataIn))
		code, _ := j.run("test_data_in")
		require.Equal(t, wire.Busy, code)
		assert.Empty(t, j.told())
		for code == wire.Busy {
			code, _ = j.run("test_data_in")
		}
		assert.Equal(t, []string{"Warning TimedOut: slurm_bb_test_data_in: DataIn not done after 5s: DWS is still working on #DW DataIn action=wait"}, j.told())
	})
	t.Run("the hook's own end, soon after it", func(t *testing.T) {
		t.Parallel()
		j := shared(t).newSite(t).job("#DW Setup action=wait")
		j.fails("setup", "DEADLINE_MS=20000")
		assert.Equal(t, []string{"Warning TimedOut: slurm_bb_setup: Setup not done when the hook's deadline passed: DWS is still working on #DW Setup action=wait"}, j.told())
	})
}

func TestAJobThatGoesWellAndASubmissionTellNothing(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t, `submit = "create"`)
	j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
	for _, name := range []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out", "get_status", "job_teardown"} {
		j.ok(name, "DEADLINE_MS=30000", "ARG1=workflow", fmt.Sprint("ARG2=", j.id))
	}
	assert.Empty(t, j.told())
	assert.NotContains(t, s.log(), "create events", "nor is it tried")

	refused := s.job("#DW Proposal action=error severity=Fatal message=no")
	refused.run("job_process", "DEADLINE_MS=30000")
	assert.NotContains(t, s.log(), "create events")
}

func TestReconcileTellsWhatItRemovedAndWhatItCouldNot(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	good, broken := s.job("#DW jobdw type=xfs capacity=1GiB name=ab"), s.job("#DW Teardown action=error severity=Fatal message=disk_is_dead")
	good.bring(dwssim.PreRun)
	broken.ok("setup")
	r := s.reconcile("--limit", "10s")
	assert.Equal(t, 1, r.status)
	assert.Equal(t, []string{fmt.Sprintf("Normal Removed: left by Slurm job %d of cluster hpc: slurmk8s tore it down (it was in PreRun) and deleted it", good.id)}, good.told())
	assert.Equal(t, []string{"Warning DriverFailed: slurmk8s: Teardown failed: DW Directive 0: Reported error: disk_is_dead (disk is dead) [#DW Teardown action=error severity=Fatal message=disk_is_dead]"}, broken.told())
}

// What hooks and reconcile do does not depend on what they may tell of it.
func TestHooksFailAndReconcileRemovesTheSameWithoutTheRightToTell(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	for _, object := range manifest(t, "controller.yaml", s.namespace) {
		if object.GetKind() == "Role" && object.GetName() == account {
			rules, _, err := unstructured.NestedSlice(object.Object, "rules")
			require.NoError(t, err)
			rules = slices.DeleteFunc(rules, func(r any) bool { return fmt.Sprint(r.(map[string]any)["resources"]) == "[events]" })
			require.NoError(t, unstructured.SetNestedSlice(object.Object, rules, "rules"))
			s.c.apply(t, object)
		}
	}
	var j *job
	eventually.True(t, "DWS may be told, and Events may not", func() bool { // the authorizer learns of it a moment after
		j = s.job("#DW Setup action=error severity=Fatal message=disk_is_full")
		assert.Equal(t, "Setup failed: DW Directive 0: Reported error: disk_is_full (disk is full) [#DW Setup action=error severity=Fatal message=disk_is_full]", j.fails("setup"))
		return len(j.told()) == 0
	})
	assert.True(t, strings.Contains(s.log(), `cannot create resource \"events\"`), s.log())
	r := s.reconcile()
	assert.Equal(t, 0, r.status, r.stdout+r.stderr)
	assert.Empty(t, s.names())
	assert.Empty(t, j.told())
}
