package probe

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAFileSaysIsAPort(t *testing.T) {
	const scheduler = `{"type": "Scheduler", "address": "tcp://10.0.0.1:8786", "services": {"dashboard": 8787, "other": 9000}, "workers": {}}`
	for text, want := range map[string]any{
		"8787":                             8787,
		" 8787\n":                          8787,
		scheduler:                          8787,
		`{"services": {"web": 9001}}`:      9001,
		"":                                 "it says no port",
		"0":                                "it says no port",
		"65536":                            "it says no port",
		"tcp://h:8787":                     "it says no port",
		scheduler[:len(scheduler)-1]:       "not whole as JSON",
		`{"services": {}}`:                 "it has no services.dashboard",
		`{"services": {"dashboard": "x"}}`: "it says no port",
	} {
		port, err := portOf(text, "web")
		if number, ok := want.(int); ok {
			require.NoError(t, err, text)
			assert.EqualValues(t, number, port, text)
		} else {
			assert.EqualError(t, err, want.(string), text)
		}
	}
	port, err := portOf(scheduler, "other")
	require.NoError(t, err)
	assert.EqualValues(t, 9000, port, "the service of the port's name")
}

func TestAPortIsReadWhenTheFileIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scheduler.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"services": {"dash`), 0o600))
	done := make(chan uint16, 1)
	go func() {
		port, _ := ReadPort(t.Context(), path, "")
		done <- port
	}()
	require.NoError(t, os.WriteFile(path, []byte(`{"services": {"dashboard": 8787}}`), 0o600))
	assert.EqualValues(t, 8787, <-done)
}

func TestNoFileHoldsTheReader(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	large, err := os.Create(filepath.Join(dir, "large"))
	require.NoError(t, err)
	require.NoError(t, large.Truncate(1<<40))
	for name, want := range map[string]string{"fifo": "not a plain file", ".": "not a plain file", "large": "it says no port", "absent": "no such file"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := ReadPort(ctx, filepath.Join(dir, name), "")
		cancel()
		require.Error(t, err, name)
		assert.True(t, strings.Contains(err.Error(), want), "%s: %v", name, err)
	}
}
