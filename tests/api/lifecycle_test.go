package api

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

func TestAJobFromSubmissionToTeardown(t *testing.T) {
	for name, call := range fronts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW jobdw type=xfs capacity=1GiB name=scratch",
				"#DW Setup action=complete env=FROM_SETUP:1",
				"#DW DataIn action=complete env=FROM_DATA_IN:a=b")
			j.call = call

			j.ok("job_process", "DEADLINE_MS=30000")
			assert.Nil(t, j.workflow(), "a submission leaves nothing behind")

			j.ok("setup")
			j.in(dwssim.Setup)
			made := j.get()
			assert.Equal(t, map[string]string{
				"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": fmt.Sprint(j.id),
			}, made.GetLabels())
			for key, want := range map[string]string{"user": "alice", "uid": "1000", "restart-count": "0", "submit-time": "1700000000"} {
				assert.Equal(t, want, made.GetAnnotations()["slurmk8s.io/"+key], key)
			}
			w := j.workflow()
			assert.Equal(t, "hpc", w.Spec.WLMID)
			assert.Equal(t, fmt.Sprint(j.id), w.Spec.JobID.String())
			assert.Equal(t, []uint32{1000, 1001}, []uint32{w.Spec.UserID, w.Spec.GroupID})
			assert.Equal(t, map[string]string{"DW_WORKFLOW_NAME": j.name(), "DW_WORKFLOW_NAMESPACE": s.namespace, "FROM_SETUP": "1",
				"SLURMK8S_WORKFLOW": fmt.Sprintf("%s:%s", j.name(), j.get().GetUID())}, j.env())

			j.ok("data_in")
			j.ok("test_data_in")
			j.in(dwssim.DataIn)
			assert.Equal(t, "a=b", j.env()["FROM_DATA_IN"])

			j.ok("pre_run")
			j.in(dwssim.PreRun)
			computes, err := s.c.admin.Resource(dwssim.ComputesResource(s.c.version())).Namespace(s.namespace).Get(t.Context(), j.name(), metav1.GetOptions{})
			require.NoError(t, err)
			data, _, err := unstructured.NestedSlice(computes.Object, "data")
			require.NoError(t, err)
			assert.Equal(t, []any{map[string]any{"name": "c1"}, map[string]any{"name": "c2"}, map[string]any{"name": "c3"}}, data)

			j.ok("post_run")
			j.in(dwssim.PostRun)
			j.ok("data_out")
			j.ok("test_data_out")
			j.in(dwssim.DataOut)
			assert.False(t, j.workflow().Spec.Hurry)
			j.ok("job_teardown", "HURRY=false")
			assert.Nil(t, j.workflow())
			_, err = s.c.admin.Resource(dwssim.ComputesResource(s.c.version())).Namespace(s.namespace).Get(t.Context(), j.name(), metav1.GetOptions{})
			assert.True(t, apierrors.IsNotFound(err))
			assert.NoDirExists(t, filepath.Join(s.path("state"), fmt.Sprintf("job.%d", j.id)))
			assert.NoFileExists(t, s.path("cancelled"), "no job is cancelled that has not failed")
			left, err := filepath.Glob(filepath.Join(s.path("state"), "[^j]*"))
			require.NoError(t, err)
			assert.Equal(t, []string{s.path("state/dws-version")}, left,
				"nothing of a job is left on the controller but its script that was accepted")
		})
	}
}

func TestAnOlderSlurmWaitsInsideOfTheStages(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW DataIn action=complete delay=200ms env=IN:1", "#DW DataOut action=complete delay=200ms")
	// Slurm 22.05 tells neither nodes nor user, and has no BUSY.
	for _, key := range []string{wire.KeyBusy, wire.KeyUser, wire.KeyRestart, wire.KeySubmitTime, wire.KeyNodes} {
		delete(j.fields, key)
	}
	s.write("squeue", fmt.Sprintf("#!/bin/sh\necho '%d|%d|n[07-08]'\n", j.id, j.id), 0o755)
	j.ok("setup")
	j.ok("data_in")
	j.in(dwssim.DataIn)
	assert.Equal(t, "1", j.env()["IN"])
	j.ok("pre_run")
	computes, err := s.c.admin.Resource(dwssim.ComputesResource(s.c.version())).Namespace(s.namespace).Get(t.Context(), j.name(), metav1.GetOptions{})
	require.NoError(t, err)
	data, _, err := unstructured.NestedSlice(computes.Object, "data")
	require.NoError(t, err)
	assert.Equal(t, []any{map[string]any{"name": "n07"}, map[string]any{"name": "n08"}}, data, "asked of squeue")
	j.ok("post_run")
	j.ok("data_out")
	j.in(dwssim.DataOut)
	j.ok("job_teardown")
	assert.Empty(t, s.names())
}

func TestPreRunWithoutNodesIsNotSilent(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW PreRun action=complete")
	j.bring(dwssim.DataIn)
	s.write("squeue", fmt.Sprintf("#!/bin/sh\necho '%d|%d|'\n", j.id, j.id), 0o755)
	assert.Equal(t, fmt.Sprintf("job %d has no nodes", j.id), j.fails("pre_run", "NODES="))
	j.in(dwssim.DataIn)
}

func TestEveryHookMayBeRunAgain(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
	uid := ""
	for _, name := range []string{"setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out"} {
		j.ok(name)
		first := j.workflow()
		j.ok(name)
		if name == "data_in" || name == "data_out" {
			continue // these return before DWS is done
		}
		assert.Equal(t, first.ResourceVersion, j.workflow().ResourceVersion, "%s: the second time nothing is changed", name)
		if uid == "" {
			uid = string(first.UID)
		}
		assert.Equal(t, uid, string(j.workflow().UID))
	}
	// Slurm runs these again after a restart of slurmctld, when the job is further on.
	for _, name := range []string{"data_in", "test_data_in", "pre_run", "post_run"} {
		j.ok(name)
		j.in(dwssim.DataOut)
	}
	j.ok("job_teardown")
	j.ok("job_teardown")
}

func TestManyJobsInOneProcess(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	var group sync.WaitGroup
	for i := range 12 {
		j := s.job(fmt.Sprintf("#DW DataIn action=complete delay=50ms env=NUMBER:%d", i))
		group.Go(func() {
			for _, name := range []string{"setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out"} {
				for code, message := j.run(name); code != wire.OK; code, message = j.run(name) {
					if !assert.Equal(t, wire.Busy, code, "%s: %s", name, message) {
						return
					}
				}
				if name == "test_data_in" {
					assert.Equal(t, fmt.Sprint(i), j.env()["NUMBER"])
				}
			}
			code, message := j.run("job_teardown")
			assert.Equal(t, wire.OK, code, message)
		})
	}
	group.Wait()
	assert.Empty(t, s.names())
}
