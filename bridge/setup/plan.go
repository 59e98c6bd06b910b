package setup

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/packaging/manifests"
)

// Plan says what is to be in Kubernetes.
type Plan struct {
	Cluster   string        // of Slurm
	Rights    []duty.Rights // of all duties
	Workflows string        // the namespace of Workflows
	Nodes     bool          // with the rights of nodes: services, and workflows=on
	Open      []string      // namespaces of services
	Bundles   []string      // namespaces of bundles
	// BundlePatterns: reconcile has to look in all namespaces for bundles.
	BundlePatterns bool
	Patterns       bool              // reconcile has to look in all namespaces for services
	TakeNodes      bool              // the controller takes nodes from Kubernetes
	Addresses      map[string]string // what each node may publish
	Given          []string          // the nodes whose addresses are from --node-addresses
}

// manager owns the fields that setup writes. The list of nodes is an object of all
// Slurm clusters that share a Kubernetes cluster: each owns its own nodes in it, so
// that none takes another's out.
func (p *Plan) manager(u *unstructured.Unstructured) string {
	if isNodeList(u) {
		return "slurmk8s-setup-" + p.Cluster
	}
	return "slurmk8s-setup"
}

func isNodeList(u *unstructured.Unstructured) bool {
	return u.GetKind() == "ConfigMap" && u.GetName() == manifests.Nodes
}

// Objects are the shipped manifests for this site, in the order in which they are
// applied. What the manifest has for its example of an open namespace is repeated
// for each namespace that is to be open.
func (p *Plan) Objects() ([]*unstructured.Unstructured, error) {
	for _, namespace := range p.Open {
		if err := service.CheckNamespace(namespace); err != nil {
			return nil, fmt.Errorf("open namespace %q: %w", namespace, err)
		}
		if strings.HasPrefix(namespace, "kube-") || namespace == manifests.Namespace {
			return nil, fmt.Errorf("open namespace %s: a node could answer for every Service there; use a namespace that is made for jobs", namespace)
		}
	}
	shipped, err := p.manifests()
	if err != nil {
		return nil, err
	}
	var objects, example, bundleExample []*unstructured.Unstructured
	if p.Workflows != manifests.Namespace {
		objects = append(objects, namespace(p.Workflows))
	}
	seen := map[string]bool{} // two manifests have the namespace of accounts
	for _, u := range shipped {
		switch {
		case u.GetNamespace() == manifests.OpenNamespace, u.GetKind() == "Namespace" && u.GetName() == manifests.OpenNamespace:
			example = append(example, u)
			continue
		case u.GetNamespace() == manifests.BundleNamespace, u.GetKind() == "Namespace" && u.GetName() == manifests.BundleNamespace:
			bundleExample = append(bundleExample, u)
			continue
		case u.GetKind() == "ClusterRole" && u.GetName() == manifests.Bundles:
			p.restrict(u)
		case seen[name(u)]:
			continue
		case isNodeList(u):
			p.setAddresses(u)
		case u.GetName() == manifests.Controller && strings.HasPrefix(u.GetKind(), "Role"), u.GetName() == manifests.NodeWorkflows, u.GetName() == manifests.Storage, u.GetName() == manifests.StorageToken:
			u.SetNamespace(p.Workflows) // the rights on Workflows are where slurmk8s.toml has these
		}
		seen[name(u)] = true
		objects = append(objects, u)
	}
	objects = append(objects, repeated(example, p.Open)...)
	objects = append(objects, repeated(p.bound(bundleExample), p.Bundles)...)
	if p.Nodes && p.Patterns {
		objects = append(objects, everywhere(manifests.Reconcile, manifests.Controller))
	}
	if p.BundlePatterns {
		objects = append(objects, everywhere(manifests.BundlesList, p.bundleAccount()))
	}
	return objects, nil
}

// repeated are the objects of an example for each of the namespaces.
func repeated(example []*unstructured.Unstructured, namespaces []string) (objects []*unstructured.Unstructured) {
	for _, namespace := range namespaces {
		for _, u := range example {
			u = u.DeepCopy()
			if u.GetKind() == "Namespace" {
				u.SetName(namespace)
			} else {
				u.SetNamespace(namespace)
			}
			objects = append(objects, u)
		}
	}
	return objects
}

// bundleRights are the rights that bundles need; nil: no bundle is allowed.
func (p *Plan) bundleRights() *duty.Rights {
	for i, rights := range p.Rights {
		if rights.Role == manifests.Bundles || rights.Role == manifests.BundlesList {
			return &p.Rights[i]
		}
	}
	return nil
}

// restrict takes out of the ClusterRole what no installed bundle has.
func (p *Plan) restrict(role *unstructured.Unstructured) {
	rights := p.bundleRights()
	if rights == nil || rights.Only == nil {
		return
	}
	rules, _, _ := unstructured.NestedSlice(role.Object, "rules")
	var kept []any
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		groups, _, _ := unstructured.NestedStringSlice(rule, "apiGroups")
		resources, _, _ := unstructured.NestedStringSlice(rule, "resources")
		var needed []any
		for _, resource := range resources {
			for _, group := range groups {
				if rights.Only[schema.GroupResource{Group: group, Resource: resource}] {
					needed = append(needed, resource)
				}
			}
		}
		if len(needed) > 0 {
			rule["resources"] = needed
			kept = append(kept, rule)
		}
	}
	_ = unstructured.SetNestedSlice(role.Object, kept, "rules")
}

// bundleAccount is the ServiceAccount that bundles use: its own if bundles.kubeconfig is set.
func (p *Plan) bundleAccount() string {
	if rights := p.bundleRights(); rights != nil && rights.Kubeconfig != "" {
		return manifests.Bundles
	}
	return manifests.Controller
}

// bound is the example with that account.
func (p *Plan) bound(example []*unstructured.Unstructured) []*unstructured.Unstructured {
	for _, u := range example {
		if u.GetKind() == "RoleBinding" {
			_ = unstructured.SetNestedSlice(u.Object, []any{accountSubject(p.bundleAccount())}, "subjects")
		}
	}
	return example
}

// manifests are the objects of the manifests whose rights the duties need, each manifest
// once.
func (p *Plan) manifests() (all []*unstructured.Unstructured, err error) {
	seen := map[string]bool{}
	for _, rights := range p.Rights {
		if rights.OnNodes && !p.Nodes || rights.When == duty.ControllerTakes && !p.TakeNodes {
			continue
		}
		file, objects, err := manifests.With(rights.Role)
		if err != nil {
			return nil, err
		}
		if !seen[file] {
			all = append(all, objects...)
		}
		seen[file] = true
	}
	return all, nil
}

func namespace(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
}

func (p *Plan) setAddresses(u *unstructured.Unstructured) {
	data := map[string]any{}
	for node, list := range p.Addresses {
		data[node] = list
	}
	u.Object["data"] = data
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[givenAnnotation(p.Cluster)] = strings.Join(p.Given, ",")
	u.SetAnnotations(annotations)
}

// everywhere binds a ClusterRole to an account in the whole cluster.
func everywhere(role, account string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1",
		"kind":       "ClusterRoleBinding",
		"metadata":   map[string]any{"name": role},
		"roleRef":    map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects":   []any{accountSubject(account)},
	}}
}

func accountSubject(account string) map[string]any {
	return map[string]any{"kind": "ServiceAccount", "name": account, "namespace": manifests.Namespace}
}
