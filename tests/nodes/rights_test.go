package nodes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// What DESIGN section 7 builds on, and what it does without.
func TestWhatAKubeletsCredentialMay(t *testing.T) {
	w := newWorld(t)
	own, other := w.newNode(), w.newNode()
	w.newPod(own, "mine")
	w.newPod(other, "theirs")
	config, err := w.server.UserConfig("system:node:"+own, "system:nodes")
	require.NoError(t, err)
	kubelet, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	patch := func(name, patch string) error {
		_, err := kubelet.Resource(node.Nodes).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	list := func(name string) error {
		_, err := kubelet.Resource(node.Pods).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
		return err
	}
	evict := func(pod string) error {
		_, err := kubelet.Resource(node.Pods).Namespace(w.namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]any{"name": pod, "namespace": w.namespace},
		}}, metav1.CreateOptions{}, "eviction")
		return err
	}
	for _, tt := range []struct {
		name string
		err  error
		may  bool
	}{
		{"cordon its own node", patch(own, `{"spec":{"unschedulable":true}}`), true},
		{"annotate its own node", patch(own, `{"metadata":{"annotations":{"slurmk8s.io/holders":"x"}}}`), true},
		{"label its own node with ours", patch(own, `{"metadata":{"labels":{"slurmk8s.io/lent":"true"}}}`), true},
		{"taint its own node", patch(own, `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`), false},
		{"cordon another node", patch(other, `{"spec":{"unschedulable":true}}`), false},
		{"list its own pods", list(own), true},
		{"list another node's pods", list(other), false},
		{"list all nodes", func() error {
			_, err := kubelet.Resource(node.Nodes).List(t.Context(), metav1.ListOptions{})
			return err
		}(), false},
		{"evict its own pod", evict("mine"), true},
		{"evict another node's pod", evict("theirs"), false},
	} {
		if tt.may {
			assert.NoError(t, tt.err, tt.name)
		} else {
			assert.True(t, apierrors.IsForbidden(tt.err), "%s: %v", tt.name, tt.err)
		}
	}
}

// A taint needs more than the kubelet has: the job does not start, and the reason says
// what to do.
func TestATaintWithTheKubeletsCredential(t *testing.T) {
	w := newWorld(t)
	h := w.newHost(`block = "both"`)
	before := w.state(h.node)
	assert.Regexp(t, `^3 MESSAGE=patch node \S+: .*is not allowed to modify taints .*`, h.prolog(12))
	assert.Equal(t, before, w.state(h.node))
}

var (
	clusterRoles = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	bindings     = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"}
)

// shippedRole is the ClusterRole of packaging/manifests/nodes-controller.yaml.
func shippedRole(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("../../packaging/manifests/nodes-controller.yaml")
	require.NoError(t, err)
	reader := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := reader.Decode(&u.Object)
		require.False(t, errors.Is(err, io.EOF), "no ClusterRole in the manifest")
		require.NoError(t, err)
		if u.GetKind() == "ClusterRole" {
			return u
		}
	}
}

// userWith is the kubeconfig of a user with the rules of a role, and no others.
func (w *world) userWith(rules []any) string {
	w.t.Helper()
	name := apiserver.UniqueName(w.t, "user-")
	w.create(clusterRoles, "", map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": name}, "rules": rules})
	w.create(bindings, "", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": map[string]any{"name": name},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}},
	})
	path, err := w.server.UserKubeconfig(name)
	require.NoError(w.t, err)
	return path
}

// everything is what the controller ever does with nodes; the first error.
func (w *world) everything(kubeconfig string, timeout time.Duration) error {
	ctx := w.t.Context()
	name := w.newNode()
	w.kubelet(name, 0)
	pod, held := apiserver.UniqueName(w.t, "pod-"), apiserver.UniqueName(w.t, "held-")
	made := w.newPod(name, pod)
	w.newPod(name, held, labelled("app", held))
	w.budget(held, held, 1)
	cfg := settings()
	cfg.Block, cfg.APITimeout = slurmconf.BlockBoth, slurmconf.Duration(5*time.Second)
	b := w.driver(kubeconfig, cfg)
	claim := node.Claim{Cluster: cluster, JobID: 12, Mode: node.Reclaim}
	_, err := b.TakeAll(ctx, []string{name}, claim, node.Terms{Grace: time.Second, Timeout: timeout, Policy: slurmconf.EvictDelete})
	if err != nil {
		return err
	}
	if _, err := b.Claimed(ctx); err != nil {
		return err
	}
	if err := b.GiveBackAll(ctx, []string{name}, 12, 0); err != nil {
		return err
	}
	list, err := w.admin.Resource(kube.EventsGVR).Namespace(w.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(made.GetUID())})
	if err == nil && len(list.Items) == 0 {
		err = errors.New("cannot create resource \"events\"") // it is not told, since nothing fails for it
	}
	return err
}

func TestTheShippedRightsAreEnough(t *testing.T) {
	w := newWorld(t)
	rules, _, err := unstructured.NestedSlice(shippedRole(t).Object, "rules")
	require.NoError(t, err)
	user := w.userWith(rules)
	w.settled(user)
	require.NoError(t, w.everything(user, 300*time.Millisecond))
}

// settled waits until the authorizer knows a new user: some milliseconds.
func (w *world) settled(kubeconfig string) {
	w.t.Helper()
	client, err := kube.New(kube.Options{Kubeconfig: kubeconfig, RequestTimeout: 5 * time.Second, UserAgent: "test", Log: apiserver.Log(w.t)})
	require.NoError(w.t, err)
	eventually.True(w.t, "the authorizer knows the user", func() bool {
		_, nodes := client.Dynamic.Resource(node.Nodes).Get(w.t.Context(), "nobody", metav1.GetOptions{})
		_, pods := client.Dynamic.Resource(node.Pods).List(w.t.Context(), metav1.ListOptions{})
		return apierrors.IsNotFound(nodes) || pods == nil
	})
	time.Sleep(50 * time.Millisecond)
}

func TestEachShippedRightIsNeeded(t *testing.T) {
	w := newWorld(t)
	rules, _, err := unstructured.NestedSlice(shippedRole(t).Object, "rules")
	require.NoError(t, err)
	for i := range rules {
		resources, _, _ := unstructured.NestedStringSlice(rules[i].(map[string]any), "resources")
		verbs, _, _ := unstructured.NestedStringSlice(rules[i].(map[string]any), "verbs")
		for _, verb := range verbs {
			t.Run(verb+" "+resources[0], func(t *testing.T) {
				t.Parallel()
				w := newWorldOn(t, w.server)
				rules, _, _ := unstructured.NestedSlice(shippedRole(t).Object, "rules") // a copy
				kept := slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == verb })
				require.NoError(t, unstructured.SetNestedStringSlice(rules[i].(map[string]any), kept, "verbs"))
				if len(kept) == 0 {
					rules = slices.Delete(rules, i, i+1)
				}
				user := w.userWith(rules)
				w.settled(user)
				timeout := 300 * time.Millisecond
				if resources[0] == "pods/eviction" { // a refusal is not believed at once
					timeout = 10 * time.Second
				}
				err := w.everything(user, timeout)
				require.Error(t, err)
				assert.Contains(t, err.Error(), fmt.Sprintf("cannot %s resource %q", verb, resources[0]))
			})
		}
	}
}
