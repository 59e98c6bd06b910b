package setup

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/bridge/doctor"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

var (
	roleBindings = gvr("rbac.authorization.k8s.io", "v1", "rolebindings")
	someRoles    = gvr("rbac.authorization.k8s.io", "v1", "roles")
	policies     = gvr("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")
	nodes        = gvr("", "v1", "nodes")
	workflows    = gvr("dataworkflowservices.github.io", "v1alpha7", "workflows")
)

// site is a host that slurmk8s was set up on, by slurmk8s setup: controller and
// node c1. Files that need no API are tested in bridge/doctor.
type site struct {
	*world
	namespace string
	o         doctor.Options
}

// newSite is all right as far as Kubernetes goes. Each has a namespace of its own.
func newSite(t *testing.T) *site {
	w := newWorld(t)
	p := &site{world: w, namespace: fmt.Sprintf("doctor-%d", time.Now().UnixNano()%1e9)}
	w.write("burst_buffer.lua", "", 0o644) // workflows are wanted
	kubelet, err := w.server.UserKubeconfig("system:node:c1", "system:nodes")
	require.NoError(t, err)
	w.configure("[services]\nkubeconfig = \""+w.path("node.kubeconfig")+"\"\n[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\""+p.namespace+"\"]",
		"[nodes]\nreclaim = \"all\"\nkubeconfig = \""+kubelet+"\"")
	w.setup("--output", w.path("out"))
	w.write("node.kubeconfig", w.read("out/nodes/c1/slurmk8s-node.kubeconfig"), 0o600)
	_, _ = w.admin.Resource(nodes).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "c1"}}}, metav1.CreateOptions{})
	p.o = doctor.Options{
		ConfigPath: w.path("slurmk8s.toml"), Roles: []doctor.Role{doctor.Controller, doctor.Node}, NodeName: "c1",
		Addresses: address.Finder{Interfaces: func() ([]address.Interface, error) {
			return []address.Interface{{Name: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}}, nil
		}},
	}
	return p
}

// results are those of the checks that ask Kubernetes.
func (p *site) results() []doctor.Result {
	var results []doctor.Result
	for _, r := range doctor.Run(p.t.Context(), p.o) {
		switch r.Check {
		case "controller credential", "DWS", "node credential", "admission policy", "kubelet credential":
			results = append(results, r)
		}
	}
	return results
}

// find waits until a result is there: authorizer and admission learn of a change a
// moment after it was made.
func (p *site) find(check string, status doctor.Status, says, do string) {
	p.t.Helper()
	eventually.Equal(p.t, "", func() string {
		all := p.results()
		for _, r := range all {
			if r.Check == check && r.Status == status && strings.Contains(r.Found, says) && strings.Contains(r.Do, do) {
				return ""
			}
		}
		return fmt.Sprint(all)
	}, "no %s of %q says %q (do %q)", status, check, says, do)
}

// well waits until nothing is wrong.
func (p *site) well() {
	p.t.Helper()
	eventually.Equal(p.t, nil, func() (wrong []doctor.Result) {
		for _, r := range p.results() {
			if r.Status != doctor.OK {
				wrong = append(wrong, r)
			}
		}
		return wrong
	})
}

func (p *site) change(resource schema.GroupVersionResource, namespace, name, patch string) {
	p.t.Helper()
	_, err := p.admin.Resource(resource).Namespace(namespace).Patch(p.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(p.t, err)
}

func (p *site) delete(resource schema.GroupVersionResource, namespace, name string) {
	p.t.Helper()
	require.NoError(p.t, p.admin.Resource(resource).Namespace(namespace).Delete(p.t.Context(), name, metav1.DeleteOptions{}))
}

func (p *site) replace(file, old, new string) {
	p.t.Helper()
	text := p.read(file)
	require.Contains(p.t, text, old)
	p.write(file, strings.Replace(text, old, new, 1), 0o600)
}

func (p *site) in(d time.Duration) { p.o.Now = func() time.Time { return time.Now().Add(d) } }

func TestDoctorNamesWhatIsBrokenInKubernetes(t *testing.T) {
	w := newWorld(t)
	sim, err := dwssim.Start(context.Background(), w.server.Config(), dwssim.Options{})
	require.NoError(t, err)
	defer sim.Stop()

	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		broken func(*site)
		check  string
		status doctor.Status
		says   string
		do     string
	}{
		{"no credential", func(p *site) { require.NoError(t, os.Remove(p.path("slurmk8s.kubeconfig"))) }, "controller credential", doctor.Failed, "no such file", "slurmk8s setup"},
		{"a credential that others read", func(p *site) { require.NoError(t, os.Chmod(p.path("state/controller.token"), 0o644)) }, "controller credential", doctor.Failed, "open to others", ""},
		{"TLS verification off", func(p *site) {
			p.replace("slurmk8s.kubeconfig", "    server:", "    insecure-skip-tls-verify: true\n    server:")
		}, "controller credential", doctor.Failed, "insecure-skip-tls-verify is not allowed", ""},
		{"another authority", func(p *site) {
			p.replace("slurmk8s.kubeconfig", "certificate-authority-data: "+between(p.read("slurmk8s.kubeconfig"), "certificate-authority-data: ", "\n"), "certificate-authority: "+p.path("other.crt"))
			p.write("other.crt", otherAuthority(t), 0o644)
		}, "controller credential", doctor.Failed, "signed by unknown authority", "its address and authority"},
		{"an API server that is not there", func(p *site) {
			p.replace("slurmk8s.kubeconfig", p.server.URL, "https://127.0.0.1:1")
		}, "controller credential", doctor.Failed, "connection refused", "check that the API server runs"},
		{"a token that is not accepted", func(p *site) {
			p.write("state/controller.token", p.agedToken(p.read("state/controller.token"))+"x", 0o600)
		}, "controller credential", doctor.Failed, "HTTP 401", ""},
		{"a token near its end", func(p *site) { p.in(70 * day) }, "controller credential", doctor.Warning, "is valid for only", "--renew"},
		{"a token that is over", func(p *site) { p.in(100 * day) }, "controller credential", doctor.Failed, "slurmk8s.kubeconfig ended", "--renew"},
		{"a certificate near its end", func(p *site) { p.in(70 * day) }, "node credential", doctor.Warning, "(slurmk8s:node:c1)", "--output DIR"},
		{"a clock that is off", func(p *site) { p.in(40 * time.Second) }, "controller credential", doctor.Warning, "clock:", "synchronize"},
		{"a clock that is far off", func(p *site) { p.in(-10 * time.Minute) }, "controller credential", doctor.Failed, "clock:", "synchronize"},
		{"one right of the controller", func(p *site) {
			p.change(someRoles, "slurm", "slurmk8s-controller", `{"rules":[{"apiGroups":["dataworkflowservices.github.io"],"resources":["workflows"],"verbs":["get","list","watch","create","patch"]},{"apiGroups":["dataworkflowservices.github.io"],"resources":["computes"],"verbs":["patch"]}]}`)
		}, "controller credential", doctor.Failed, "rights in namespace slurm: may not delete workflows", "slurmk8s setup"},
		{"the right to renew its token", func(p *site) { p.delete(roleBindings, "slurm", "slurmk8s-controller-token") }, "controller credential", doctor.Warning, "may not create serviceaccounts/token slurmk8s-controller", ""},
		{"the right of reconcile", func(p *site) { p.delete(roleBindings, p.namespace, "slurmk8s-reconcile") }, "controller credential", doctor.Failed, "may not list services, update services, delete services", "slurmk8s-reconcile"},
		{"the rights of nodes", func(p *site) { p.delete(roleBindings, p.namespace, "slurmk8s-node") }, "node credential", doctor.Failed, "create leases", "slurmk8s-node"},
		{"a site without the old Endpoints", func(p *site) { p.withoutRule("endpoints") }, "node credential", doctor.Warning, "may not get endpoints", "unless this is intended"},
		{"a node that may not tell", func(p *site) { p.withoutRule("events") }, "node credential", doctor.Warning, "may not create events", "unless this is intended"},
		{"a controller that may not tell", func(p *site) {
			p.change(someRoles, "slurm", "slurmk8s-controller", `{"rules":[{"apiGroups":["dataworkflowservices.github.io"],"resources":["workflows"],"verbs":["get","list","watch","create","patch","delete"]},{"apiGroups":["dataworkflowservices.github.io"],"resources":["computes"],"verbs":["patch"]}]}`)
		}, "controller credential", doctor.Warning, "rights in namespace slurm: may not create events", "unless this is intended"},
		{"an address that is not in the list", func(p *site) {
			p.change(configMaps, "slurm", "slurmk8s-nodes", `{"data":{"c1":"10.1.0.77"}}`)
		}, "admission policy", doctor.Failed, "node c1 may not publish its own address 10.1.0.1", "slurmk8s-nodes"},
		{"a namespace that is not open", func(p *site) {
			p.change(namespaces, "", p.namespace, `{"metadata":{"labels":{"slurmk8s.io/services":null}}}`)
		}, "admission policy", doctor.Failed, "is not open to slurmk8s", "--open"},
		{"a policy that is not in force", func(p *site) { p.delete(policies, "", "slurmk8s-nodes") }, "admission policy", doctor.Failed, "could publish any address", "slurmk8s setup"},
		{"a node without a usable address", func(p *site) {
			p.o.Addresses.Interfaces = func() ([]address.Interface, error) { return nil, nil }
		}, "admission policy", doctor.Failed, "which pods cannot reach", "NodeAddr"},
		{"another node's kubelet credential", func(p *site) {
			other, err := p.server.UserKubeconfig("system:node:c9", "system:nodes")
			require.NoError(t, err)
			p.replace("slurmk8s.toml", between(p.read("slurmk8s.toml"), "reclaim = \"all\"\nkubeconfig = \"", "\""), other)
			p.write("slurmk8s.toml", p.read("slurmk8s.toml"), 0o644)
		}, "kubelet credential", doctor.Failed, `nodes.node_name = "same" says that Slurm's node c1 is Kubernetes's node c1, but nodes.kubeconfig is the credential of node c9`, "map node c1 to c9"},
		{"a controller that may not take nodes", func(p *site) {
			p.write("prolog.sh", "#!/bin/sh\nexec /usr/bin/slurmk8s prolog-slurmctld\n", 0o755)
			p.write("slurm.conf", p.read("slurm.conf")+"PrologSlurmctld="+p.path("prolog.sh")+"\n", 0o644)
		}, "controller credential", doctor.Failed, "rights in the whole cluster: may not get nodes, list nodes, patch nodes", "slurmk8s-node-reclaim"},
		{"a controller that may not take nodes, with slurmk8s itself in slurm.conf", func(p *site) {
			p.write("slurmk8s", "\x7fELF\x00", 0o755)
			p.write("slurm.conf", p.read("slurm.conf")+"PrologSlurmctld="+p.path("slurmk8s")+"\nEpilogSlurmctld="+p.path("slurmk8s")+"\n", 0o644)
		}, "controller credential", doctor.Failed, "rights in the whole cluster: may not get nodes, list nodes, patch nodes", "slurmk8s-node-reclaim"},
		{"a node that may not read workflows", func(p *site) {
			p.write("plugstack.conf", "optional /opt/slurmk8s/lib/slurmk8s_spank.so workflows=on\n", 0o644)
			p.delete(roleBindings, "slurm", "slurmk8s-node-workflows")
		}, "node credential", doctor.Failed, "rights in namespace slurm: may not get workflows", "slurmk8s-node-workflows"},
		{"a node whose credential is another's, and that is given tokens", func(p *site) {
			other, err := p.server.UserKubeconfig("slurmk8s:node:c9")
			require.NoError(t, err)
			p.replace("slurmk8s.toml", p.path("node.kubeconfig"), other)
			p.write("slurmk8s.toml", p.read("slurmk8s.toml")+"[workflows]\ntoken = \"job\"\n", 0o644)
		}, "node credential", doctor.Failed, "is the credential of slurmk8s:node:c9, not of slurmk8s:node:c1", "a credential for each node"},
		{"a node that may read the tokens of all jobs", func(p *site) {
			p.write("slurmk8s.toml", p.read("slurmk8s.toml")+"[workflows]\ntoken = \"job\"\n", 0o644)
			p.allow("slurmk8s:node:c1", "get", "secrets")
		}, "node credential", doctor.Failed, "this node may read all Secrets of namespace slurm", "take the right away"},
		{"DWS's webhook is down", func(*site) { sim.SetWebhookDown(true) }, "DWS", doctor.Failed, "webhook", "kubectl get pods"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSite(t)
			p.well()
			defer func() {
				sim.SetWebhookDown(false)
				p.setup("--overwrite")
			}()
			c.broken(p)
			p.find(c.check, c.status, c.says, c.do)
		})
	}

	t.Run("a Workflow that DWS does not take up", func(t *testing.T) {
		p := newSite(t)
		p.well()
		defer func() {
			_ = p.admin.Resource(workflows).Namespace("slurm").Delete(t.Context(), "bb7", metav1.DeleteOptions{})
		}()
		sim.Stop()
		p.delete(gvr("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"), "", webhookName(t, p, "mutatingwebhookconfigurations"))
		p.delete(gvr("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"), "", webhookName(t, p, "validatingwebhookconfigurations"))
		eventually.True(t, "the webhook answers", func() bool {
			_, err := p.admin.Resource(workflows).Namespace("slurm").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "dataworkflowservices.github.io/v1alpha7", "kind": "Workflow", "metadata": map[string]any{"name": "bb7"},
				"spec": map[string]any{"desiredState": "Proposal", "wlmID": "alps", "jobID": int64(7), "userID": int64(1), "groupID": int64(1), "dwDirectives": []any{}},
			}}, metav1.CreateOptions{})
			return err == nil
		})
		p.in(2 * time.Minute)
		p.find("DWS", doctor.Failed, "workflow slurm/bb7 has been waiting for DWS", "DWS controller")
	})

	t.Run("DWS is not installed", func(t *testing.T) {
		p := newSite(t)
		crds := gvr("apiextensions.k8s.io", "v1", "customresourcedefinitions")
		list, err := p.admin.Resource(crds).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, crd := range list.Items {
			p.delete(crds, "", crd.GetName())
		}
		p.find("DWS", doctor.Failed, "DWS is not installed", "install DWS")
	})
}

// allow gives a user a right in namespace slurm until the test is over.
func (p *site) allow(user, verb, resource string) {
	p.t.Helper()
	const name = "too-much"
	for kind, more := range map[schema.GroupVersionResource]map[string]any{
		gvr("rbac.authorization.k8s.io", "v1", "roles"): {"kind": "Role", "rules": []any{map[string]any{"apiGroups": []any{""}, "resources": []any{resource}, "verbs": []any{verb}}}},
		roleBindings: {"kind": "RoleBinding", "roleRef": map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
			"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}}},
	} {
		more["apiVersion"], more["metadata"] = "rbac.authorization.k8s.io/v1", map[string]any{"name": name}
		in := p.admin.Resource(kind).Namespace("slurm")
		_, err := in.Create(p.t.Context(), &unstructured.Unstructured{Object: more}, metav1.CreateOptions{})
		require.NoError(p.t, err)
		p.t.Cleanup(func() { _ = in.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	}
}

// withoutRule takes a rule from the nodes' role.
func (p *site) withoutRule(resource string) {
	role := p.get(roles, "", "slurmk8s-node")
	rules, _, err := unstructured.NestedSlice(role.Object, "rules")
	require.NoError(p.t, err)
	var kept []any
	for _, r := range rules {
		if fmt.Sprint(r.(map[string]any)["resources"]) != "["+resource+"]" {
			kept = append(kept, r)
		}
	}
	require.Len(p.t, kept, len(rules)-1)
	role.Object["rules"] = kept
	_, err = p.admin.Resource(roles).Update(p.t.Context(), role, metav1.UpdateOptions{})
	require.NoError(p.t, err)
}

func webhookName(t *testing.T, p *site, kind string) string {
	list, err := p.admin.Resource(gvr("admissionregistration.k8s.io", "v1", kind)).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	return list.Items[0].GetName()
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}
