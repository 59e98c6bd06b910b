package slurmconf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlugstackIsReadAsSlurmReadsIt(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	main := write("plugstack.conf", "# optional /no.so\nrequired /a.so x=1 y=2 # why\n\ninclude more.d/*.conf\ninclude none.d/*\nrubbish\n")
	two := write("more.d/2.conf", "optional c.so\n")
	one := write("more.d/1.conf", "\noptional /b.so\n")
	plugins, err := ReadPlugstack(main)
	require.NoError(t, err)
	assert.Equal(t, []SpankPlugin{
		{File: main, Line: 2, Required: true, Path: "/a.so", Args: []string{"x=1", "y=2"}},
		{File: one, Line: 2, Path: "/b.so", Args: []string{}},
		{File: two, Line: 1, Path: "c.so", Args: []string{}},
	}, plugins)

	_, err = ReadPlugstack(filepath.Join(dir, "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadPlugstack(write("loop.conf", "include loop.conf\n"))
	assert.ErrorContains(t, err, "include each other")
}

func TestWherePlugstackIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slurm.conf")
	require.NoError(t, os.WriteFile(path, []byte("ClusterName=x\n"), 0o644))
	assert.Equal(t, filepath.Join(filepath.Dir(path), "plugstack.conf"), PlugstackPath(path))
	require.NoError(t, os.WriteFile(path, []byte("PlugStackConfig=/other/plugstack.conf\n"), 0o644))
	assert.Equal(t, "/other/plugstack.conf", PlugstackPath(path))
}

func TestControllersAreAllHostsOfSlurmctld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slurm.conf")
	require.NoError(t, os.WriteFile(path, []byte("SlurmctldHost=one(10.0.0.1)\nslurmctldhost=two\n"), 0o644))
	assert.Equal(t, []string{"one", "two"}, Controllers(path))
	require.NoError(t, os.WriteFile(path, []byte("ControlMachine=old\nBackupController=older\n"), 0o644))
	assert.Equal(t, []string{"old", "older"}, Controllers(path))
}
