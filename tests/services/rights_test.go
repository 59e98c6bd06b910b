package services

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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

// everything is what a node ever does: register, take over, renew, open, close,
// the epilog, an import. It returns the first error.
func everything(w *world, kubeconfig string) error {
	ctx := w.t.Context()
	r := w.registrar(12)
	r.Kube = w.client(kubeconfig)
	r.Events = kube.NewEvents(r.Kube, "c1")
	specs := w.specs("name=a,port=1,endpoints=both;name=b,port=2,expose=headless")
	dead := w.registrar(11)
	dead.Kube = r.Kube
	if _, err := dead.Register(ctx, specs); err != nil {
		return err
	}
	r.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
	regs, err := r.Register(ctx, specs)
	if err != nil {
		return err
	}
	var failed []error
	for _, reg := range regs {
		failed = append(failed, r.Ready(ctx, reg))
	}
	resolver := &service.Resolver{Kube: r.Kube, Log: apiserver.Log(w.t)}
	_, err = resolver.Resolve(ctx, service.Import{Namespace: w.namespace, Name: "a"})
	failed = append(failed, err)
	for _, reg := range regs {
		failed = append(failed, r.Terminating(ctx, reg))
	}
	failed = append(failed, r.Renew(ctx, regs, time.Microsecond), r.Deregister(ctx, regs))
	sweeper := &service.Sweeper{Kube: r.Kube, Cluster: cluster, Log: apiserver.Log(w.t)}
	failed = append(failed, sweeper.Job(ctx, w.namespace, dead.Job, "c1"), sweeper.Job(ctx, w.namespace, r.Job, "c1"))
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if left := w.names(); len(left) > 0 {
		return fmt.Errorf("left: %v", left)
	}
	return w.mayTell(r.Events)
}

// mayTell makes an error of what nothing else fails for.
func (w *world) mayTell(events *kube.Events) error {
	events.Tell(w.t.Context(), kube.Object{APIVersion: "v1", Kind: "Service", Namespace: w.namespace, Name: "a"}, kube.EventNormal, "Test", "x")
	list, err := w.admin.Resource(kube.EventsGVR).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{FieldSelector: "reason=Test"})
	if err == nil && len(list.Items) == 0 {
		err = errors.New("cannot create resource \"events\"")
	}
	return err
}

func TestTheShippedRightsAreEnough(t *testing.T) {
	w := newWorld(t)
	w.install()
	require.NoError(t, everything(w, w.credential("c1")))

	// And the program with them, from the first request to the epilog.
	n := w.newNode(site{kubeconfig: w.credential("c1")})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none;name=b,port=8889,host=all,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") && n.isReady("b.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestEachShippedRightIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.install()
	for _, r := range nodeRole.Object["rules"].([]any) {
		rule := r.(map[string]any)
		resource := rule["resources"].([]any)[0].(string)
		for _, v := range rule["verbs"].([]any) {
			verb := v.(string)
			t.Run(verb+" "+resource, func(t *testing.T) {
				w := newWorld(t)
				user := fmt.Sprintf("slurmk8s:node:c1-%d", time.Now().UnixNano())
				w.bind("User", user, w.without(nodeRole, resource, verb))
				path, err := w.server.UserKubeconfig(user) // not in the group: the policy has a test of its own
				require.NoError(t, err)
				// Authorization takes up a new binding some milliseconds later.
				eventually.True(t, "the rights are in force", func() bool {
					_, err := w.as(user).Resource(job.Leases).Namespace(w.namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
						"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": "x"}}}, metav1.CreateOptions{DryRun: []string{"All"}})
					return err == nil || verb == "create" && resource == "leases"
				})
				time.Sleep(50 * time.Millisecond)
				err = everything(w, path)
				require.Error(t, err)
				if resource == "endpoints" && verb == "get" {
					return // a site may leave them out as a whole, so that one alone shows as leftovers
				}
				assert.ErrorContains(t, err, "cannot "+verb+" resource \""+resource+"\"")
			})
		}
	}
}

func TestASiteWithoutTheOldEndpoints(t *testing.T) {
	w := newWorld(t)
	w.install()
	role := nodeRole.DeepCopy()
	role.Object["metadata"] = map[string]any{"name": fmt.Sprintf("no-endpoints-%d", time.Now().UnixNano())}
	var rules []any
	for _, r := range role.Object["rules"].([]any) {
		if r.(map[string]any)["resources"].([]any)[0] != "endpoints" {
			rules = append(rules, r)
		}
	}
	role.Object["rules"] = rules
	_, err := w.admin.Resource(rbacGVR("clusterroles")).Create(t.Context(), role, metav1.CreateOptions{})
	require.NoError(t, err)
	w = newWorld(t)
	user := fmt.Sprintf("slurmk8s:node:c1-%d", time.Now().UnixNano())
	w.bind("User", user, role.GetName())
	path, err := w.server.UserKubeconfig(user)
	require.NoError(t, err)
	r := w.registrar(12)
	r.Kube = w.client(path)
	var regs []*service.Registration
	eventually.True(t, "the rights are in force", func() bool {
		regs, err = r.Register(t.Context(), w.specs("a:1"))
		return err == nil
	})
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Empty(t, w.names())
}

// stolen is what a thief with node c1's credential tries; each is refused.
func TestAStolenCredentialPublishesItsNodeOnly(t *testing.T) {
	w := newWorld(t)
	w.install()
	closed := apiserver.NewNamespace(t, w.admin)
	open := w.namespace
	w.namespace = closed
	w.bind("Group", "slurmk8s:nodes", "slurmk8s-node") // the right, but not the label
	w.namespace = open
	thief := w.as("slurmk8s:node:c1", "slurmk8s:nodes")

	// What is there: a foreign Service, and one of each of two jobs.
	foreign := w.create(service.Services, plainService("payments").Object)
	victim := w.registrar(77)
	_, err := victim.Register(t.Context(), w.specs("victim:1"))
	require.NoError(t, err)

	mine := func() *unstructured.Unstructured {
		u := plainService("mine")
		u.SetLabels(map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "12"})
		return u
	}
	slice := func(family string, addresses ...any) *unstructured.Unstructured {
		u := mine()
		u.SetName("mine.alps.12.c1")
		u.SetKind("EndpointSlice")
		u.SetAPIVersion("discovery.k8s.io/v1")
		delete(u.Object, "spec")
		u.Object["addressType"] = family
		u.Object["endpoints"] = []any{map[string]any{"addresses": addresses}}
		return u
	}
	old := func(key string, addresses ...any) *unstructured.Unstructured {
		u := mine()
		u.SetKind("Endpoints")
		delete(u.Object, "spec")
		var list []any
		for _, a := range addresses {
			list = append(list, map[string]any{"ip": a})
		}
		u.Object["subsets"] = []any{map[string]any{key: list, "ports": []any{map[string]any{"port": int64(1)}}}}
		return u
	}
	spec := func(key string, value any) *unstructured.Unstructured {
		u := mine()
		u.Object["spec"].(map[string]any)[key] = value
		return u
	}
	lease := func(name string) *unstructured.Unstructured {
		u := mine()
		u.SetName(name)
		u.SetKind("Lease")
		u.SetAPIVersion("coordination.k8s.io/v1")
		delete(u.Object, "spec")
		return u
	}
	create := func(gvr schema.GroupVersionResource, namespace string, u *unstructured.Unstructured) error {
		_, err := thief.Resource(gvr).Namespace(namespace).Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	tests := []struct {
		name string
		err  error
		want string // "": allowed
	}{
		{"its own address", create(service.EndpointSlices, open, slice("IPv4", "10.1.0.1")), ""},
		{"a Service with our labels", create(service.Services, open, mine()), ""},
		{"its own address in the old form", create(service.Endpoints, open, old("addresses", "10.1.0.1")), ""},
		{"the lease of a job", create(job.Leases, open, lease("slurm-alps-12")), ""},

		{"another node's address", create(service.EndpointSlices, open, slice("IPv4", "10.2.0.7")), `node "c1" may not publish an address that ConfigMap slurm/slurmk8s-nodes does not list for it: 10.2.0.7`},
		{"its own and another's", create(service.EndpointSlices, open, slice("IPv4", "10.1.0.1", "10.2.0.7")), "may not publish an address"},
		{"the cloud's metadata", create(service.EndpointSlices, open, slice("IPv4", "169.254.169.254")), "link-local"},
		{"loopback", create(service.EndpointSlices, open, slice("IPv4", "127.0.0.1")), "loopback"},
		{"an address of IPv6", create(service.EndpointSlices, open, slice("IPv6", "fd00::2")), "may not publish an address"},
		{"a host name", create(service.EndpointSlices, open, slice("FQDN", "evil.example.org")), "addressType must be IPv4 or IPv6"},
		{"another's in the old form", create(service.Endpoints, open, old("addresses", "10.2.0.7")), "may not publish an address"},
		{"another's in the old form, not ready", create(service.Endpoints, open, old("notReadyAddresses", "10.2.0.7")), "may not publish an address"},
		{"a namespace that is not open", create(service.Services, closed, mine()), "is not open to slurmk8s: label it"},
		{"a namespace without a binding", create(service.Services, "default", mine()), "is forbidden"},
		{"kube-system", create(service.EndpointSlices, "kube-system", slice("IPv4", "10.1.0.1")), "is forbidden"},
		{"a Service without labels", create(service.Services, open, plainService("x")), "slurmk8s.io/job-id are required"},
		{"a selector", create(service.Services, open, spec("selector", map[string]any{"app": "db"})), "is not open to Services with a selector"},
		{"externalIPs", create(service.Services, open, spec("externalIPs", []any{"10.0.0.1"})), "may not set externalIPs"},
		{"a load balancer", create(service.Services, open, spec("type", "LoadBalancer")), "is not open to Services of type LoadBalancer"},
		{"a node port", create(service.Services, open, spec("type", "NodePort")), "is not open to Services of type NodePort"},
		{"a lease of somebody else", create(job.Leases, open, lease("kube-controller-manager")), "the name of a job's Lease must be"},
		{"update of a foreign Service", func() error {
			u := foreign.DeepCopy()
			u.SetLabels(mine().GetLabels())
			_, err := thief.Resource(service.Services).Namespace(open).Update(t.Context(), u, metav1.UpdateOptions{})
			return err
		}(), "the object was not made by slurmk8s"},
		{"delete of a foreign Service", thief.Resource(service.Services).Namespace(open).Delete(t.Context(), "payments", metav1.DeleteOptions{}),
			"the object was not made by slurmk8s"},
		{"another cluster's object", func() error {
			u := w.get(service.Services, "victim")
			u.SetLabels(map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "other", "slurmk8s.io/job-id": "1"})
			_, err := thief.Resource(service.Services).Namespace(open).Update(t.Context(), u, metav1.UpdateOptions{})
			return err
		}(), "the object belongs to another Slurm cluster"},
		{"a victim's endpoint moved to the metadata", func() error {
			u := w.get(service.EndpointSlices, "victim.alps.77.c1")
			u.Object["endpoints"] = []any{map[string]any{"addresses": []any{"10.9.9.9"}}}
			u.SetManagedFields(nil)
			_, err := thief.Resource(service.EndpointSlices).Namespace(open).Apply(t.Context(), u.GetName(), bare(u), metav1.ApplyOptions{FieldManager: "x", Force: true})
			return err
		}(), "may not publish an address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				require.NoError(t, tt.err)
				return
			}
			require.ErrorContains(t, tt.err, tt.want)
		})
	}
	assert.Equal(t, foreign, w.get(service.Services, "payments"), "untouched")

	t.Run("nothing besides", func(t *testing.T) {
		for _, gvr := range []schema.GroupVersionResource{
			{Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "pods"},
			{Version: "v1", Resource: "serviceaccounts"}, {Group: "apps", Version: "v1", Resource: "deployments"}, rbacGVR("rolebindings"),
		} {
			_, err := thief.Resource(gvr).Namespace(open).List(t.Context(), metav1.ListOptions{})
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", gvr.Resource, err)
			_, err = thief.Resource(gvr).Namespace("slurm").Get(t.Context(), "slurmk8s-nodes", metav1.GetOptions{})
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", gvr.Resource, err)
		}
		_, err := thief.Resource(apiserver.Namespaces).List(t.Context(), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err))
		_, err = thief.Resource(service.Services).List(t.Context(), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err), "of all namespaces")
	})
	t.Run("labels of the namespace open the rest", func(t *testing.T) {
		w.label(`"slurmk8s.io/selectors":"open","slurmk8s.io/node-ports":"open","slurmk8s.io/load-balancers":"open"`)
		eventually.True(t, "opened", func() bool {
			return create(service.Services, open, spec("selector", map[string]any{"app": "db"})) == nil
		})
		assert.NoError(t, create(service.Services, open, spec("type", "NodePort")))
		assert.NoError(t, create(service.Services, open, spec("type", "LoadBalancer")))
		assert.Error(t, create(service.Services, open, spec("externalIPs", []any{"10.0.0.1"})))
	})
	t.Run("subnets, several, IPv6; rubbish gives nothing", func(t *testing.T) {
		as := func(node string, u *unstructured.Unstructured) error {
			_, err := w.as("slurmk8s:node:"+node, "slurmk8s:nodes").Resource(service.EndpointSlices).Namespace(open).
				Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{"All"}})
			return err
		}
		assert.NoError(t, as("c2", slice("IPv4", "10.2.0.7")))
		assert.NoError(t, as("c2", slice("IPv6", "fd00::2")))
		assert.Error(t, as("c2", slice("IPv4", "10.1.0.1")))
		assert.Error(t, as("c3", slice("IPv4", "10.1.0.1")))
		assert.Error(t, as("unknown", slice("IPv4", "10.1.0.1")))
		assert.Error(t, as("any", slice("IPv4", "10.1.0.1")))
	})
}

// bare is an object as one applies it.
func bare(u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	for _, field := range []string{"resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	return u
}

// A token that is bound to a Kubernetes node says by itself which node it is.
func TestATokenBoundToANodeIsThatNode(t *testing.T) {
	w := newWorld(t)
	w.install()
	ctx := t.Context()
	nodes := schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	_, err := w.admin.Resource(nodes).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "c1"}}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
	_, err = w.admin.Resource(rbacGVR("rolebindings")).Namespace(w.namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": map[string]any{"name": "sa"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "slurmk8s-node"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "slurmk8s-node", "namespace": "slurm"}},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": "slurmk8s-node"},
		"spec": map[string]any{"audiences": []any{}, "boundObjectRef": map[string]any{"apiVersion": "v1", "kind": "Node", "name": "c1"}},
	}}
	answer, err := w.admin.Resource(plurals["ServiceAccount"]).Namespace("slurm").Create(ctx, request, metav1.CreateOptions{}, "token")
	require.NoError(t, err)
	token, _, _ := unstructured.NestedString(answer.Object, "status", "token")
	n := w.newNode(site{kubeconfig: w.tokenKubeconfig(token)})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	assert.Equal(t, []string{"CODE=0"}, s.end())

	r := w.registrar(13)
	r.Kube, r.Address = w.client(w.tokenKubeconfig(token)), netip.MustParseAddr("10.2.0.7")
	_, err = r.Register(ctx, w.specs("b:1"))
	require.ErrorContains(t, err, `node "c1" may not publish an address that ConfigMap slurm/slurmk8s-nodes does not list for it: 10.2.0.7`)
}
