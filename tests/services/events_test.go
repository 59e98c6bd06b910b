package services

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// told is what "kubectl describe service" shows: "Warning NotReady: text", sorted. As
// kubectl does it, Events count by the UID of the Service that is there.
func (w *world) told(name string) []string {
	w.t.Helper()
	uid := w.get(service.Services, name).GetUID()
	list, err := w.admin.Resource(kube.EventsGVR).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{
		FieldSelector: fmt.Sprintf("involvedObject.kind=Service,involvedObject.name=%s,involvedObject.uid=%s", name, uid)})
	require.NoError(w.t, err)
	var all []string
	for _, u := range list.Items {
		if u.Object["reportingComponent"] != "slurmk8s.io/slurmk8s" {
			continue // the API server's own: its ipallocator-repair-controller tells what it finds
		}
		assert.Empty(w.t, u.GetLabels(), "what has a job's labels is gone when the job is")
		assert.Equal(w.t, "c1", u.Object["reportingInstance"])
		all = append(all, fmt.Sprintf("%v %v: %v", u.Object["type"], u.Object["reason"], u.Object["message"]))
	}
	slices.Sort(all)
	return all
}

// tells waits until exactly these are told.
func (w *world) tells(name string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	eventually.Equal(w.t, want, func() []string { return w.told(name) })
}

func TestAServiceTellsItsStory(t *testing.T) {
	w := newWorld(t)
	w.install()
	n := w.newNode(site{kubeconfig: w.credential("c1"), services: `ready_interval = "1s"`})
	port, listen := n.freePort()
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=a,port=%d,ready-timeout=1s", port)))
	assert.Contains(t, s.reply(), "CODE=0")
	registered := "Normal Registered: by Slurm job 12 of cluster alps on node c1 (user ID 0)"
	late := fmt.Sprintf("Warning NotReady: not ready on node c1 after 1s: nothing listens on port %d", port)
	ready := fmt.Sprintf("Normal Ready: it answers at %s (node c1)", n.address)
	silent := fmt.Sprintf("Warning NotReady: it no longer answers at %s (node c1): no traffic until it does", n.address)
	w.tells("a", registered)
	w.tells("a", registered, late)
	l := listen()
	w.tells("a", registered, late, ready)
	require.NoError(t, l.Close())
	w.tells("a", registered, late, ready, silent)
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestAFileThatDoesNotComeIsTold(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=file:/nonexistent/ready,ready-timeout=1s"))
	assert.Contains(t, s.reply(), "CODE=0")
	w.tells("a", "Normal Registered: by Slurm job 12 of cluster alps on node c1 (user ID 0)",
		"Warning NotReady: not ready on node c1 after 1s: user root cannot open /nonexistent/ready")
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

func TestWhoTakesAServiceOverTellsIt(t *testing.T) {
	w := newWorld(t)
	_, err := w.registrar(11).Register(t.Context(), w.specs("a:8888")) // and dies
	require.NoError(t, err)
	n := w.newNode(site{})
	n.squeue("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
	require.NoError(t, w.admin.Resource(job.Leases).Namespace(w.namespace).Delete(t.Context(), "slurm-alps-11", metav1.DeleteOptions{}))
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	w.tells("a", "Normal TakenOver: Slurm job 11 of cluster alps, which is over, left it behind",
		"Normal Registered: by Slurm job 12 of cluster alps on node c1 (user ID 0)",
		fmt.Sprintf("Normal Ready: it answers at %s (node c1)", n.address))
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

func TestARestoredServiceTellsItAndAForeignOneIsNotWrittenAbout(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	r.Events = kube.NewEvents(r.Kube, r.Node)
	regs, err := r.Register(t.Context(), w.specs("a:8888"))
	require.NoError(t, err)
	services := w.admin.Resource(service.Services).Namespace(w.namespace)
	require.NoError(t, services.Delete(t.Context(), "a", metav1.DeleteOptions{}))
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
	w.tells("a", "Warning Restored: somebody removed it or its Lease: Slurm job 12 of cluster alps restored it")

	require.NoError(t, services.Delete(t.Context(), "a", metav1.DeleteOptions{}))
	w.create(service.Services, plainService("a").Object)
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour), "the name is lost")
	r.Late(regs[0], time.Second, errors.New("no answer"))
	other := w.registrar(13)
	other.Events = kube.NewEvents(other.Kube, other.Node)
	made, err := other.Register(t.Context(), w.specs("a:8888"))
	require.ErrorContains(t, err, "was not made by slurmk8s")
	other.Announce(made)
	time.Sleep(300 * time.Millisecond) // nobody says when nothing is told
	assert.Empty(t, w.told("a"))
	list, err := w.admin.Resource(kube.EventsGVR).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reportingComponent=slurmk8s.io/slurmk8s"})
	require.NoError(t, err)
	assert.Len(t, list.Items, 1, "the one of before")
}

// The registration counts, not the story about it.
func TestServicesWorkWithoutTheRightToTell(t *testing.T) {
	w := newWorld(t)
	w.install()
	w = newWorld(t) // a namespace without the shipped binding
	user := fmt.Sprintf("slurmk8s:node:c1-%d", time.Now().UnixNano())
	w.bind("User", user, w.without(nodeRole, "events", "create"))
	path, err := w.server.UserKubeconfig(user)
	require.NoError(t, err)
	eventually.True(t, "the binding is in force", func() bool {
		_, err := w.as(user).Resource(service.Services).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
	n := w.newNode(site{kubeconfig: path})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
	eventually.True(t, "denied", func() bool { return strings.Contains(n.log(), `cannot create resource \"events\"`) })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
	assert.LessOrEqual(t, strings.Count(n.log(), "audit: create events"), 2, "whoever is denied asks no more")
}

// A server that swallows Events holds up neither the registration nor its end.
func TestEventsDelayNothing(t *testing.T) {
	w := newWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	require.NoError(t, err)
	defer silent.Close()
	kubeconfig, err := os.ReadFile(w.server.Kubeconfig())
	require.NoError(t, err)
	text := strings.ReplaceAll(string(kubeconfig), w.server.URL, "https://"+silent.Addr().String())
	n := w.newNode(site{})
	r := w.registrar(12)
	r.Events = kube.NewEvents(w.client(n.write("silent.kubeconfig", 0o600, text)), r.Node)
	begin := time.Now()
	regs, err := r.Register(t.Context(), w.specs("a:8888"))
	require.NoError(t, err)
	for range 50 {
		r.Announce(regs)
	}
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Less(t, time.Since(begin), 25*time.Second, "50 Events, for each of which it would wait a second")
	r.Events.Tell(t.Context(), kube.Object{Kind: "Service", Namespace: w.namespace, Name: "a"}, kube.EventNormal, "Test", "x")
}

func TestAStolenCredentialTellsOfServicesOnlyAndInItsOwnName(t *testing.T) {
	w := newWorld(t)
	w.install()
	closed := apiserver.NewNamespace(t, w.admin)
	w.bindIn(closed, "Group", "slurmk8s:nodes", "slurmk8s-node") // the right, but not the label
	thief := w.as("slurmk8s:node:c1", "slurmk8s:nodes")
	event := func(namespace string, change func(u map[string]any)) *unstructured.Unstructured {
		u := map[string]any{
			"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"generateName": "x-", "namespace": namespace},
			"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Service", "name": "payments", "namespace": namespace},
			"reason":         "Ready", "message": "hello", "type": "Normal",
			"source":             map[string]any{"component": "slurmk8s", "host": "c1"},
			"reportingComponent": "slurmk8s.io/slurmk8s", "reportingInstance": "c1",
		}
		change(u)
		return &unstructured.Unstructured{Object: u}
	}
	involve := func(apiVersion, kind string) func(map[string]any) {
		return func(u map[string]any) {
			u["involvedObject"].(map[string]any)["apiVersion"], u["involvedObject"].(map[string]any)["kind"] = apiVersion, kind
		}
	}
	const about, by = "about a Service or an EndpointSlice", `an Event of node "c1" must name slurmk8s on that node`
	for _, tt := range []struct {
		name      string
		namespace string
		change    func(map[string]any)
		want      string // "": allowed
	}{
		{"of a Service", w.namespace, func(map[string]any) {}, ""},
		{"of an EndpointSlice", w.namespace, involve("discovery.k8s.io/v1", "EndpointSlice"), ""},
		{"of a Pod", w.namespace, involve("v1", "Pod"), about},
		{"of a Deployment", w.namespace, involve("apps/v1", "Deployment"), about},
		{"of another API's Service", w.namespace, involve("serving.knative.dev/v1", "Service"), about},
		{"of a long text", w.namespace, func(u map[string]any) { u["message"] = strings.Repeat("x", 1025) }, about},
		{"as another node", w.namespace, func(u map[string]any) {
			u["reportingInstance"], u["source"] = "c2", map[string]any{"component": "slurmk8s", "host": "c2"}
		}, by},
		{"as another host", w.namespace, func(u map[string]any) { u["source"] = map[string]any{"component": "slurmk8s", "host": "c2"} }, by},
		{"as no node", w.namespace, func(u map[string]any) {
			u["reportingInstance"], u["source"] = "", map[string]any{"component": "slurmk8s", "host": ""}
		}, "denied"},
		{"as the scheduler", w.namespace, func(u map[string]any) { u["reportingComponent"] = "default-scheduler" }, by},
		{"as the scheduler, in the old field", w.namespace, func(u map[string]any) { u["source"] = map[string]any{"component": "default-scheduler", "host": "c1"} }, by},
		{"as nobody", w.namespace, func(u map[string]any) { delete(u, "source") }, "denied"},
		{"in a namespace that is not open", closed, func(map[string]any) {}, "is not open to slurmk8s: label it"},
		{"in a namespace without a binding", "default", func(map[string]any) {}, "cannot create resource"},
		{"in the nodes' own namespace", "kube-system", func(map[string]any) {}, "cannot create resource"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := thief.Resource(kube.EventsGVR).Namespace(tt.namespace).Create(t.Context(), event(tt.namespace, tt.change), metav1.CreateOptions{DryRun: []string{"All"}})
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
	t.Run("neither reads, changes nor deletes any", func(t *testing.T) {
		made, err := thief.Resource(kube.EventsGVR).Namespace(w.namespace).Create(t.Context(), event(w.namespace, func(map[string]any) {}), metav1.CreateOptions{})
		require.NoError(t, err)
		events := thief.Resource(kube.EventsGVR).Namespace(w.namespace)
		_, err = events.List(t.Context(), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		_, err = events.Update(t.Context(), made, metav1.UpdateOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		err = events.Delete(t.Context(), made.GetName(), metav1.DeleteOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
	})
	t.Run("the policy holds where RBAC would let it pass", func(t *testing.T) {
		name := fmt.Sprintf("all-events-%d", time.Now().UnixNano())
		_, err := w.admin.Resource(rbacGVR("clusterroles")).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": name},
			"rules": []any{map[string]any{"apiGroups": []any{"", "events.k8s.io"}, "resources": []any{"events"}, "verbs": []any{"*"}}},
		}}, metav1.CreateOptions{})
		require.NoError(t, err)
		w.bind("User", "slurmk8s:node:c1", name)
		labelled := event(w.namespace, func(map[string]any) {}) // as if it were an object of a job
		labelled.SetLabels(map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "12"})
		made := w.create(kube.EventsGVR, labelled.Object)
		events := thief.Resource(kube.EventsGVR).Namespace(w.namespace)
		eventually.True(t, "the binding is in force", func() bool {
			_, err := events.List(t.Context(), metav1.ListOptions{})
			return err == nil
		})
		made.Object["message"] = "changed"
		_, err = events.Update(t.Context(), made, metav1.UpdateOptions{})
		require.ErrorContains(t, err, about)
		require.ErrorContains(t, events.Delete(t.Context(), made.GetName(), metav1.DeleteOptions{}), about)
		// The other API group of the same objects.
		_, err = thief.Resource(schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}).Namespace(w.namespace).
			Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": map[string]any{"generateName": "x-"},
				"eventTime": time.Now().UTC().Format(metav1.RFC3339Micro), "action": "x", "reason": "x", "type": "Normal", "note": "x",
				"reportingController": "default-scheduler", "reportingInstance": "x",
				"regarding": map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "x", "namespace": w.namespace},
			}}, metav1.CreateOptions{DryRun: []string{"All"}})
		require.ErrorContains(t, err, about)
	})
}
