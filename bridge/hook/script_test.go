package hook

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestScriptOfAnArrayTaskIsTheArrays(t *testing.T) {
	state, bin := t.TempDir(), t.TempDir()
	squeue := "#!/bin/sh\necho '126|112_10|'\necho '12|12|'\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "squeue"), []byte(squeue), 0o755))
	ofArray := filepath.Join(state, "hash.2", "job.112", "script")
	require.NoError(t, os.MkdirAll(filepath.Dir(ofArray), 0o700))
	require.NoError(t, os.WriteFile(ofArray, []byte("#!/bin/sh\n"), 0o600))

	for _, tt := range []struct {
		name, path, want string
		id               uint32
	}{
		{"a task", filepath.Join(state, "hash.6", "job.126", "script"), ofArray, 126},
		{"the file is there", ofArray, ofArray, 112},
		{"a plain job without its script", filepath.Join(state, "hash.2", "job.12", "script"), filepath.Join(state, "hash.2", "job.12", "script"), 12},
		{"a memory file of Slurm", "/proc/1/fd/99999", "/proc/1/fd/99999", 126},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &call{job: &workflow.Job{Job: job.Job{ID: tt.id}, ScriptPath: tt.path}, cfg: &slurmconf.Config{SlurmBinDir: bin}}
			require.NoError(t, c.findScript(t.Context()))
			require.Equal(t, tt.want, c.job.ScriptPath)
		})
	}
}

func TestTheDirectoryMadeForAnArraysTaskIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "job.12")
	c := &call{job: &workflow.Job{Job: job.Job{ID: 12}, ScriptPath: filepath.Join(dir, "script")}}
	c.removePaths() // nothing there

	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "path"), nil, 0o600))
	c.removePaths()
	require.NoDirExists(t, dir)

	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{"script", "path"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	c.removePaths()
	require.FileExists(t, filepath.Join(dir, "path"), "Slurm's own directory")
}
