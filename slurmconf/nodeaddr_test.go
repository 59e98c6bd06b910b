package slurmconf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNodeAddr(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "slurm.conf")
	require.NoError(t, os.WriteFile(path, []byte(`
NodeName=DEFAULT CPUs=2
NodeName=c[1-3] NodeAddr=10.0.0.[11-13] State=UNKNOWN
NodeName=h1 NodeHostname=real1
nodename=v6 nodeaddr=fd00::1
NodeName=w[1-2] NodeAddr=fd00::[1-2]
NodeName=r[1-2]n[1-2] NodeAddr=2001:db8::1:[11-14]
NodeName=alone CPUs=4
Include nodes.conf
`), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nodes.conf"), []byte("NodeName=i[01-02] \\\n NodeAddr=ib[01-02].x\n"), 0o644))
	for node, want := range map[string]string{
		"c2": "10.0.0.12", "h1": "real1", "alone": "alone", "i02": "ib02.x", "v6": "fd00::1", "w2": "fd00::2", "r2n1": "2001:db8::1:13", "unknown": "unknown", "DEFAULT": "DEFAULT",
	} {
		got, err := NodeAddr(path, node)
		require.NoError(t, err)
		assert.Equal(t, want, got, node)
	}
	got, err := NodeAddr("/nonexistent", "c1")
	require.Error(t, err)
	assert.Equal(t, "c1", got)
}
