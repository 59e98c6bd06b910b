package state

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestADirectoryThatOthersWriteIntoIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, Dir(dir).Check(), "one that is missing is told by who needs it")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, Dir(dir).Check())
	for _, mode := range []os.FileMode{0o770, 0o777, 0o777 | os.ModeSticky} {
		require.NoError(t, os.Chmod(dir, mode))
		require.ErrorContains(t, Dir(dir).Check(), "is writable by others (mode 07", "%v", mode)
	}
}

// In a directory that was open once somebody left something under the names of our files.
func TestWhatStandsInTheBreakersPlaceIsNotWrittenTo(t *testing.T) {
	trip := func(t *testing.T, d Dir) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := d.Breaker(time.Hour)
			b.Begin()
			b.Trip()
			b.Open()
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("slurmctld would wait")
		}
	}
	t.Run("a link", func(t *testing.T) {
		d := Dir(t.TempDir())
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
		require.NoError(t, os.Symlink(victim, filepath.Join(string(d), "breaker")))
		trip(t, d)
		text, err := os.ReadFile(victim)
		require.NoError(t, err)
		assert.Equal(t, "precious", string(text))
	})
	t.Run("a FIFO", func(t *testing.T) {
		d := Dir(t.TempDir())
		require.NoError(t, syscall.Mkfifo(filepath.Join(string(d), "breaker"), 0o600))
		trip(t, d)
	})
}

// The other files are made again and renamed, which replaces whatever was there.
func TestALinkInPlaceOfAFileIsReplacedAndNotFollowed(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	d := Dir(t.TempDir())
	require.NoError(t, os.Mkdir(filepath.Join(string(d), "job.7"), 0o700))
	for _, name := range []string{"judged.7", "job.7/env"} {
		require.NoError(t, os.Symlink(victim, filepath.Join(string(d), name)))
	}
	require.NoError(t, d.WriteJudged(7, []byte("#DW x\n")))
	_, err := d.WriteEnv(7, map[string]string{"A": "1"})
	require.NoError(t, err)
	assert.Equal(t, "A=1\n", read(t, d, "7"))
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text))
}
