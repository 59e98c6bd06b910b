package workflow

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// kept is the Workflow of job 12 in Teardown.
func kept(ready bool, setupStatus string) kubetest.Object {
	return kubetest.Object{
		"kind": "Workflow", "apiVersion": kubetest.Group + "/" + kubetest.Version,
		"metadata": kubetest.Object{"name": "bb12", "namespace": "slurm", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
			"labels":      kubetest.Object{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": "12"},
			"annotations": kubetest.Object{"slurmk8s.io/user": "ada"}},
		"spec": kubetest.Object{"desiredState": "Teardown"},
		"status": kubetest.Object{"state": "Teardown", "ready": ready, "status": "DriverWait", "drivers": []any{
			kubetest.Object{"watchState": "Setup", "status": setupStatus, "dwdIndex": 0},
		}},
	}
}

// onHost lists what is kept for jobs; squeue prints the line, and scancel writes down what
// it is asked.
func onHost(t *testing.T, object kubetest.Object, squeue string, pending ...string) (objects []duty.Object, api *kubetest.Workflows, dir string) {
	t.Helper()
	api = kubetest.NewWorkflows(t)
	api.Change(func(kubetest.Object) kubetest.Object { return object })
	dir = t.TempDir()
	for name, script := range map[string]string{
		"squeue":  "case \"$*\" in *%i*) echo '12|12|';; *) echo '" + squeue + "';; esac",
		"scancel": "echo \"$@\" >" + filepath.Join(dir, "cancelled"),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	cfg := slurmconf.Default()
	cfg.Cluster, cfg.SlurmBinDir, cfg.StateDir = "hpc", dir, filepath.Join(dir, "state")
	log := logrus.New()
	log.SetOutput(t.Output())
	client, err := kube.For(cfg, api.Kubeconfig(), "test", logrus.NewEntry(log))
	require.NoError(t, err)
	for _, id := range []uint32{12, 13} {
		require.NoError(t, os.MkdirAll(filepath.Join(cfg.StateDir, fmt.Sprint("job.", id)), 0o700))
	}
	if len(pending) > 0 {
		require.NoError(t, Files(cfg.StateDir).ChangeAway(t.Context(), 12, func(a *Away) { a.Pending = pending }))
	}
	objects, err = Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: client, Log: logrus.NewEntry(log)})
	require.NoError(t, err)
	require.Len(t, objects, 2+min(len(pending), 1), "the Workflow, the files of a job without one, and what it is kept away from")
	return objects, api, dir
}

func TestAWorkflowIsFinishedWhenItsTeardownIsDone(t *testing.T) {
	objects, _, dir := onHost(t, kept(false, "Completed"), "12|PENDING|ada|")
	assert.Equal(t, "workflow slurm/bb12", objects[0].Name)
	assert.Equal(t, "ada", objects[0].User)
	assert.Equal(t, "Teardown", objects[0].State)
	assert.Equal(t, "Teardown, DriverWait", objects[0].Detail)
	assert.False(t, objects[0].Made.IsZero())
	assert.False(t, objects[0].Finished)
	assert.Equal(t, fmt.Sprintf("files of job 13 in %s/state", dir), objects[1].Name)

	objects, _, _ = onHost(t, kept(true, "Completed"), "12|PENDING|ada|")
	assert.True(t, objects[0].Finished)
	assert.Equal(t, "Teardown, ready", objects[0].Detail)
}

func TestAJobThatCannotRunIsCancelledWithItsWorkflow(t *testing.T) {
	tests := []struct {
		name, setup, squeue string
		cancelled           string
		pending             []string
	}{
		{"it failed before it could start, and waits", "Error", "12|PENDING|ada|", "12\n", nil},
		{"it failed on its nodes, and goes back", "Error", "12|PENDING|ada|", "", []string{"c1"}},
		{"it failed before it could start, and is over", "Error", "12|CANCELLED|ada|", "", nil},
		{"it waits for its next run", "Completed", "12|REQUEUED|ada|", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects, api, dir := onHost(t, kept(true, tt.setup), tt.squeue, tt.pending...)
			require.NoError(t, objects[0].Remove(t.Context()))
			assert.Equal(t, 1, api.Count("DELETE", "workflows/bb12"))
			assert.NoDirExists(t, filepath.Join(dir, "state", "job.12"))
			cancelled, _ := os.ReadFile(filepath.Join(dir, "cancelled"))
			assert.Equal(t, tt.cancelled, string(cancelled))
		})
	}
}
