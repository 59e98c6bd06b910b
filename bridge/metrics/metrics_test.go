package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func fold(t *testing.T, d Dir, removed, left int) string {
	t.Helper()
	textfile := filepath.Join(t.TempDir(), "slurmk8s.prom")
	require.NoError(t, d.Fold(textfile, removed, left, time.Unix(1700000000, 0)))
	text, err := os.ReadFile(textfile)
	require.NoError(t, err)
	info, err := os.Stat(textfile)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "node_exporter is another user")
	return string(text)
}

func TestHooksAreCountedOverSeveralFolds(t *testing.T) {
	d := Dir(t.TempDir())
	d.Record("slurm_bb_setup", 0, 15*time.Millisecond)
	d.Record("slurm_bb_setup", 3, 90*time.Second)
	fold(t, d, 2, 1)
	d.Record("slurm_bb_setup", 0, time.Millisecond)
	text := fold(t, d, 1, 0)
	for _, line := range []string{
		`slurmk8s_hook_runs_total{hook="slurm_bb_setup",code="0"} 2`,
		`slurmk8s_hook_runs_total{hook="slurm_bb_setup",code="3"} 1`,
		`slurmk8s_hook_duration_seconds_bucket{hook="slurm_bb_setup",le="0.005"} 1`,
		`slurmk8s_hook_duration_seconds_bucket{hook="slurm_bb_setup",le="0.02"} 2`,
		`slurmk8s_hook_duration_seconds_bucket{hook="slurm_bb_setup",le="60"} 2`,
		`slurmk8s_hook_duration_seconds_bucket{hook="slurm_bb_setup",le="300"} 3`,
		`slurmk8s_hook_duration_seconds_bucket{hook="slurm_bb_setup",le="+Inf"} 3`,
		`slurmk8s_hook_duration_seconds_sum{hook="slurm_bb_setup"} 90.016`,
		`slurmk8s_hook_duration_seconds_count{hook="slurm_bb_setup"} 3`,
		`slurmk8s_reconcile_removed_total 3`,
		`slurmk8s_reconcile_left 0`,
		`slurmk8s_reconcile_timestamp_seconds 1700000000`,
	} {
		assert.Contains(t, strings.Split(text, "\n"), line)
	}
}

func TestHooksBesideEachOtherLoseNoSample(t *testing.T) {
	d := Dir(t.TempDir())
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { d.Record("k8s_check", 0, time.Millisecond) })
	}
	all.Wait()
	assert.Contains(t, fold(t, d, 0, 0), `slurmk8s_hook_runs_total{hook="k8s_check",code="0"} 100`)
}

func TestWhatAKilledFoldTookIsCountedByTheNext(t *testing.T) {
	d := Dir(t.TempDir())
	d.Record("a", 0, 0)
	require.NoError(t, os.Rename(filepath.Join(string(d), samplesFile), filepath.Join(string(d), foldingFile)))
	d.Record("b", 0, 0)
	assert.Contains(t, fold(t, d, 0, 0), `runs_total{hook="a",code="0"} 1`)
	assert.Contains(t, fold(t, d, 0, 0), `runs_total{hook="b",code="0"} 1`)
}

func TestFilesThatMakeNoSenseAreBegunAnew(t *testing.T) {
	d := Dir(t.TempDir())
	for _, text := range []string{"", "{", "null", `{"hooks":{"a":null}}`, `{"hooks":{"a":{"codes":{},"below":[1]}}}`} {
		require.NoError(t, os.WriteFile(filepath.Join(string(d), sumsFile), []byte(text), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(string(d), samplesFile), []byte("a 0 5\na 0\n\nA\"} 0 1\na 0 7"), 0o600))
		assert.Contains(t, fold(t, d, 0, 0), `runs_total{hook="a",code="0"} 1`, text)
	}
}

func TestSamplesDoNotGrowWithoutEnd(t *testing.T) {
	d := Dir(t.TempDir())
	path := filepath.Join(string(d), samplesFile)
	require.NoError(t, os.WriteFile(path, make([]byte, maxSamplesBytes+1), 0o600))
	d.Record("a", 0, 0)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, maxSamplesBytes+1, info.Size())
	Dir("/nonexistent").Record("a", 0, 0) // and a directory that is not there harms nobody
}

func TestATextfileThatCannotBeWrittenIsSaid(t *testing.T) {
	d := Dir(t.TempDir())
	err := d.Fold("/nonexistent/slurmk8s.prom", 0, 0, time.Now())
	require.Error(t, err)
	assert.Contains(t, err.Error(), "/nonexistent")
}
