package apiserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	nodes      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

// TestAPITier is one test with one server: its parts follow each other.
func TestAPITier(t *testing.T) {
	server := ForTest(t, Options{})
	admin := client(t, server.Config())

	t.Run("the administrator's kubeconfig file gives access", func(t *testing.T) {
		config, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig())
		require.NoError(t, err)
		_, err = client(t, config).Resource(namespaces).Get(t.Context(), "default", metav1.GetOptions{})
		require.NoError(t, err)
	})

	t.Run("a user without a role is known and may do nothing", func(t *testing.T) {
		path, err := server.UserKubeconfig("slurm:alice", "users")
		require.NoError(t, err)
		config, err := clientcmd.BuildConfigFromFlags("", path)
		require.NoError(t, err)
		_, err = client(t, config).Resource(namespaces).List(t.Context(), metav1.ListOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.Contains(t, err.Error(), "slurm:alice")
	})

	t.Run("a kubelet may cordon its own node and no other", func(t *testing.T) {
		for _, name := range []string{"c1", "c2"} {
			node := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name},
			}}
			_, err := admin.Resource(nodes).Create(t.Context(), node, metav1.CreateOptions{})
			require.NoError(t, err)
		}
		config, err := server.UserConfig("system:node:c1", "system:nodes")
		require.NoError(t, err)
		cordon := func(name string) error {
			_, err := client(t, config).Resource(nodes).Patch(t.Context(), name, types.MergePatchType,
				[]byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
			return err
		}
		require.NoError(t, cordon("c1"))
		assert.True(t, apierrors.IsForbidden(cordon("c2")))
	})

	t.Run("data, address and credentials survive an outage", func(t *testing.T) {
		server.StopAPIServer()
		_, err := admin.Resource(nodes).Get(t.Context(), "c1", metav1.GetOptions{})
		require.ErrorContains(t, err, "connection refused")
		require.NoError(t, server.StartAPIServer(t.Context()))
		_, err = admin.Resource(nodes).Get(t.Context(), "c1", metav1.GetOptions{})
		require.NoError(t, err)
	})

	t.Run("a paused server hangs until it is resumed", func(t *testing.T) {
		require.NoError(t, server.PauseAPIServer())
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := admin.Resource(nodes).Get(ctx, "c1", metav1.GetOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, server.ResumeAPIServer())
		_, err = admin.Resource(nodes).Get(t.Context(), "c1", metav1.GetOptions{})
		require.NoError(t, err)
	})

	t.Run("nothing is left after Close", func(t *testing.T) {
		api, etcd := server.api, server.etcd
		server.Close()
		assert.False(t, api.running())
		assert.False(t, etcd.running())
		assert.NoDirExists(t, server.Dir)
	})
}

func TestAMissingBinaryIsNamedWithTheCommandThatMakesIt(t *testing.T) {
	bin := emptyBin(t)
	for _, name := range []string{"etcd", "kube-apiserver"} {
		_, err := Start(t.Context(), Options{KubernetesVersion: "v1.2.3"})
		require.ErrorContains(t, err, "run KUBERNETES_VERSION=v1.2.3 tests/kubernetes/build.sh "+name)
		script(t, filepath.Join(bin, name), "exit 1")
	}
}

func TestAServerThatEndsEarlyIsReportedWithItsLog(t *testing.T) {
	bin := emptyBin(t)
	script(t, filepath.Join(bin, "etcd"), "exec sleep 60")
	script(t, filepath.Join(bin, "kube-apiserver"), "echo 'unknown flag: --wrong'; exit 1")
	_, err := Start(t.Context(), Options{KubernetesVersion: "v1.2.3"})
	require.ErrorContains(t, err, "kube-apiserver ended early")
	require.ErrorContains(t, err, "unknown flag: --wrong")
}

func TestAPortThatIsTakenIsTriedAgainWithAnother(t *testing.T) {
	bin := emptyBin(t)
	script(t, filepath.Join(bin, "etcd"), "exec sleep 60")
	script(t, filepath.Join(bin, "kube-apiserver"), "echo started >>"+bin+"/starts; echo 'bind: address already in use'; exit 1")
	_, err := Start(t.Context(), Options{KubernetesVersion: "v1.2.3"})
	require.ErrorIs(t, err, errPortTaken)
	starts, err := os.ReadFile(filepath.Join(bin, "starts"))
	require.NoError(t, err)
	assert.Equal(t, 3, strings.Count(string(starts), "started"))
}

// emptyBin is the folder of the binaries of Kubernetes v1.2.3, in a cache of the test's own.
func emptyBin(t *testing.T) string {
	t.Helper()
	cache := t.TempDir()
	t.Setenv("SLURMK8S_CACHE", cache)
	bin := filepath.Join(cache, "kubernetes", "v1.2.3", "bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	return bin
}

func script(t *testing.T, path, body string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
}

func client(t *testing.T, config *rest.Config) dynamic.Interface {
	t.Helper()
	c, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	return c
}
