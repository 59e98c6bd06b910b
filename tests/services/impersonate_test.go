package services

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const kubeAlice, kubeBob = "slurmk8s:user:alice", "slurmk8s:user:bob"

// clientAs is node c1's credential, impersonating.
func (w *world) clientAs(as *kube.Identity) *kube.Client {
	w.t.Helper()
	client, err := kube.New(kube.Options{
		Kubeconfig: w.credential("c1"), RequestTimeout: 5 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t), As: as,
	})
	require.NoError(w.t, err)
	return client
}

// registrarFor is that of a job on node c1 whose user is another in Kubernetes.
func (w *world) registrarFor(user string) *service.Registrar {
	r := w.registrar(12)
	r.Kube, r.As = w.client(w.credential("c1")), w.clientAs(&kube.Identity{User: user, Node: "c1"})
	return r
}

// allowed waits until RBAC knows of a new binding.
func (w *world) allowed(user string) {
	w.t.Helper()
	client := w.as(user)
	eventually.True(w.t, "the binding is in force", func() bool {
		u := plainService("probe")
		u.SetLabels(map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "12"})
		_, err := client.Resource(service.Services).Namespace(w.namespace).Create(w.t.Context(), u, metav1.CreateOptions{DryRun: []string{"All"}})
		return err == nil
	})
}

func TestRBACJudgesTheImpersonatedUser(t *testing.T) {
	w := newWorld(t)
	w.install()
	w.bind("User", kubeAlice, "slurmk8s-user")
	w.allowed(kubeAlice)
	specs := w.specs("name=a,port=1,endpoints=both;b:2")

	bob := w.registrarFor(kubeBob)
	none, err := bob.Register(t.Context(), specs)
	require.ErrorContains(t, err, `User "slurmk8s:user:bob" cannot create resource "services" in API group "" in the namespace "`+w.namespace)
	var refused *job.Refused
	require.ErrorAs(t, err, &refused, "it is the user's to hear")
	require.NoError(t, bob.Deregister(t.Context(), none))
	assert.Empty(t, w.names())

	alice := w.registrarFor(kubeAlice)
	regs, err := alice.Register(t.Context(), specs)
	require.NoError(t, err)
	assert.Len(t, w.names(), 6)
	assert.Equal(t, "12", w.get(service.Services, "a").GetLabels()["slurmk8s.io/job-id"])

	// She loses her rights while the job runs: what is there lives and ends as ever.
	require.NoError(t, w.admin.Resource(rbacGVR("rolebindings")).Namespace(w.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	w.bind("Group", "slurmk8s:nodes", "slurmk8s-node")
	eventually.True(t, "her rights are gone", func() bool {
		_, err := w.as(kubeAlice).Resource(service.Services).Namespace(w.namespace).Create(t.Context(), plainService("x"), metav1.CreateOptions{DryRun: []string{"All"}})
		return apierrors.IsForbidden(err)
	})
	for _, reg := range regs {
		require.NoError(t, alice.Ready(t.Context(), reg))
	}
	assert.Contains(t, w.endpoint("a.alps.12.c1"), "ready=true")
	require.NoError(t, alice.Renew(t.Context(), regs, time.Microsecond))
	require.NoError(t, alice.Deregister(t.Context(), regs))
	assert.Empty(t, w.names())
}

// asUser does all for which RBAC judges the user: make, take over of both kinds, restore.
func asUser(w *world, user string) error {
	ctx := w.t.Context()
	dead := w.registrar(11)
	if _, err := dead.Register(ctx, w.specs("name=a,port=1,endpoints=both")); err != nil {
		return err
	}
	r := w.registrarFor(user)
	r.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
	regs, err := r.Register(ctx, w.specs("name=a,port=2,endpoints=both;name=b,port=3,endpoints=both"))
	if err != nil {
		return err
	}
	return r.Deregister(ctx, regs)
}

func TestEachRightOfTheImpersonatedUserIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.install()
	w.bind("User", kubeAlice, "slurmk8s-user")
	w.allowed(kubeAlice)
	require.NoError(t, asUser(w, kubeAlice), "and they are enough")
	for _, r := range userRole.Object["rules"].([]any) {
		rule := r.(map[string]any)
		resource := rule["resources"].([]any)[0].(string)
		for _, v := range rule["verbs"].([]any) {
			verb := v.(string)
			t.Run(verb+" "+resource, func(t *testing.T) {
				w := newWorld(t)
				w.bind("Group", "slurmk8s:nodes", "slurmk8s-node")
				w.bind("User", kubeAlice, w.without(userRole, resource, verb))
				if resource != "services" || verb != "create" {
					w.allowed(kubeAlice)
				}
				time.Sleep(50 * time.Millisecond)
				assert.ErrorContains(t, asUser(w, kubeAlice), fmt.Sprintf("cannot %s resource %q", verb, resource))
			})
		}
	}
}

// stolen is a client that a thief makes of node c1's credential.
func (w *world) stolen(as rest.ImpersonationConfig) dynamic.Interface {
	w.t.Helper()
	config, err := w.server.UserConfig("slurmk8s:node:c1", "slurmk8s:nodes")
	require.NoError(w.t, err)
	config.Impersonate = as
	client, err := dynamic.NewForConfig(config)
	require.NoError(w.t, err)
	return client
}

func TestAStolenCredentialGainsNothingByImpersonating(t *testing.T) {
	w := newWorld(t)
	w.install()
	w.bind("User", kubeAlice, "slurmk8s-user")
	w.allowed(kubeAlice)
	w.create(service.Services, plainService("payments").Object)
	labels := map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "12"}
	slice := func(address string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": map[string]any{"name": "mine"},
			"addressType": "IPv4", "endpoints": []any{map[string]any{"addresses": []any{address}}},
		}}
		u.SetLabels(labels)
		return u
	}
	ours := plainService("mine")
	ours.SetLabels(labels)
	node := func(names ...string) map[string][]string { return map[string][]string{kube.ExtraNode: names} }
	tests := []struct {
		name   string
		as     rest.ImpersonationConfig
		object *unstructured.Unstructured
		want   string // "": allowed
	}{
		{"its own address", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c1")}, slice("10.1.0.1"), ""},
		{"another node's address", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c1")}, slice("10.2.0.7"), `node "c1" may not publish an address that ConfigMap slurm/slurmk8s-nodes does not list for it: 10.2.0.7`},
		{"as another node", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c2")}, slice("10.2.0.7"), "cannot impersonate resource"},
		{"as two nodes", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c2", "c1")}, slice("10.2.0.7"), "cannot impersonate resource"},
		{"as no node", rest.ImpersonationConfig{UserName: kubeAlice}, slice("10.1.0.1"), `node "" may not publish`},
		{"a Service of its own", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c1")}, ours, ""},
		{"a Service without labels", rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c1")}, plainService("x"), "slurmk8s.io/job-id are required"},
		{"a Service without labels, as no node", rest.ImpersonationConfig{UserName: kubeAlice}, plainService("x"), "slurmk8s.io/job-id are required"},
		{"a user who may not", rest.ImpersonationConfig{UserName: kubeBob, Extra: node("c1")}, ours, `User "slurmk8s:user:bob" cannot create`},
		{"a user who is not listed", rest.ImpersonationConfig{UserName: "slurmk8s:user:carol"}, ours, "cannot impersonate resource"},
		{"a user who logs in", rest.ImpersonationConfig{UserName: "alice"}, ours, "cannot impersonate resource"},
		{"the administrator", rest.ImpersonationConfig{UserName: "system:admin"}, ours, "cannot impersonate resource"},
		{"the administrators' group", rest.ImpersonationConfig{UserName: kubeAlice, Groups: []string{"system:masters"}}, ours, "cannot impersonate resource"},
		{"another node's credential", rest.ImpersonationConfig{UserName: "slurmk8s:node:c2", Groups: []string{"slurmk8s:nodes"}}, ours, "cannot impersonate resource"},
		{"a service account", rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:default"}, ours, "cannot impersonate resource"},
		{"another extra", rest.ImpersonationConfig{UserName: kubeAlice, Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"c2"}}}, ours, "cannot impersonate resource"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gvr := service.Services
			if tt.object.GetKind() == "EndpointSlice" {
				gvr = service.EndpointSlices
			}
			_, err := w.stolen(tt.as).Resource(gvr).Namespace(w.namespace).Create(t.Context(), tt.object, metav1.CreateOptions{DryRun: []string{"All"}})
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
	alice := w.stolen(rest.ImpersonationConfig{UserName: kubeAlice, Extra: node("c1")})
	u := w.get(service.Services, "payments")
	u.SetLabels(labels)
	_, err := alice.Resource(service.Services).Namespace(w.namespace).Update(t.Context(), u, metav1.UpdateOptions{})
	require.ErrorContains(t, err, "the object was not made by slurmk8s")
}

func TestTheStepProgramImpersonates(t *testing.T) {
	w := newWorld(t)
	w.install()
	n := w.newNode(site{kubeconfig: w.credential("c1"), services: `impersonate = "slurmk8s:user:alice{user}"`})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	answer := s.reply()
	assert.Equal(t, "CODE=3", answer[0], "the administrator's mistake")
	assert.Contains(t, answer[1], `User "slurmk8s:node:c1" cannot impersonate resource "users"`)
	s.gone()
	assert.Empty(t, w.names())

	// The test's job is of root: a list of whom to impersonate that has root.
	role := fmt.Sprintf("impersonate-root-%d", time.Now().UnixNano())
	_, err := w.admin.Resource(rbacGVR("clusterroles")).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": role},
		"rules": []any{
			map[string]any{"apiGroups": []any{""}, "resources": []any{"users"}, "verbs": []any{"impersonate"}, "resourceNames": []any{"slurmk8s:user:root"}},
			map[string]any{"apiGroups": []any{""}, "resources": []any{"groups"}, "verbs": []any{"impersonate"}, "resourceNames": []any{"slurm-users"}},
		}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.admin.Resource(rbacGVR("clusterrolebindings")).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": map[string]any{"name": role},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "slurmk8s:nodes"}},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.bind("Group", "slurm-users", "slurmk8s-user")
	n = w.newNode(site{kubeconfig: w.credential("c1"), services: "impersonate = 'slurmk8s:user:{user}'\nimpersonate_groups = ['slurm-users']"})
	eventually.True(t, "the binding is in force", func() bool {
		s = n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
		if answer := s.reply(); answer[0] != "CODE=0" {
			s.gone()
			return false
		}
		return true
	})
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}
