package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// bundlePlan are the objects for one namespace of bundles, by kind and name.
func bundlePlan(t *testing.T, rights duty.Rights) map[string]*unstructured.Unstructured {
	t.Helper()
	rights.Role, rights.Namespace = manifests.Bundles, "physics"
	plan := &Plan{Cluster: "hpc", Workflows: "slurm", Bundles: []string{"physics"}, Rights: []duty.Rights{rights}}
	objects, err := plan.Objects()
	require.NoError(t, err)
	found := map[string]*unstructured.Unstructured{}
	for _, u := range objects {
		assert.NotEqual(t, manifests.BundleNamespace, u.GetName(), "the manifest's example is not applied")
		found[u.GetKind()+" "+u.GetName()] = u
	}
	return found
}

func TestANamespaceOfBundlesIsOpenedAndBound(t *testing.T) {
	found := bundlePlan(t, duty.Rights{})
	assert.Equal(t, "open", found["Namespace physics"].GetLabels()["slurmk8s.io/bundles"])
	binding := found["RoleBinding slurmk8s-bundles"]
	require.NotNil(t, binding)
	assert.Equal(t, "physics", binding.GetNamespace())
	assert.Equal(t, []string{"slurmk8s-controller"}, subjects(binding))
	assert.NotNil(t, found["ValidatingAdmissionPolicy slurmk8s-bundles"])
	assert.Nil(t, found["ClusterRoleBinding slurmk8s-bundles"])

	binding = bundlePlan(t, duty.Rights{Kubeconfig: "/etc/slurm/bundles.kubeconfig"})["RoleBinding slurmk8s-bundles"]
	assert.Equal(t, []string{"slurmk8s-bundles"}, subjects(binding), "a credential of its own")
}

func TestReconcileMayListBundlesEverywhereIfARuleHasAPattern(t *testing.T) {
	cfg := slurmconf.Default()
	cfg.Bundles.Kubeconfig = "/etc/slurm/bundles.kubeconfig"
	cfg.Bundles.Allow = []slurmconf.BundleRule{{Users: []string{"*"}, Bundles: []string{"*"}, Namespaces: []string{"user-{user}"}}}
	var notes strings.Builder
	plan, err := (&Options{Config: cfg}).plan(t.Context(), &printer{out: &notes})
	require.NoError(t, err)
	objects, err := plan.Objects()
	require.NoError(t, err)
	found := map[string]*unstructured.Unstructured{}
	for _, u := range objects {
		found[u.GetKind()+" "+u.GetName()] = u
	}
	binding := found["ClusterRoleBinding slurmk8s-bundles-list"]
	require.NotNil(t, binding)
	assert.Equal(t, []string{"slurmk8s-bundles"}, subjects(binding))
	assert.NotNil(t, found["ClusterRole slurmk8s-bundles-list"])
	assert.NotNil(t, found["ClusterRole slurmk8s-bundles"], "to be bound in each matching namespace")
	assert.Contains(t, notes.String(), "bind ClusterRole slurmk8s-bundles to ServiceAccount slurm/slurmk8s-bundles")
	assert.Nil(t, bundlePlan(t, duty.Rights{})["ClusterRoleBinding slurmk8s-bundles-list"])
}

func subjects(binding *unstructured.Unstructured) (names []string) {
	list, _, _ := unstructured.NestedSlice(binding.Object, "subjects")
	for _, s := range list {
		names = append(names, s.(map[string]any)["name"].(string))
	}
	return names
}

func TestOnlyTheKindsOfTheInstalledBundlesAreAllowed(t *testing.T) {
	resources := func(rights duty.Rights) (names []string) {
		rules, _, _ := unstructured.NestedSlice(bundlePlan(t, rights)["ClusterRole slurmk8s-bundles"].Object, "rules")
		for _, r := range rules {
			list, _, _ := unstructured.NestedStringSlice(r.(map[string]any), "resources")
			names = append(names, list...)
		}
		return names
	}
	assert.Contains(t, resources(duty.Rights{}), "deployments", "no bundle could be read: all usual kinds")
	assert.Equal(t, []string{"leases", "configmaps", "pods"}, resources(duty.Rights{Only: map[schema.GroupResource]bool{
		{Group: "coordination.k8s.io", Resource: "leases"}: true, {Resource: "pods"}: true, {Resource: "configmaps"}: true,
	}}))
}

func TestACredentialThatSetupDidNotMakeIsForeign(t *testing.T) {
	const ours = "apiVersion: v1\nkind: Config\nusers:\n- name: slurmk8s\n  user: {tokenFile: /old/state/bundles.token}\n"
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"ours, with state_dir elsewhere": {ours, false},
		"empty":                          {"", false},
		"the controller's":               {strings.Replace(ours, "bundles", "controller", 1), true},
		"a token of the site's":          {strings.Replace(ours, "tokenFile: /old/state/bundles.token", "token: x", 1), true},
		"ours and one more":              {ours + "- name: me\n  user: {token: x}\n", true},
		"no kubeconfig":                  {"[bundles]", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
			assert.Equal(t, test.want, foreign(path, "bundles.token"))
		})
	}
	assert.False(t, foreign("/nonexistent", "bundles.token"))
}
