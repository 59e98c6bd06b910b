package slurm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVersionOfEachDistribution(t *testing.T) {
	dir := t.TempDir()
	for answer, want := range map[string]Version{
		"slurm 24.11.5":          {24, 11, 5},
		"slurm-wlm 22.05.8":      {22, 5, 8},
		"slurm 26.05.0-0rc1":     {26, 5, 0},
		"something else 1.2.3\n": {},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o755))
		got, err := Commands{Dir: dir}.Version(t.Context())
		assert.Equal(t, want, got, answer)
		assert.Equal(t, want == Version{}, err != nil, answer)
	}
	assert.True(t, Version{23, 2, 7}.AtLeast(23, 2, 7))
	assert.False(t, Version{23, 2, 6}.AtLeast(23, 2, 7))
	assert.True(t, Version{24, 5, 0}.AtLeast(23, 11, 9))
	assert.False(t, Version{22, 5, 9}.AtLeast(23, 2, 0))
	assert.Equal(t, "22.05.8", Version{22, 5, 8}.String())
}
