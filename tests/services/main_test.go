// Package services tests the services of jobs against a real API server: what is
// written, who may write it, and what is left in the end.
package services

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
)

const cluster = "alps"

var shared apiserver.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// world is an administrator's view of one namespace.
type world struct {
	t         *testing.T
	server    *apiserver.Server
	admin     dynamic.Interface
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, shared.Server(t))
}

func newWorldOf(t *testing.T, s *apiserver.Server) *world {
	t.Helper()
	w := &world{t: t, server: s, admin: s.Admin(t)}
	w.namespace = apiserver.NewNamespace(t, w.admin, "services")
	return w
}

func (w *world) client(kubeconfig string) *kube.Client {
	w.t.Helper()
	client, err := kube.New(kube.Options{
		Kubeconfig: kubeconfig, RequestTimeout: 5 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t),
	})
	require.NoError(w.t, err)
	return client
}

// registrar is step "batch" of a job on node c1, with all rights.
func (w *world) registrar(id uint32) *service.Registrar {
	return &service.Registrar{
		Kube: w.client(w.server.Kubeconfig()),
		Job:  job.Job{Cluster: cluster, ID: id, UID: 1000, User: "alice"},
		Step: "batch", Node: "c1", Address: netip.MustParseAddr("10.1.0.1"),
		LeaseDuration: 90 * time.Second,
		Alive:         func(_ context.Context, c service.Claim) (bool, error) { return c.Renewed, nil },
		Log:           apiserver.Log(w.t),
	}
}

// specs are those of a text, in the test's namespace.
func (w *world) specs(text string) []service.Spec {
	w.t.Helper()
	specs, err := service.Parse(text, nil)
	require.NoError(w.t, err)
	for i := range specs {
		specs[i].Namespace = w.namespace
	}
	return specs
}

func (w *world) get(gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(gvr).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return u
}

// names lists what of the bridge's is in the namespace: "services/jupyter".
func (w *world) names() []string {
	w.t.Helper()
	var names []string
	for _, gvr := range []schema.GroupVersionResource{job.Leases, service.Services, service.EndpointSlices, service.Endpoints} {
		list, err := w.admin.Resource(gvr).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{})
		require.NoError(w.t, err)
		for _, u := range list.Items {
			names = append(names, gvr.Resource+"/"+u.GetName())
		}
	}
	return names
}

// delete takes an object of the bridge's away, as an administrator might.
func (w *world) delete(gvr schema.GroupVersionResource, name string) {
	w.t.Helper()
	require.NoError(w.t, w.admin.Resource(gvr).Namespace(w.namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}))
}

// create makes an object that is not the bridge's.
func (w *world) create(gvr schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(gvr).Namespace(w.namespace).Create(w.t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{FieldManager: "kubectl"})
	require.NoError(w.t, err)
	return u
}

// endpoint is address and conditions of a slice: "10.1.0.1 ready=true serving=true terminating=false".
func (w *world) endpoint(slice string) string {
	w.t.Helper()
	endpoints, _, err := unstructured.NestedSlice(w.get(service.EndpointSlices, slice).Object, "endpoints")
	require.NoError(w.t, err)
	require.Len(w.t, endpoints, 1)
	e := endpoints[0].(map[string]any)
	c := e["conditions"].(map[string]any)
	return fmt.Sprintf("%v ready=%v serving=%v terminating=%v", e["addresses"].([]any)[0], c["ready"], c["serving"], c["terminating"])
}
