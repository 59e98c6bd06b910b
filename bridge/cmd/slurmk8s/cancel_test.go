package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// A job that is cancelled while one of its hooks runs may lose its teardown.
func TestAJobIsCancelledBetweenItsHooks(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	squeue := `#!/bin/sh
echo >>` + asked + `
case $(wc -l <` + asked + `) in
	1) echo "12 teardown" ;;
	2) echo "12 staging-in" ;;
	3) echo "12 teardown" ;;
	*) echo "12 complete" ;;
esac
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squeue"), []byte(squeue), 0o755))
	require.NoError(t, settle(t.Context(), slurm.Commands{Dir: dir}, 12))
	lines, err := os.ReadFile(asked)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(lines), "\n"), "until no hook runs")
}
