package hostfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
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
	require.ErrorContains(t, Make(dir), dir+" is writable by others (mode 0777): run \"chmod go-w "+dir+"\"")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	require.ErrorContains(t, Make(link), "is not a directory")
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
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".new-x-123"), nil, 0o600)) // killed in the middle
	require.NoError(t, Remove(path))
	require.NoError(t, Remove(path), "it may be gone")
	files, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1, "d")
}

func TestADirectoryOfAnotherServiceNeedsToBePrivateOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, CheckPrivate(dir), "the caller reports a missing one")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, CheckPrivate(dir))
	for _, mode := range []os.FileMode{0o770, 0o777, 0o777 | os.ModeSticky} {
		require.NoError(t, os.Chmod(dir, mode))
		require.ErrorContains(t, CheckPrivate(dir), "is writable by others (mode 07", "%v", mode)
	}
}

func TestWritersAtOnceMixNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	var writers sync.WaitGroup
	for _, text := range []string{"A=1\nB=1\n", "A=2\nB=2\n"} {
		writers.Go(func() {
			for range 30 {
				assert.NoError(t, Write(path, text, 0o600))
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		text, err := Read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		assert.Contains(t, []string{"A=1\nB=1\n", "A=2\nB=2\n"}, text)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, files, 1, "no temporary file is left")
}

func TestWriteAsMakesAFileOfItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	path := filepath.Join(t.TempDir(), "x")
	of := &Owner{UID: 65534, GID: 65533}
	require.NoError(t, WriteAs(path, "text", 0o640, of))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, of.Has(info))
	assert.Equal(t, os.FileMode(0o640), info.Mode())
}

func TestTheJobsThatHaveAFile(t *testing.T) {
	dir := t.TempDir()
	none, err := Jobs(filepath.Join(dir, "gone"), "job.")
	require.NoError(t, err)
	assert.Empty(t, none)
	for _, name := range []string{"job.7", "job.4294967295", "job.x", "job.", "job.4294967296", "job.-1", "breaker", "refuse.9"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	jobs, err := Jobs(dir, "job.")
	require.NoError(t, err)
	require.Len(t, jobs, 2)
	assert.ElementsMatch(t, []uint32{7, 4294967295}, []uint32{jobs[0].ID, jobs[1].ID})
	assert.WithinDuration(t, time.Now(), jobs[0].Made, time.Minute)
	assert.FileExists(t, OfJob(dir, "job.", 7))
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
