package reconcile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// jobs are the numbers from..to.
func jobs(from, to uint32) []uint32 {
	var ids []uint32
	for id := from; id <= to; id++ {
		ids = append(ids, id)
	}
	return ids
}

func TestTheBrakeHoldsBackWhatIsMuch(t *testing.T) {
	tests := []struct {
		name      string
		all, over []uint32
		held      bool
	}{
		{"nothing", nil, nil, false},
		{"an idle cluster with one orphan", jobs(1, 1), jobs(1, 1), false},
		{"a handful is all that there is", jobs(1, 5), jobs(1, 5), false},
		{"more than a handful is all that there is", jobs(1, 6), jobs(1, 6), true},
		{"half", jobs(1, 12), jobs(1, 6), false},
		{"more than half", jobs(1, 12), jobs(1, 7), true},
		{"as many as max_removals", jobs(1, 1000), jobs(1, 50), false},
		{"more than max_removals", jobs(1, 1000), jobs(1, 51), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := Brake{File: filepath.Join(t.TempDir(), "held-back"), Max: 50}
			allowed, err := b.Hold(tt.all, tt.over, false)
			if tt.held {
				require.ErrorContains(t, err, "held back: ")
				assert.Empty(t, allowed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.over, allowed)
		})
	}
}

func TestWhatTheNextRunComesToAsWellIsRemoved(t *testing.T) {
	b := Brake{File: filepath.Join(t.TempDir(), "state", "held-back"), Max: 50}
	_, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
	require.Error(t, err)
	allowed, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
	require.NoError(t, err)
	assert.Equal(t, jobs(1, 8), allowed)

	// Fewer is the same, and more waits for its own second run.
	allowed, err = b.Hold(jobs(1, 10), jobs(2, 8), false)
	require.NoError(t, err)
	assert.Equal(t, jobs(2, 8), allowed)
	allowed, err = b.Hold(jobs(1, 10), jobs(2, 9), false)
	require.Error(t, err)
	assert.Equal(t, jobs(2, 8), allowed)
	allowed, err = b.Hold(jobs(9, 14), jobs(9, 14), false)
	require.Error(t, err)
	assert.Equal(t, jobs(9, 9), allowed)
}

func TestARunBetweenThatRemovesLittleIsForgetting(t *testing.T) {
	b := Brake{File: filepath.Join(t.TempDir(), "held-back"), Max: 50}
	_, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
	require.Error(t, err)
	_, err = b.Hold(jobs(1, 10), nil, false) // Slurm knows its jobs again
	require.NoError(t, err)
	allowed, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
	require.Error(t, err)
	assert.Empty(t, allowed)
}

func TestADryRunRemembersNothing(t *testing.T) {
	b := Brake{File: filepath.Join(t.TempDir(), "held-back"), Max: 50}
	for range 2 {
		allowed, err := b.Hold(jobs(1, 10), jobs(1, 8), true)
		require.ErrorContains(t, err, "held back")
		assert.Equal(t, jobs(1, 8), allowed, "to be printed")
	}
	_, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
	require.Error(t, err)
	_, err = b.Hold(jobs(1, 10), nil, true)
	require.NoError(t, err)
	assert.FileExists(t, b.File)
}

func TestABrakeThatCannotRememberStillHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	b := Brake{File: filepath.Join(file, "held-back"), Max: 50}
	for range 2 {
		allowed, err := b.Hold(jobs(1, 10), jobs(1, 8), false)
		require.Error(t, err)
		assert.Empty(t, allowed)
	}
}
