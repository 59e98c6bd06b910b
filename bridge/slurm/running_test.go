package slurm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// squeue plays the command: a shell script.
func squeue(t *testing.T, script string) Commands {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squeue"), []byte("#!/bin/sh\n"+script), 0o755))
	return Commands{Dir: dir, Conf: "/nonexistent/slurm.conf"}
}

func TestRunning(t *testing.T) {
	c := squeue(t, `printf '1 RUNNING\n2 PENDING\n3 COMPLETED\n4 COMPLETING\n5 SUSPENDED\n6 REQUEUE_HOLD\n7 CONFIGURING\n8 NODE_FAIL\n'`)
	jobs, err := c.RunningJobs(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[uint32]bool{1: true, 4: true, 5: true, 7: true}, jobs)
	for id, want := range map[uint32]bool{1: true, 2: false, 3: false, 9: false} {
		got, err := c.Running(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, want, got, id)
	}
}

func TestAForgottenJobDoesNotRun(t *testing.T) {
	running, err := squeue(t, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1").Running(t.Context(), 5)
	require.NoError(t, err)
	assert.False(t, running)
}

func TestNoAnswerIsNoAnswer(t *testing.T) {
	for _, script := range []string{
		"echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
		"echo what", "echo x RUNNING",
	} {
		_, err := squeue(t, script).Running(t.Context(), 5)
		require.Error(t, err, script)
		_, err = squeue(t, script).RunningJobs(t.Context())
		require.Error(t, err, script)
	}
}

func TestAccount(t *testing.T) {
	account, err := squeue(t, `printf '4 other\n5 p1\n'`).Account(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, "p1", account)
	_, err = squeue(t, `printf '5 two words\n'`).Account(t.Context(), 5)
	require.Error(t, err)
}
