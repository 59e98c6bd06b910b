// Package manifests holds what slurmk8s asks an administrator to apply, so that
// "slurmk8s setup", "slurmk8s doctor" and `kubectl apply -f` know the same rights.
package manifests

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed *.yaml
var files embed.FS

// Names that the manifests use.
const (
	Namespace       = "slurm"         // of accounts, workflows and the list of nodes
	OpenNamespace   = "slurm-jobs"    // the example of a namespace that is open to services
	BundleNamespace = "slurm-bundles" // the example of a namespace that is open to bundles
	Bundles         = "slurmk8s-bundles"
	BundlesList     = "slurmk8s-bundles-list"
	Controller      = "slurmk8s-controller"
	ControllerToken = "slurmk8s-controller-token"
	Node            = "slurmk8s-node"
	NodeWorkflows   = "slurmk8s-node-workflows"
	Nodes           = "slurmk8s-nodes"
	Reconcile       = "slurmk8s-reconcile"
	Storage         = "slurmk8s-storage-workflows"
	StorageToken    = "slurmk8s-storage-token"
)

// With are the objects of the manifest that has the Role or ClusterRole of that name, and
// its file.
func With(role string) (file string, objects []*unstructured.Unstructured, err error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return "", nil, err
	}
	for _, entry := range entries {
		text, err := files.ReadFile(entry.Name())
		if err != nil {
			return "", nil, err
		}
		objects, err := parse(entry.Name(), text)
		if err != nil {
			return "", nil, err
		}
		if find(objects, role) != nil {
			return entry.Name(), objects, nil
		}
	}
	return "", nil, fmt.Errorf("the manifests have no role %s", role)
}

func find(objects []*unstructured.Unstructured, role string) *unstructured.Unstructured {
	for _, u := range objects {
		if u.GetName() == role && (u.GetKind() == "Role" || u.GetKind() == "ClusterRole") {
			return u
		}
	}
	return nil
}

func parse(name string, text []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var all []*unstructured.Unstructured
	for {
		u := &unstructured.Unstructured{}
		err := decoder.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(u.Object) > 0 { // comments alone are a document too
			all = append(all, u)
		}
	}
}

var plurals = map[string]string{
	"Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps", "Secret": "secrets",
	"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"ValidatingAdmissionPolicy":        "validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}

// Resource is where the API has objects of this kind.
func Resource(u *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	plural, known := plurals[u.GetKind()]
	if !known {
		return schema.GroupVersionResource{}, fmt.Errorf("the resource of kind %q is not known", u.GetKind())
	}
	return u.GroupVersionKind().GroupVersion().WithResource(plural), nil
}

// Rule is one right of a Role or ClusterRole.
type Rule struct {
	Group, Resource, Subresource, Verb string
	Names                              []string // of the objects that it is for; none: all
}

// Rules are the rights of the Role or ClusterRole of that name, one by one.
func Rules(role string) ([]Rule, error) {
	_, objects, err := With(role)
	if err != nil {
		return nil, err
	}
	rules, _, err := unstructured.NestedSlice(find(objects, role).Object, "rules")
	var all []Rule
	for _, r := range rules {
		all = append(all, expand(r.(map[string]any))...)
	}
	return all, err
}

func expand(rule map[string]any) []Rule {
	list := func(key string) []string {
		texts, _, _ := unstructured.NestedStringSlice(rule, key)
		return texts
	}
	var all []Rule
	for _, group := range list("apiGroups") {
		for _, resource := range list("resources") {
			for _, verb := range list("verbs") {
				plural, sub, _ := strings.Cut(resource, "/")
				all = append(all, Rule{group, plural, sub, verb, list("resourceNames")})
			}
		}
	}
	return all
}

// String is "create serviceaccounts/token slurmk8s-controller".
func (r Rule) String() string {
	text := r.Verb + " " + r.Resource
	if r.Subresource != "" {
		text += "/" + r.Subresource
	}
	return strings.Join(append([]string{text}, r.Names...), " ")
}
