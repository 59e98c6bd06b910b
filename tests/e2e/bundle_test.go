package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const bundlesNamespace = "slurm-bundles"

var lastCompanion atomic.Int32

// bundleResources are those of the test's bundle, and what Kubernetes makes for them.
var bundleResources = []schema.GroupVersionResource{
	slurmjob.Leases, {Version: "v1", Resource: "configmaps"}, {Group: "apps", Version: "v1", Resource: "deployments"}, {Version: "v1", Resource: "pods"},
}

// companions are how many objects of the job's bundles there are, by resource.
func (j *job) companions() map[string]int {
	j.t.Helper()
	found := map[string]int{}
	for _, gvr := range bundleResources {
		list, err := cluster.Kube.Resource(gvr).Namespace(bundlesNamespace).List(deadline(j.t, patience), metav1.ListOptions{LabelSelector: slurmjob.LabelJobID + "=" + j.number()})
		require.NoError(j.t, err)
		if len(list.Items) > 0 {
			found[gvr.Resource] = len(list.Items)
		}
	}
	return found
}

// companion installs a bundle of a ConfigMap and a Deployment of one pod, which is staged
// before its job starts, and returns its name. It must be told what to greet with.
func companion(t *testing.T) string {
	t.Helper()
	return companionWith(t, visitorImage(t))
}

// visitorImage is one that the nodes have.
func visitorImage(t *testing.T) string {
	t.Helper()
	visitor, err := cluster.Kube.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}).
		Namespace("e2e").Get(deadline(t, patience), "visitor", metav1.GetOptions{})
	require.NoError(t, err)
	containers, _, err := unstructured.NestedSlice(visitor.Object, "spec", "template", "spec", "containers")
	require.NoError(t, err)
	return containers[0].(map[string]any)["image"].(string)
}

func companionWith(t *testing.T, image string) string {
	t.Helper()
	deployment, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "${name}"},
		"spec": map[string]any{
			"replicas": "${size}",
			"selector": map[string]any{"matchLabels": map[string]any{"app": "${name}"}},
			"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "${name}"}}, "spec": map[string]any{
				"containers": []any{map[string]any{"name": "visitor", "image": image, "imagePullPolicy": "Never"}},
			}},
		},
	})
	require.NoError(t, err)
	name := unique(fmt.Sprintf("companion-%d", lastCompanion.Add(1)))
	dir := "/etc/slurm/slurmk8s.d/bundles/" + name
	admin(t, "mkdir", "-p", "-m", "755", dir)
	for file, text := range map[string]string{
		"bundle.toml": "summary = \"a test\"\nwhen = \"stage\"\non_failure = \"cancel\"\n" +
			"[param.greeting]\ntype = \"string\"\npattern = \"[a-zA-Z0-9=,% ]+\"\nmax = 20\nhelp = \"what it says\"\n" +
			"[param.size]\ntype = \"int\"\nmin = 1\nmax = 3\ndefault = 1\nhelp = \"how many pods\"\n" +
			"[[phase]]\nname = \"base\"\nfiles = [\"base.yaml\"]\n[[phase]]\nname = \"server\"\nfiles = [\"server.yaml\"]\n",
		"base.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${name}\"}\ndata: {greeting: \"${greeting}\"}\n",
		"server.yaml": string(deployment),
	} {
		admin(t, "sh", "-c", "cat >"+dir+"/"+file+" <<'EOF'\n"+text+"\nEOF\n")
	}
	t.Cleanup(func() { admin(t, "rm", "-r", dir) })
	return name
}

func TestABundleComesWithItsJobAndIsGoneWithIt(t *testing.T) {
	parallel(t)
	name := companion(t)
	for _, end := range []string{"COMPLETED", "CANCELLED"} {
		t.Run(end, func(t *testing.T) {
			j := submit(t, script{directives: []string{"bundle " + name + " greeting=hi"}, body: "env | grep ^SLURMK8S_BUNDLES\n" + untilTold})
			j.comes("RUNNING")
			require.Equal(t, map[string]int{"leases": 1, "configmaps": 1, "deployments": 1, "pods": 1}, j.companions(), "staged before the job started")
			u, err := cluster.Kube.Resource(bundleResources[2]).Namespace(bundlesNamespace).Get(deadline(t, patience), fmt.Sprintf("%s-%d", name, j.id), metav1.GetOptions{})
			require.NoError(t, err)
			available, _, _ := unstructured.NestedInt64(u.Object, "status", "availableReplicas")
			require.EqualValues(t, 1, available)
			j.prints("SLURMK8S_BUNDLES=" + name)
			if end == "COMPLETED" {
				j.tell()
			} else {
				j.scancel()
			}
			j.ends(end)
			eventually.Equal(t, map[string]int{}, j.companions, "left of job %d", j.id)
		})
	}
}

func TestABundleWhoseImageDoesNotExistSaysSo(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{"bundle " + companionWith(t, "slurmk8s-nosuch:1") + " greeting=hi"}, body: "true"})
	const reason = `ErrImageNeverPull: Container image "slurmk8s-nosuch:1" is not present`
	eventually.True(t, "bbstat says what the job waits for", func() bool {
		status := as(t, user, "scontrol", "show", "bbstat", "bundle", j.number()).Stdout
		return strings.Contains(status, "status=Waiting") && strings.Contains(status, "ErrImageNeverPull") == (release >= tellsWhoAsks)
	})
	j.says(reason)
	j.ends("CANCELLED")
	eventually.Equal(t, map[string]int{}, j.companions, "left of job %d", j.id)
}

// The test cluster has no job_submit.lua.
func TestATaskIsToldThatItsBundleIsMissing(t *testing.T) {
	parallel(t)
	const reason = "--k8s-bundle had no effect: the job has no bundles. It is an option of sbatch, salloc and an " +
		"srun outside a job; if it was given to one of these, job_submit.lua of slurmk8s is not installed: tell the administrator"
	j := submit(t, script{options: []string{"--k8s-bundle=" + companion(t) + ",greeting=hi"}, body: "echo started"})
	j.ends("FAILED")
	require.Contains(t, j.output(), reason)
	require.NotContains(t, j.output(), "started")

	result := as(t, user, "srun", "--ntasks=1", "--k8s-bundle="+companion(t)+",greeting=hi", "echo", "started")
	require.NotZero(t, result.Status)
	require.Contains(t, result.Stderr, reason)
	require.NotContains(t, result.Stdout, "started")
}
