package rundir

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMakeRefusesADirectoryThatOthersWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, Make(dir))
	require.NoError(t, Make(dir), "it may be there")
	require.NoError(t, os.Chmod(dir, 0o777))
	require.ErrorContains(t, Make(dir), dir+" is not a directory of root's alone")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	require.ErrorContains(t, Make(link), "is not a directory of root's alone")
}

func TestWriteReplacesAtOnceAndLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	require.NoError(t, Write(path, "one", 0o644))
	require.NoError(t, Write(path, "two", 0o600))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "two", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	require.Error(t, Write(filepath.Join(dir, "gone", "x"), "x", 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	require.Error(t, Write(filepath.Join(dir, "d"), "x", 0o600))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 2, "x and d")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".new-x"), nil, 0o600)) // killed in the middle
	require.NoError(t, Remove(path))
	require.NoError(t, Remove(path), "it may be gone")
	files, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1, "d")
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	unlock, err := Lock(t.Context(), path)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Lock(short, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got := make(chan func(), 1)
	go func() {
		unlock, err := Lock(t.Context(), path)
		assert.NoError(t, err)
		got <- unlock
	}()
	unlock()
	select {
	case unlock := <-got:
		unlock()
	case <-time.After(10 * time.Second):
		t.Fatal("it was not let in")
	}
}
