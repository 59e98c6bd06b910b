package bundles

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const account = "system:serviceaccount:slurm:slurmk8s-controller"

// install applies a shipped manifest; its example of an open namespace is the world's.
func (w *world) install(file string) {
	w.t.Helper()
	text, err := os.ReadFile("../../packaging/manifests/" + file)
	require.NoError(w.t, err)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := decoder.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(w.t, err)
		if len(u.Object) == 0 || u.GetKind() == "Namespace" {
			continue
		}
		if u.GetNamespace() == manifests.BundleNamespace || u.GetNamespace() == manifests.OpenNamespace {
			u.SetNamespace(w.namespace)
		}
		gvr, err := manifests.Resource(u)
		require.NoError(w.t, err)
		_, err = w.admin.Resource(gvr).Namespace(u.GetNamespace()).Create(w.t.Context(), u, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(w.t, err)
		}
	}
}

// with is the driver of a job, and plain access, with a user's credential.
func (w *world) with(user string, groups ...string) (driver, dynamic.Interface) {
	w.t.Helper()
	config, err := w.server.UserConfig(user, groups...)
	require.NoError(w.t, err)
	client, err := kube.ForConfig(config, kube.Options{RequestTimeout: 30 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t)})
	require.NoError(w.t, err)
	plain, err := dynamic.NewForConfig(config)
	require.NoError(w.t, err)
	d := w.driver(12)
	d.Kube = client
	return d, plain
}

func (w *world) openTheNamespaceOfAccounts() {
	w.t.Helper()
	_, err := w.admin.Resource(apiserver.Namespaces).Create(w.t.Context(), phase("", "", "{apiVersion: v1, kind: Namespace, metadata: {name: slurm}}").Objects[0], metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(w.t, err)
	}
}

func TestTheShippedRightsAreEnoughAndNoMore(t *testing.T) {
	w := newWorld(t)
	w.openTheNamespaceOfAccounts()
	w.install("bundles.yaml")
	d, plain := w.with(account)
	w.kubelet(running)
	set := w.set("aok", phase("base", "", configMap("m"), serviceOf("s")), phase("server", "", deploymentOf("s", 1), podOf("p")))
	require.NoError(t, d.Check(t.Context(), set))
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))

	changed := w.set("aok", phase("base", "", configMapWith("m", "{b: '3'}")), phase("server", "", deploymentOf("s", 2)))
	d.Job.Restarts = 1
	require.NoError(t, d.Bring(t.Context(), changed, eventually.Patience), "the bundle of a requeued job may change")

	// Nothing without our labels, nobody else's, and nothing elsewhere.
	create := func(text string) error {
		_, err := plain.Resource(configMaps).Namespace(w.namespace).Create(t.Context(), phase("", "", text).Objects[0], metav1.CreateOptions{})
		return err
	}
	eventually.True(t, "the policy is in force", func() bool {
		err := create("{apiVersion: v1, kind: ConfigMap, metadata: {generateName: x-}}")
		return err != nil
	})
	require.ErrorContains(t, create("{apiVersion: v1, kind: ConfigMap, metadata: {name: x, labels: {slurmk8s.io/managed-by: slurmk8s}}}"),
		"labels slurmk8s.io/managed-by, slurmk8s.io/cluster and slurmk8s.io/bundle are required")
	w.create(configMaps, configMap("theirs"))
	require.ErrorContains(t, plain.Resource(configMaps).Namespace(w.namespace).Delete(t.Context(), "theirs", metav1.DeleteOptions{}), "the object was not made by slurmk8s")
	_, err := plain.Resource(configMaps).Namespace("default").List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), err)
	secrets := configMaps
	secrets.Resource = "secrets"
	_, err = plain.Resource(secrets).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), err)

	require.NoError(t, d.End(t.Context(), w.namespace))
	for _, name := range w.names() {
		assert.NotContains(t, []string{"configmaps/m", "services/s", "deployments/s", "pods/p", "leases/slurm-alps-12.aok"}, name)
	}
}

// as makes a driver write in the name of a user of jobs.
func (w *world) as(d *driver, user string) {
	w.t.Helper()
	var err error
	d.As, err = kube.ForConfig(w.userConfig(user), kube.Options{RequestTimeout: 30 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t)})
	require.NoError(w.t, err)
}

// userConfig is the account's credential, for a user whom it impersonates.
func (w *world) userConfig(user string) *rest.Config {
	w.t.Helper()
	config, err := w.server.UserConfig(account)
	require.NoError(w.t, err)
	config.Impersonate.UserName = user
	return config
}

func TestRBACJudgesTheUserWhoIsImpersonated(t *testing.T) {
	w := newWorld(t)
	w.openTheNamespaceOfAccounts()
	w.install("bundles.yaml")
	w.install("bundles-impersonation.yaml")
	w.install("node.yaml") // its policy keeps the users of services away from bundles
	_, ofServices := w.with("slurmk8s:user:alice", "system:masters")
	eventually.True(t, "that policy is in force", func() bool {
		_, err := ofServices.Resource(services).Namespace(w.namespace).Create(t.Context(), phase("", "",
			"{apiVersion: v1, kind: Service, metadata: {name: x, labels: {slurmk8s.io/bundle: aok}}, spec: {ports: [{port: 80}]}}").Objects[0], metav1.CreateOptions{DryRun: []string{"All"}})
		return err != nil && strings.Contains(err.Error(), "slurmk8s-nodes")
	})
	d, _ := w.with(account)
	set := w.set("aok", phase("base", "", configMap("m"), serviceOf("v")), phase("server", "", deploymentOf("s", 0)))
	set.Last = []bundle.Phase{phase("delete", bundle.WaitNone, configMap("last"))}

	w.as(&d, "slurmk8s:bundle-user:carol")
	var refused *job.Refused
	err := d.Check(t.Context(), set)
	require.ErrorContains(t, err, "cannot impersonate", "she is not in the list")
	require.NotErrorAs(t, err, &refused, "which is the administrator's to mend")

	w.as(&d, "slurmk8s:bundle-user:alice")
	eventually.True(t, "the right to impersonate is in force", func() bool {
		err = d.Check(t.Context(), set)
		return errors.As(err, &refused)
	})
	require.ErrorContains(t, err, `ConfigMap m: Kubernetes does not allow this user to do it: configmaps is forbidden: User "slurmk8s:bundle-user:alice" cannot create resource "configmaps"`)
	require.ErrorAs(t, d.Bring(t.Context(), set, eventually.Patience), &refused)
	require.NoError(t, d.End(t.Context(), w.namespace))

	roles, bindings := configMaps, configMaps
	roles.Group, roles.Resource = "rbac.authorization.k8s.io", "roles"
	bindings.Group, bindings.Resource = "rbac.authorization.k8s.io", "rolebindings"
	w.create(roles, `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: alice}, rules: [
		{apiGroups: ["", apps], resources: [configmaps, services, deployments], verbs: [create, patch]}]}`)
	w.create(bindings, `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: alice},
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: alice},
		subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "slurmk8s:bundle-user:alice"}]}`)
	eventually.True(t, "alice has the right", func() bool { return d.Check(t.Context(), set) == nil })
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	d.Job.Restarts = 1
	changed := w.set("aok", phase("base", "", configMapWith("m", "{b: '3'}"), serviceOf("v")), phase("server", "", deploymentOf("s", 0)))
	require.NoError(t, d.Bring(t.Context(), changed, eventually.Patience), "removed and made again, since the first has something to do at its end")
	d.Job.Restarts = 2
	again := w.set("aok", phase("base", "", configMapWith("m", "{b: '4'}"), serviceOf("v")), phase("server", "", deploymentOf("s", 0)))
	again.Last = set.Last
	require.NoError(t, d.Bring(t.Context(), again, eventually.Patience), "changed in place")

	// The policy of the account holds for its users too.
	plain, err := dynamic.NewForConfig(w.userConfig("slurmk8s:bundle-user:alice"))
	require.NoError(t, err)
	eventually.True(t, "the policy is in force", func() bool {
		_, err := plain.Resource(configMaps).Namespace(w.namespace).Create(t.Context(), phase("", "", configMap("x")).Objects[0], metav1.CreateOptions{DryRun: []string{"All"}})
		return err != nil && strings.Contains(err.Error(), "slurmk8s.io/bundle are required")
	})

	require.NoError(t, w.admin.Resource(bindings).Namespace(w.namespace).Delete(t.Context(), "alice", metav1.DeleteOptions{}))
	eventually.True(t, "alice has lost it", func() bool { return d.Check(t.Context(), set) != nil })
	require.NoError(t, d.End(t.Context(), w.namespace))
	for _, name := range w.names() {
		assert.NotContains(t, []string{"configmaps/m", "configmaps/last", "services/v", "deployments/s", "leases/slurm-alps-12.aok"}, name)
	}
}

// In a namespace that is open to services too, reconcile takes an ended job out of the owners
// of a Service that several share.
func TestTheRightsForBundlesLeaveServicesOfJobsToReconcile(t *testing.T) {
	w := newWorld(t)
	w.openTheNamespaceOfAccounts()
	w.install("bundles.yaml")
	w.install("node.yaml")
	_, plain := w.with(account)
	eventually.True(t, "the policy is in force", func() bool {
		_, err := plain.Resource(configMaps).Namespace(w.namespace).Create(t.Context(),
			phase("", "", "{apiVersion: v1, kind: ConfigMap, metadata: {generateName: x-}}").Objects[0], metav1.CreateOptions{DryRun: []string{"All"}})
		return err != nil && !apierrors.IsForbidden(err)
	})
	const ours = "slurmk8s.io/managed-by: slurmk8s, slurmk8s.io/cluster: alps"
	update := func(name, labels string) error {
		u := w.create(services, "{apiVersion: v1, kind: Service, metadata: {name: "+name+", labels: {"+labels+"}}, spec: {ports: [{port: 80}]}}")
		of := u.GetLabels()
		delete(of, "slurmk8s.io/bundle")
		u.SetLabels(of)
		u.SetAnnotations(map[string]string{"a": "b"})
		_, err := plain.Resource(services).Namespace(w.namespace).Update(t.Context(), u, metav1.UpdateOptions{})
		return err
	}
	require.NoError(t, update("shared", ours))
	require.ErrorContains(t, update("bundles", ours+", slurmk8s.io/bundle: aok"), "slurmk8s.io/bundle are required")
	require.ErrorContains(t, update("theirs", "app: x"), "the object was not made by slurmk8s")
}

func TestANodesCredentialTouchesNoBundle(t *testing.T) {
	w := newWorld(t)
	w.openTheNamespaceOfAccounts()
	_, err := w.admin.Resource(apiserver.Namespaces).Patch(t.Context(), w.namespace, "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"slurmk8s.io/services":"open"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	w.install("node.yaml")
	d := w.driver(12)
	set := w.set("aok", phase("base", "", serviceOf("s")))
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	before := w.names()

	_, node := w.with("slurmk8s:node:c1", "slurmk8s:nodes")
	const refusal = "the object belongs to a bundle, which only the controller makes and removes"
	eventually.True(t, "the policy is in force", func() bool {
		err := node.Resource(job.Leases).Namespace(w.namespace).Delete(t.Context(), "slurm-alps-12.none", metav1.DeleteOptions{})
		return apierrors.IsNotFound(err)
	})
	eventually.True(t, "the Lease is refused", func() bool {
		err := node.Resource(job.Leases).Namespace(w.namespace).Delete(t.Context(), "slurm-alps-12.aok", metav1.DeleteOptions{DryRun: []string{"All"}})
		return err != nil
	})
	for gvr, name := range map[string]string{"leases": "slurm-alps-12.aok", "services": "s"} {
		resource := services
		if gvr == "leases" {
			resource = job.Leases
		}
		err := node.Resource(resource).Namespace(w.namespace).Delete(t.Context(), name, metav1.DeleteOptions{})
		require.ErrorContains(t, err, refusal, gvr)
		_, err = node.Resource(resource).Namespace(w.namespace).Patch(t.Context(), name, "application/merge-patch+json",
			[]byte(`{"metadata":{"labels":{"slurmk8s.io/bundle":null}}}`), metav1.PatchOptions{})
		require.Error(t, err, gvr)
	}
	_, err = node.Resource(deployments).Namespace(w.namespace).Create(t.Context(), phase("", "", deploymentOf("x", 1)).Objects[0], metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), err)
	assert.Equal(t, before, w.names())
}
