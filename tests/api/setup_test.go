package api

import (
	"context"
	"maps"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

func TestSetupAfterAKillEndsInTheSameState(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	for _, delay := range []time.Duration{0, 10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 50 * time.Millisecond, 80 * time.Millisecond} {
		j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		args := []string{"hook", "slurm_bb_setup"}
		for _, key := range slices.Sorted(maps.Keys(j.fields)) {
			args = append(args, key+"="+j.fields[key])
		}
		cmd := exec.CommandContext(ctx, common.program, args...)
		require.NoError(t, cmd.Start())
		time.Sleep(delay) // the instant does not matter, only that there are several
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()

		before := j.workflow()
		j.ok("setup")
		j.in(dwssim.Setup)
		if before != nil {
			assert.Equal(t, before.UID, j.workflow().UID, "what the killed one made is used")
		}
		assert.Equal(t, j.name(), j.env()["DW_WORKFLOW_NAME"])
	}
}

func TestSetupAfterARequeueMakesAnewWhateverIsLeft(t *testing.T) {
	for _, step := range order {
		t.Run(step.state, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
			j.bring(step.state)
			left := j.workflow()
			j.ok("setup", "RESTART_COUNT=1")
			j.in(dwssim.Setup)
			assert.NotEqual(t, left.UID, j.workflow().UID)
			assert.Equal(t, "1", j.get().GetAnnotations()["slurmk8s.io/restart-count"])
		})
	}
}

func TestSetupOfAJobWhoseIDWasUsedBefore(t *testing.T) {
	tests := map[string]string{
		"by another user":      "UID=2000",
		"at another time":      "SUBMIT_TIME=1800000000",
		"by the same job once": "RESTART_COUNT=7",
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW Setup action=complete")
			j.bring(dwssim.Setup)
			left := j.workflow()
			j.ok("setup", change)
			assert.NotEqual(t, left.UID, j.workflow().UID)
		})
	}
}

func TestALeftOverThatCannotBeTornDownStopsSetupWithTheReason(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Teardown action=error severity=Fatal message=disk_is_dead")
	j.bring(dwssim.PreRun)
	message := j.fails("setup", "RESTART_COUNT=1")
	assert.Contains(t, message, "is left from an earlier run and cannot be removed")
	assert.Contains(t, message, "disk is dead")
}

// foreign is a Workflow that is not the bridge's, under the name of a job's.
func (j *job) foreign(labels map[string]string) *unstructured.Unstructured {
	j.s.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": dwssim.Group + "/" + j.s.c.version(), "kind": "Workflow",
		"metadata": map[string]any{"name": j.name(), "annotations": map[string]any{"note": "precious"}},
		"spec": map[string]any{
			"desiredState": "Proposal", "wlmID": "flux", "jobID": int64(1), "userID": int64(1000), "groupID": int64(1),
			"dwDirectives": []any{"#DW Setup action=wait"},
		},
	}}
	object.SetLabels(labels)
	_, err := j.s.workflows().Create(j.s.t.Context(), object, metav1.CreateOptions{})
	require.NoError(j.s.t, err)
	j.wait("ready", dwssim.Ready(dwssim.Proposal))
	return j.get()
}

var notOurs = map[string]map[string]string{
	"without labels":    nil,
	"another cluster's": {"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "other", "slurmk8s.io/job-id": "101"},
	"another manager's": {"slurmk8s.io/managed-by": "flux", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": "101"},
}

func TestAWorkflowThatIsNotOursIsLeftAloneByteForByte(t *testing.T) {
	for name, labels := range notOurs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW Setup action=wait")
			before := j.foreign(labels)
			for _, hookName := range []string{"setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out"} {
				assert.Contains(t, j.fails(hookName), "it was left alone", hookName)
			}
			code, message := j.run("job_process", "DEADLINE_MS=30000")
			assert.Equal(t, wire.OK, code, message)
			j.ok("job_teardown", "HURRY=true")
			assert.Contains(t, j.fails("get_status", "ARG1=workflow", "ARG2="+j.fields[wire.KeyJobID], "UID=0"), "has no workflow")
			assert.Equal(t, before, j.get())
		})
	}
}
