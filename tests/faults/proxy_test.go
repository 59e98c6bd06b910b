package faults

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"slurmk8s.io/slurmk8s/tests/eventually"
)

const ns = "slurm"

// client is a client-go client behind a proxy, made from the kubeconfig alone,
// and a context that keeps a broken test from waiting.
func client(t *testing.T, p *Proxy) (dynamic.ResourceInterface, context.Context) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, p.WriteKubeconfig(path, ns))
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	d, err := dynamic.NewForConfig(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return d.Resource(workflows).Namespace(ns), ctx
}

func start(t *testing.T, upstream *rest.Config, o Options) *Proxy {
	t.Helper()
	p, err := Start(upstream, o)
	require.NoError(t, err)
	p.Begin()
	t.Cleanup(p.Close)
	return p
}

func fault(t *testing.T, name string) Fault {
	t.Helper()
	f, ok := ByName(name)
	require.True(t, ok, name)
	return f
}

func newWorkflow(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": workflows.GroupVersion().String(), "kind": "Workflow",
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"desiredState": "Proposal"},
	}}
}

func TestProxyPassesRequestsAndRecordsThem(t *testing.T) {
	for name, http1 := range map[string]bool{"HTTP/2": false, "HTTP/1.1": true} {
		t.Run(name, func(t *testing.T) {
			api := startFakeAPI(t)
			p := start(t, api.config(), Options{HTTP1: http1})
			c, ctx := client(t, p)

			_, err := c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{FieldManager: "slurmk8s"})
			require.NoError(t, err)
			_, err = c.Patch(ctx, "bb1", types.MergePatchType, []byte(`{"spec":{"desiredState":"Setup"}}`), metav1.PatchOptions{})
			require.NoError(t, err)
			got, err := c.Get(ctx, "bb1", metav1.GetOptions{})
			require.NoError(t, err)
			desired, _, _ := unstructured.NestedString(got.Object, "spec", "desiredState")
			assert.Equal(t, "Setup", desired)
			_, err = c.Get(ctx, "none", metav1.GetOptions{})
			assert.True(t, apierrors.IsNotFound(err), "upstream's own errors pass: %v", err)

			var lines []string
			for _, r := range p.Requests() {
				lines = append(lines, r.String())
			}
			assert.Equal(t, []string{
				"1 create workflows?fieldManager=slurmk8s",
				"2 patch workflows/bb1",
				"3 get workflows/bb1",
				"4 get workflows/none",
			}, lines)
			assert.Equal(t, "/apis/dataworkflowservices.github.io/v1alpha7/namespaces/slurm/workflows/bb1", p.Requests()[2].Path)
			assert.NoError(t, p.Err())
			assert.False(t, p.Struck())
		})
	}
}

func TestProxyDisturbsNothingBeforeTheBeginning(t *testing.T) {
	api := startFakeAPI(t)
	p, err := Start(api.config(), Options{Plan: Plan{Fault: fault(t, "403"), At: 1}})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	c, ctx := client(t, p)
	_, err = c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Empty(t, p.Requests())
	p.Begin()
	_, err = c.Get(ctx, "bb1", metav1.GetOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
	p.Begin() // again, by a hook that is run again
	assert.Len(t, p.Requests(), 1)
}

func TestProxyStreamsWatchEventsWithoutDelay(t *testing.T) {
	for name, http1 := range map[string]bool{"HTTP/2": false, "HTTP/1.1": true} {
		t.Run(name, func(t *testing.T) {
			api := startFakeAPI(t)
			p := start(t, api.config(), Options{HTTP1: http1})
			c, ctx := client(t, p)
			w, err := c.Watch(ctx, metav1.ListOptions{})
			require.NoError(t, err, "a watch is accepted before its first event")
			defer w.Stop()
			_, err = c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{})
			require.NoError(t, err)
			assert.Equal(t, watch.Added, next(t, w).Type)
			assert.Equal(t, watch.Modified, next(t, w).Type, "the fake's settling, while the stream goes on")
		})
	}
}

func TestProxyRefusesAnotherCredentialAndTellsIt(t *testing.T) {
	api := startFakeAPI(t)
	p := start(t, api.config(), Options{})
	d, err := dynamic.NewForConfig(&rest.Config{Host: p.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	require.NoError(t, err)
	_, err = d.Resource(workflows).Namespace(ns).Get(t.Context(), "bb1", metav1.GetOptions{})
	assert.True(t, apierrors.IsUnauthorized(err), "%v", err)
	assert.ErrorContains(t, p.Err(), "not made with the proxy's kubeconfig")
}

func TestProxyReportsAnUpstreamThatIsDown(t *testing.T) {
	api := startFakeAPI(t)
	cfg := api.config()
	p := start(t, cfg, Options{})
	c, ctx := client(t, p)
	api.server.Close()
	_, err := c.Get(ctx, "bb1", metav1.GetOptions{})
	require.Error(t, err)
	assert.ErrorContains(t, p.Err(), "upstream", "an unplanned fault must not pass for the planned one")
}

func TestKubeconfigIsForTheOwnerOnly(t *testing.T) {
	api := startFakeAPI(t)
	p := start(t, api.config(), Options{})
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, p.WriteKubeconfig(path, ns))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestKillFaultNeedsAProcess(t *testing.T) {
	api := startFakeAPI(t)
	_, err := Start(api.config(), Options{Plan: Plan{Fault: fault(t, "kill-after"), At: 1}})
	assert.ErrorContains(t, err, "Options.Kill")
}

func TestSelect(t *testing.T) {
	all, err := Select("")
	require.NoError(t, err)
	assert.Len(t, all, len(faults))
	some, err := Select("reset, 500")
	require.NoError(t, err)
	var got []string
	for _, f := range some {
		got = append(got, f.Name)
	}
	assert.Equal(t, []string{"reset", "reset-after", "500"}, got)
	_, err = Select("earthquake")
	assert.ErrorContains(t, err, "known: reset")
}

// next is the next event of w, or the test's end.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		require.True(t, ok, "the watch ended")
		return e
	case <-time.After(eventually.Patience):
		require.Fail(t, "no watch event")
		return watch.Event{}
	}
}
