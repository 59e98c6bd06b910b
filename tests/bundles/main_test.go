// Package bundles tests the objects of bundles against a real API server with its garbage
// collector and the controllers of Deployments: what is made and in which order, who may
// make it, and what is left in the end.
package bundles

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const cluster = "alps"

var (
	pods        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

	endpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

var shared = apiserver.Shared{Prepare: func(s *apiserver.Server) error {
	return s.StartControllers("garbage-collector-controller", "deployment-controller", "replicaset-controller")
}}

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
	s := shared.Server(t)
	w := &world{t: t, server: s, admin: s.Admin(t)}
	w.namespace = apiserver.NewNamespace(t, w.admin, "bundles")
	return w
}

func alive(is bool) func(context.Context, job.Job) (bool, error) {
	return func(context.Context, job.Job) (bool, error) { return is, nil }
}

// driver is that of a job: it marks the objects of a set as the expansion of a bundle does.
type driver struct{ *stage.Driver }

func (d driver) marked(set stage.Set) stage.Set {
	for _, list := range []*[]bundle.Phase{&set.Phases, &set.Last} {
		*list = slices.Clone(*list)
		for i, p := range *list {
			(*list)[i].Objects = nil
			for _, u := range p.Objects {
				u = u.DeepCopy()
				u.SetNamespace(set.Namespace)
				bundle.Mark(u, bundle.Facts{Job: d.Job}, set.Bundle, set.Instance)
				(*list)[i].Objects = append((*list)[i].Objects, u)
			}
		}
	}
	return set
}

func (d driver) Check(ctx context.Context, set stage.Set) error {
	return d.Driver.Check(ctx, d.marked(set))
}

func (d driver) Claim(ctx context.Context, set stage.Set) error {
	return d.Driver.Claim(ctx, d.marked(set))
}

func (d driver) Bring(ctx context.Context, set stage.Set, timeout time.Duration) error {
	return d.Driver.Bring(ctx, d.marked(set), timeout)
}

// driver is one with all rights, for which every other job lives.
func (w *world) driver(id uint32) driver {
	return w.over(id, func(next http.RoundTripper) http.RoundTripper { return next })
}

func (w *world) set(instance string, phases ...bundle.Phase) stage.Set {
	return stage.Set{Bundle: "test", Instance: instance, Namespace: w.namespace, Phases: phases, DeleteTimeout: eventually.Patience}
}

func phase(name, wait string, texts ...string) bundle.Phase {
	p := bundle.Phase{Name: name, Wait: wait}
	for _, text := range texts {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			panic(err)
		}
		// As JSON has its numbers.
		body, err := u.MarshalJSON()
		if err == nil {
			err = u.UnmarshalJSON(body)
		}
		if err != nil {
			panic(err)
		}
		p.Objects = append(p.Objects, u)
	}
	return p
}

func configMap(name string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}, data: {k: v}}"
}

func serviceOf(name string) string {
	return "{apiVersion: v1, kind: Service, metadata: {name: " + name + "}, spec: {selector: {app: " + name + "}, ports: [{port: 80}]}}"
}

func deploymentOf(name string, replicas int) string {
	return fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s}, spec: {replicas: %[2]d, selector: {matchLabels: {app: %[1]s}}, "+
		"template: {metadata: {labels: {app: %[1]s}}, spec: {containers: [{name: c, image: x}]}}}}", name, replicas)
}

func podOf(name string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {containers: [{name: c, image: x}]}}"
}

// names lists what of slurmk8s is in the namespace: "services/jupyter".
func (w *world) names() []string {
	w.t.Helper()
	names := []string{}
	for _, gvr := range []schema.GroupVersionResource{job.Leases, configMaps, services, deployments, pods} {
		list, err := w.admin.Resource(gvr).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{})
		require.NoError(w.t, err)
		for _, u := range list.Items {
			if u.GetName() != "kube-root-ca.crt" {
				names = append(names, gvr.Resource+"/"+u.GetName())
			}
		}
	}
	return names
}

func (w *world) get(gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(gvr).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return u
}

// create makes an object that is not slurmk8s's.
func (w *world) create(gvr schema.GroupVersionResource, text string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(gvr).Namespace(w.namespace).Create(w.t.Context(), phase("", "", text).Objects[0], metav1.CreateOptions{FieldManager: "kubectl"})
	require.NoError(w.t, err)
	return u
}

// setStatus writes a pod's status as its kubelet would.
func (w *world) setStatus(name, status string) {
	w.t.Helper()
	u := phase("", "", "{apiVersion: v1, kind: Pod, metadata: {name: "+name+"}, status: "+status+"}").Objects[0]
	body, err := u.MarshalJSON()
	require.NoError(w.t, err)
	_, err = w.admin.Resource(pods).Namespace(w.namespace).Patch(w.t.Context(), name, "application/merge-patch+json", body, metav1.PatchOptions{}, "status")
	require.NoError(w.t, err)
}

const running = "{phase: Running, podIP: 10.2.0.1, podIPs: [{ip: 10.2.0.1}], conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-02T03:04:05Z'}]}"

// kubelet makes every pod of the namespace run, and lets it go when it is deleted, until the
// test ends.
func (w *world) kubelet(status string) {
	ctx := w.t.Context()
	seen := []string{}
	go func() {
		for ctx.Err() == nil {
			list, err := w.admin.Resource(pods).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
			if err == nil {
				for _, u := range list.Items {
					if !slices.Contains(seen, string(u.GetUID())) {
						seen = append(seen, string(u.GetUID()))
						w.setStatus(u.GetName(), status)
					}
				}
			}
			_ = kube.Sleep(ctx, 20*time.Millisecond)
		}
	}()
}

// noRoom makes the quota q of the namespace, in which no pod has room.
func (w *world) noRoom() (quotas schema.GroupVersionResource) {
	w.t.Helper()
	quotas = schema.GroupVersionResource{Version: "v1", Resource: "resourcequotas"}
	w.create(quotas, "{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {pods: '0'}}}")
	_, err := w.admin.Resource(quotas).Namespace(w.namespace).Patch(w.t.Context(), "q", "application/merge-patch+json",
		[]byte(`{"status":{"hard":{"pods":"0"},"used":{"pods":"0"}}}`), metav1.PatchOptions{}, "status")
	require.NoError(w.t, err)
	return quotas
}
