package setup

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/packaging/manifests"
)

// Plan says what is to be in Kubernetes.
type Plan struct {
	Cluster   string            // of Slurm
	Rights    []duty.Rights     // of all duties
	Workflows string            // the namespace of Workflows
	Nodes     bool              // with the rights of nodes: services, and workflows=on
	Open      []string          // namespaces of services
	Patterns  bool              // reconcile has to look in all namespaces
	TakeNodes bool              // the controller takes nodes from Kubernetes
	Addresses map[string]string // what each node may publish
	Given     []string          // the nodes whose addresses are from --node-addresses
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
	var objects, example []*unstructured.Unstructured
	if p.Workflows != manifests.Namespace {
		objects = append(objects, namespace(p.Workflows))
	}
	seen := map[string]bool{} // two manifests have the namespace of accounts
	for _, u := range shipped {
		switch {
		case u.GetNamespace() == manifests.OpenNamespace, u.GetKind() == "Namespace" && u.GetName() == manifests.OpenNamespace:
			example = append(example, u)
			continue
		case seen[name(u)]:
			continue
		case isNodeList(u):
			p.setAddresses(u)
		case u.GetName() == manifests.Controller && strings.HasPrefix(u.GetKind(), "Role"), u.GetName() == manifests.NodeWorkflows:
			u.SetNamespace(p.Workflows) // the rights on Workflows are where slurmk8s.toml has these
		}
		seen[name(u)] = true
		objects = append(objects, u)
	}
	for _, namespace := range p.Open {
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
	if p.Nodes && p.Patterns {
		objects = append(objects, reconcileEverywhere())
	}
	return objects, nil
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

func reconcileEverywhere() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1",
		"kind":       "ClusterRoleBinding",
		"metadata":   map[string]any{"name": manifests.Reconcile},
		"roleRef":    map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": manifests.Reconcile},
		"subjects": []any{map[string]any{
			"kind": "ServiceAccount", "name": manifests.Controller, "namespace": manifests.Namespace,
		}},
	}}
}
