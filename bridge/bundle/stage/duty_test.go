package stage

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// bundles writes one bundle with one object of a kind.
func bundles(t *testing.T, manifest, object string) []string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "one"), 0o755))
	for name, text := range map[string]string{"bundle.toml": "summary = \"x\"\n" + manifest + "[[phase]]\nname = \"all\"\nfiles = [\"o.yaml\"]\n", "o.yaml": object} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "one", name), []byte(text), 0o644))
	}
	return []string{dir}
}

func TestRightsAreThoseOfTheInstalledBundles(t *testing.T) {
	cfg := slurmconf.Default()
	cfg.Bundles.Allow = []slurmconf.BundleRule{{Namespaces: []string{"physics", "user-{user}"}}}
	cfg.Bundles.Dirs = bundles(t, "", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n")
	rights := Duty{}.Rights(cfg)
	require.Len(t, rights, 2, "of a namespace that is named, and to look in all others")
	assert.Equal(t, "physics", rights[0].Namespace)
	assert.Equal(t, duty.Rights{Role: RoleList, Only: rights[0].Only}, rights[1])
	assert.Equal(t, map[schema.GroupResource]bool{
		{Group: "coordination.k8s.io", Resource: "leases"}: true, {Resource: "pods"}: true,
		{Group: "discovery.k8s.io", Resource: "endpointslices"}: true, {Resource: "configmaps"}: true,
	}, rights[0].Only)

	cfg.Bundles.Dirs = bundles(t, "", "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata:\n  name: ${name}\nspec:\n  workflowTemplateRef:\n    name: deploy\n")
	assert.True(t, Duty{}.Rights(cfg)[0].Only[schema.GroupResource{Group: "argoproj.io", Resource: "workflowtemplates"}])

	cfg.Bundles.Dirs = bundles(t, "mistake = 1\n", "")
	assert.Nil(t, Duty{}.Rights(cfg)[0].Only, "one that cannot be read: nobody knows")
	cfg.Bundles.Dirs = []string{t.TempDir()}
	assert.Nil(t, Duty{}.Rights(cfg)[0].Only, "none here")
}

// What the credential may not see is no reason to leave the bundles elsewhere.
func TestBundlesAreListedInEveryNamespaceThatCanBeSeen(t *testing.T) {
	d, store := stored(t)
	require.NoError(t, d.Bring(t.Context(), setOf(t, "", configMapM), time.Minute))
	store.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/namespaces/ns/") {
			return false
		}
		kubetest.Status(w, 403, "Forbidden", "leases is forbidden")
		return true
	}
	cfg := slurmconf.Default()
	cfg.Cluster = theJob.Cluster
	for _, namespaces := range [][]string{{"closed", "ns"}, {"user-{user}", "ns"}} {
		cfg.Bundles.Allow = []slurmconf.BundleRule{{Namespaces: namespaces}}
		objects, err := Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: d.Kube, Log: d.Log})
		require.ErrorContains(t, err, "forbidden")
		require.Len(t, objects, 1, namespaces)
		assert.Equal(t, "bundle ns/b", objects[0].Name)
	}
}

// Every kind that a bundle may have without naming it is in the shipped ClusterRole, but for
// CronWorkflows, which outlive jobs.
func TestTheShippedRoleHasTheUsualKinds(t *testing.T) {
	rules, err := manifests.Rules(Role)
	require.NoError(t, err)
	verbs := map[string]map[string]bool{}
	for _, rule := range rules {
		if verbs[rule.Resource] == nil {
			verbs[rule.Resource] = map[string]bool{}
		}
		verbs[rule.Resource][rule.Verb] = true
	}
	for name, k := range kinds {
		if k.resource == "cronworkflows" {
			continue
		}
		for _, verb := range []string{"get", "list", "watch", "create", "patch", "delete"} {
			assert.True(t, verbs[k.resource][verb], "%s: %s", name, verb)
		}
	}
}
