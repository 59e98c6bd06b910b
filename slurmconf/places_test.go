package slurmconf

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inSysconfdir makes the build's directory another one for a test.
func inSysconfdir(t *testing.T) string {
	t.Helper()
	before := sysconfdir
	sysconfdir = t.TempDir()
	t.Cleanup(func() { sysconfdir = before })
	return sysconfdir
}

func TestSlurmConfIsFoundInTheDirectoryOfTheBuild(t *testing.T) {
	dir := inSysconfdir(t)
	conf := filepath.Join(dir, "slurm.conf")
	require.NoError(t, os.WriteFile(conf, []byte("ClusterName=alps\n"), 0o644))
	config := filepath.Join(dir, "slurmk8s.toml")
	require.NoError(t, os.WriteFile(config, nil, 0o644))
	c, err := Load(config)
	require.NoError(t, err)
	assert.Equal(t, conf, c.SlurmConf)
	assert.Equal(t, "alps", c.Cluster)
	assert.Equal(t, filepath.Join(dir, "slurmk8s.kubeconfig"), c.Kubernetes.Kubeconfig)
	assert.Equal(t, filepath.Join(dir, "slurmk8s-node.kubeconfig"), c.Services.Kubeconfig)
}

// A configless node has its slurm.conf in /run: the test is in a mount namespace of its own
// so that it can have one there.
func TestAConfiglessHostHasItsSlurmConfInRun(t *testing.T) {
	const inside = "SLURMK8S_TEST_CONFIGLESS"
	if os.Getenv(inside) == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root: it mounts a directory of its own over /run")
		}
		cmd := exec.Command("unshare", "--mount", "--", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "tmpfs", "/run").Run())
	inSysconfdir(t)
	require.NoError(t, os.MkdirAll("/run/slurm/conf", 0o755))
	require.NoError(t, os.WriteFile("/run/slurm/conf/slurm.conf", []byte("ClusterName=cloud\n"), 0o644))
	require.NoError(t, os.WriteFile("/run/slurm/conf/burst_buffer.conf", []byte("Directive=BB\n"), 0o644))
	config := filepath.Join(sysconfdir, "slurmk8s.toml")
	require.NoError(t, os.WriteFile(config, nil, 0o644))
	c, err := Load(config)
	require.NoError(t, err)
	assert.Equal(t, "cloud", c.Cluster)
	assert.Equal(t, "BB", c.Workflows.Directive)

	require.NoError(t, os.WriteFile(filepath.Join(sysconfdir, "slurm.conf"), []byte("ClusterName=alps\n"), 0o644))
	c, err = Load(config)
	require.NoError(t, err)
	assert.Equal(t, "alps", c.Cluster, "Slurm's usual place comes first")
}

func TestAKubeletsCredentialIsFoundInItsUsualPlaces(t *testing.T) {
	before := kubeletKubeconfigs
	t.Cleanup(func() { kubeletKubeconfigs = before })
	dir := t.TempDir()
	kubeletKubeconfigs = nil
	for _, path := range before {
		kubeletKubeconfigs = append(kubeletKubeconfigs, dir+path)
	}
	found := func(text string) string {
		config := filepath.Join(dir, "slurmk8s.toml")
		require.NoError(t, os.WriteFile(config, []byte("cluster = 'alps'\n"+text), 0o644))
		c, err := Load(config)
		require.NoError(t, err)
		return c.Nodes.Kubeconfig
	}
	assert.Equal(t, dir+KubeletKubeconfig, found(""), "none is there")
	for i := len(before) - 1; i >= 0; i-- {
		require.NoError(t, os.MkdirAll(filepath.Dir(dir+before[i]), 0o755))
		require.NoError(t, os.WriteFile(dir+before[i], nil, 0o600))
		assert.Equal(t, dir+before[i], found(""))
	}
	assert.Equal(t, "/a/kubelet", found("[nodes]\nkubeconfig = '/a/kubelet'\n"))
}
