package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

func TestABundleWithoutAJobIsMadeChangedAndRemoved(t *testing.T) {
	dir, store := bundles(t), kubetest.NewStore(t)
	with := func(args ...string) result {
		args = append([]string{"bundle"}, args...)
		if args[1] != "down" {
			args = append(args, "--dir", dir)
		}
		return call(t, "", append(args, "--kubeconfig", store.Kubeconfig(), "--cluster", "c1", "--config", "/nonexistent")...)
	}
	assert.Equal(t, result{2, "+ configmap jobs/web\n", ""}, with("diff", "web", "ns=jobs", "port=8080"))
	assert.Empty(t, store.Paths())
	assert.Equal(t, result{0, "configmap jobs/web: created\nbundle web: ready in namespace jobs\n", ""}, with("up", "web", "ns=jobs", "port=8080"))
	assert.Equal(t, []string{"jobs/configmaps/web", "jobs/leases/slurm-c1.web"}, store.Paths())
	assert.Equal(t, result{0, "configmap jobs/web: changed\nbundle web: ready in namespace jobs\n", ""}, with("up", "web", "ns=jobs", "port=8081"))
	assert.Equal(t, result{0, "bundle web: ready in namespace jobs\n", ""}, with("up", "web", "ns=jobs", "port=8081"))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "web")))
	assert.Equal(t, result{0, "configmap jobs/web: delete\nbundle web: removed from namespace jobs\n", ""}, with("down", "web", "ns=jobs"))
	assert.Empty(t, store.Paths())
	assert.Equal(t, result{0, "there is no bundle web in namespace jobs that bundle up made\n", ""}, with("down", "web", "ns=jobs"))
}

func TestMistakesWithABundleWithoutAJob(t *testing.T) {
	dir := bundles(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"up", "web", "port=8080", "--dir", dir, "--kubeconfig", "x"}, "bundle web: ns= is missing"},
		{[]string{"up", "web", "ns=jobs", "--dir", dir}, "--kubeconfig FILE is required: an administrator's kubeconfig"},
		{[]string{"down", "web", "ns=jobs", "port=1", "--kubeconfig", "x"}, "bundle down takes a name and ns=NAMESPACE"},
		{[]string{"diff", "web", "ns=jobs", "--dir", dir, "--kubeconfig", "x", "--config", "/nonexistent"}, "(or say --cluster)"},
	} {
		got := call(t, "", append([]string{"bundle"}, tt.args...)...)
		assert.Equal(t, 1, got.status, tt.want)
		assert.Contains(t, got.stderr, tt.want)
	}
}
