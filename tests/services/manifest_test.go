package services

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func rbacGVR(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: plural}
}

// plurals of the kinds that the manifest has.
var plurals = map[string]schema.GroupVersionResource{
	"Namespace":                        apiserver.Namespaces,
	"ServiceAccount":                   {Version: "v1", Resource: "serviceaccounts"},
	"ConfigMap":                        {Version: "v1", Resource: "configmaps"},
	"ClusterRole":                      rbacGVR("clusterroles"),
	"ClusterRoleBinding":               rbacGVR("clusterrolebindings"),
	"Role":                             rbacGVR("roles"),
	"RoleBinding":                      rbacGVR("rolebindings"),
	"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
}

var (
	installOnce sync.Once
	nodeRole    *unstructured.Unstructured
	userRole    *unstructured.Unstructured
)

// install applies packaging/manifests/node.yaml and impersonation.yaml as they are
// shipped, and says which addresses the nodes of the tests have.
func (w *world) install() {
	w.t.Helper()
	installOnce.Do(func() {
		for _, u := range append(manifest(w.t, "node.yaml"), manifest(w.t, "impersonation.yaml")...) {
			if u.GetKind() == "ClusterRole" && u.GetName() == "slurmk8s-user" {
				userRole = u
			}
			if u.GetKind() == "ClusterRole" && u.GetName() == "slurmk8s-node" {
				nodeRole = u
			}
			if u.GetKind() == "ConfigMap" {
				_, address := usableInterface(w.t)
				u.Object["data"] = map[string]any{"c1": "10.1.0.1," + address.String(), "c2": " 10.2.0.0/24 , fd00::2", "c3": "rubbish"}
			}
			gvr, known := plurals[u.GetKind()]
			require.True(w.t, known, u.GetKind())
			_, err := w.admin.Resource(gvr).Namespace(u.GetNamespace()).Apply(w.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test"})
			require.NoError(w.t, err)
		}
	})
	w.bind("Group", "slurmk8s:nodes", "slurmk8s-node")
	// The API server takes up a policy some time after it was made.
	stranger := w.as("slurmk8s:node:c9", "slurmk8s:nodes")
	eventually.True(w.t, "the policy is in force", func() bool {
		_, err := stranger.Resource(service.Services).Namespace(w.namespace).Create(w.t.Context(), plainService("probe"), metav1.CreateOptions{DryRun: []string{"All"}})
		return apierrors.IsInvalid(err)
	})
}

func manifest(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../packaging/manifests", name))
	require.NoError(t, err)
	reader := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var all []*unstructured.Unstructured
	for {
		u := &unstructured.Unstructured{}
		err := reader.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, u)
	}
}

func plainService(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80)}}},
	}}
}

// bind gives a user or a group a ClusterRole in the test's namespace.
func (w *world) bind(kind, name, role string) { w.t.Helper(); w.bindIn(w.namespace, kind, name, role) }

func (w *world) bindIn(namespace, kind, name, role string) {
	w.t.Helper()
	_, err := w.admin.Resource(rbacGVR("rolebindings")).Namespace(namespace).Create(w.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
		"metadata": map[string]any{"generateName": "test-"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}},
	}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

func (w *world) as(user string, groups ...string) dynamic.Interface {
	w.t.Helper()
	config, err := w.server.UserConfig(user, groups...)
	require.NoError(w.t, err)
	client, err := dynamic.NewForConfig(config)
	require.NoError(w.t, err)
	return client
}

// credential is the kubeconfig of a node.
func (w *world) credential(node string) string {
	w.t.Helper()
	path, err := w.server.UserKubeconfig("slurmk8s:node:"+node, "slurmk8s:nodes")
	require.NoError(w.t, err)
	return path
}

// label changes labels of the test's namespace.
func (w *world) label(labels string) {
	w.t.Helper()
	_, err := w.admin.Resource(apiserver.Namespaces).Patch(w.t.Context(), w.namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{`+labels+`}}}`), metav1.PatchOptions{})
	require.NoError(w.t, err)
}

// without is a role less one verb; it returns the new role's name.
func (w *world) without(role *unstructured.Unstructured, resource, verb string) string {
	w.t.Helper()
	role = role.DeepCopy()
	name := strings.ToLower(fmt.Sprintf("without-%s-%s-%d", verb, resource, time.Now().UnixNano()))
	role.Object["metadata"] = map[string]any{"name": name}
	found := false
	var rules []any
	for _, r := range role.Object["rules"].([]any) {
		rule := r.(map[string]any)
		if rule["resources"].([]any)[0] != resource {
			rules = append(rules, rule)
			continue
		}
		var verbs []any
		for _, v := range rule["verbs"].([]any) {
			if v == verb {
				found = true
				continue
			}
			verbs = append(verbs, v)
		}
		if rule["verbs"] = verbs; len(verbs) > 0 {
			rules = append(rules, rule)
		}
	}
	role.Object["rules"] = rules
	require.True(w.t, found, "%s %s is not in the role", verb, resource)
	_, err := w.admin.Resource(rbacGVR("clusterroles")).Create(w.t.Context(), role, metav1.CreateOptions{})
	require.NoError(w.t, err)
	return name
}

// tokenKubeconfig is a kubeconfig with a bearer token.
func (w *world) tokenKubeconfig(token string) string {
	w.t.Helper()
	config := w.server.Config()
	return kubetest.WriteKubeconfig(w.t, config.Host, config.CAData, "token: "+token)
}
