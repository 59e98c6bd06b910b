package metrics

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A hook counts itself under Slurm's locks: it writes to no file but its own, and waits
// for nobody.
func TestWhatStandsInTheSamplesPlaceIsNotWrittenTo(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	for name, place := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(victim, path) },
		"a FIFO": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, place(filepath.Join(dir, samplesFile)))
			done := make(chan struct{})
			go func() { defer close(done); Dir(dir).Record("x", 0, time.Second) }()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Fatal("it waits")
			}
			text, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(text))
		})
	}
}
