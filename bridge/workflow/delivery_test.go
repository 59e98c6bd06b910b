package workflow

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/slurmconf"
)

var delivered = &Delivery{Of: "bb7:u1", Env: map[string]string{"DW_JOB_x": "/mnt/x y"}}

func TestWhatANodeKeepsIsForRootOnly(t *testing.T) {
	files := NodeFiles(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, files.Keep(7, 1000, 1000, delivered))
	text, err := os.ReadFile(filepath.Join(string(files), "storage.7/env"))
	require.NoError(t, err)
	assert.Equal(t, "SETENV_DW_JOB_x=/mnt/x y\x00UID=1000\x00WORKFLOW=bb7:u1\x00\x00", string(text))
	for path, mode := range map[string]os.FileMode{"storage.7": os.ModeDir | 0o711, "storage.7/env": 0o600} {
		info, err := os.Stat(filepath.Join(string(files), path))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode(), path)
	}
}

func TestWhatANodeKeepsOfAFormerRunIsReplaced(t *testing.T) {
	files := NodeFiles(t.TempDir())
	require.NoError(t, files.Keep(7, 1000, 1000, delivered))
	require.NoError(t, files.Keep(7, 1001, 1001, &Delivery{Of: "bb7:u2"}))
	text, err := os.ReadFile(filepath.Join(string(files), "storage.7/env"))
	require.NoError(t, err)
	assert.Equal(t, "UID=1001\x00WORKFLOW=bb7:u2\x00\x00", string(text))
}

func TestADirectoryOfAUserInPlaceOfTheNodesIsRefused(t *testing.T) {
	files := NodeFiles(t.TempDir())
	require.NoError(t, os.Mkdir(files.dir(7), 0o777))
	require.NoError(t, os.Chmod(files.dir(7), 0o777))
	assert.ErrorContains(t, files.Keep(7, 1000, 1000, delivered), "writable by others")
	require.NoError(t, os.Remove(files.dir(7)))
	elsewhere := t.TempDir()
	require.NoError(t, os.Symlink(elsewhere, files.dir(7)))
	assert.ErrorContains(t, files.Keep(7, 1000, 1000, delivered), "not a directory")
	assert.NoFileExists(t, filepath.Join(elsewhere, "env"))
}

func TestReconcileOnANodeRemovesWhatItsEpilogDidNot(t *testing.T) {
	cfg := slurmconf.Default()
	cfg.Services.RunDir = t.TempDir()
	files := NodeFiles(cfg.Services.RunDir)
	require.NoError(t, files.Keep(7, 1000, 1000, delivered))
	require.NoError(t, os.WriteFile(filepath.Join(files.dir(7), ".new-env-1"), nil, 0o600), "of a program that was killed")
	objects, err := Duty{}.ListHere(t.Context(), duty.Host{Config: cfg, Node: "c1"})
	require.NoError(t, err)
	require.Len(t, objects, 1)
	assert.Equal(t, "storage files of job 7 on node c1", objects[0].Name)
	assert.True(t, objects[0].Allocation && objects[0].Node == "c1" && objects[0].JobID == 7)
	require.NoError(t, objects[0].Remove(t.Context()))
	assert.NoDirExists(t, files.dir(7))
	require.NoError(t, objects[0].Remove(t.Context()), "the epilog was faster")
}
