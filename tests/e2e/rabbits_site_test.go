package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func dws(resource string) schema.GroupVersionResource {
	gvr := dwssim.WorkflowsResource(dwssim.DefaultVersions[len(dwssim.DefaultVersions)-1])
	gvr.Resource = resource
	return gvr
}

// placedOn is what a Servers is filled with: "xfs r1:2".
func placedOn(t *testing.T, servers string) string {
	t.Helper()
	u, err := cluster.Kube.Resource(dws("servers")).Namespace(cluster.Namespace).Get(deadline(t, patience), servers, metav1.GetOptions{})
	require.NoError(t, err)
	text := ""
	sets, _, _ := unstructured.NestedSlice(u.Object, "spec", "allocationSets")
	for _, set := range sets {
		text += fmt.Sprint(set.(map[string]any)["label"])
		storage, _, _ := unstructured.NestedSlice(set.(map[string]any), "storage")
		for _, s := range storage {
			text += fmt.Sprintf(" %v:%v", s.(map[string]any)["name"], s.(map[string]any)["allocationCount"])
		}
	}
	return text
}

var (
	deployments   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	plainArgument = []string{"--in-cluster", "--service=dws-system/dwssim"}
)

// provideRabbits makes dwssim a provider with a rabbit for each node until the test's end.
func provideRabbits(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		runSimulator(t, plainArgument)
		// Without rabbits Workflows may be where the site wants them. The Storages go with this.
		systems := cluster.Kube.Resource(dws("systemconfigurations")).Namespace("default")
		_, err := systems.Patch(deadline(t, patience), "default", types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		require.NoError(t, systems.Delete(deadline(t, patience), "default", metav1.DeleteOptions{}))
		err = cluster.Kube.Resource(dws("systemstatuses")).Namespace("default").Delete(deadline(t, patience), "default", metav1.DeleteOptions{})
		require.True(t, err == nil || apierrors.IsNotFound(err), "systemstatus: %v", err)
		for _, name := range []string{"r1", "r2", cluster.Nodes[0].Name, cluster.Nodes[1].Name} { // of ClientMounts
			err := cluster.Kube.Resource(namespaces).Delete(deadline(t, patience), name, metav1.DeleteOptions{})
			require.True(t, err == nil || apierrors.IsNotFound(err), "namespace %s: %v", name, err)
			eventually.True(t, "namespace "+name+" is gone", func() bool { // dwssim makes it again in the next test
				_, err := cluster.Kube.Resource(namespaces).Get(deadline(t, patience), name, metav1.GetOptions{})
				return apierrors.IsNotFound(err)
			})
		}
	})
	runSimulator(t, append(plainArgument, fmt.Sprintf("--rabbits=r1=%s;r2=%s", cluster.Nodes[0].Name, cluster.Nodes[1].Name)))
	eventually.True(t, "the rabbits are ready", func() bool {
		list, err := cluster.Kube.Resource(dws("storages")).Namespace("default").List(deadline(t, patience), metav1.ListOptions{})
		ready := 0
		if err == nil {
			for _, s := range list.Items {
				if status, _, _ := unstructured.NestedString(s.Object, "status", "status"); status == "Ready" {
					ready++
				}
			}
		}
		return ready == 2
	})
}

// runSimulator runs dwssim with other arguments, and waits until it is the only one.
func runSimulator(t *testing.T, arguments []string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "dwssim", "args": arguments}}}}}})
	require.NoError(t, err)
	api := cluster.Kube.Resource(deployments).Namespace("dws-system")
	changed, err := api.Patch(deadline(t, patience), "dwssim", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	eventually.True(t, "dwssim runs with "+strings.Join(arguments, " "), func() bool {
		now, err := api.Get(deadline(t, patience), "dwssim", metav1.GetOptions{})
		if err != nil {
			return false
		}
		number := func(field string) int64 {
			n, _, _ := unstructured.NestedInt64(now.Object, "status", field)
			return n
		}
		return number("observedGeneration") >= changed.GetGeneration() && number("replicas") == 1 &&
			number("updatedReplicas") == 1 && number("readyReplicas") == 1
	})
}

// failing sets one of dwssim's annotations, or takes it away (nil).
func failing(t *testing.T, resource, name, annotation string, value any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation: value}}})
	require.NoError(t, err)
	_, err = cluster.Kube.Resource(dws(resource)).Namespace("default").Patch(deadline(t, patience), name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	if annotation == dwssim.StatusAnnotation {
		awaitStorage(t, name, func(s dwssim.StorageStatus) bool { return s.Status == value || value == nil && s.Status == "Ready" })
	}
}

// awaitStorage waits until a list from the API server's cache, as placement reads it, has a Storage as
// wanted.
func awaitStorage(t *testing.T, name string, holds func(dwssim.StorageStatus) bool) (found dwssim.StorageStatus) {
	t.Helper()
	eventually.True(t, "Storage "+name+" shows it", func() bool {
		list, err := cluster.Kube.Resource(dws("storages")).Namespace("default").List(deadline(t, patience), metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false
		}
		for _, u := range list.Items {
			if u.GetName() == name {
				found = decode[dwssim.Storage](t, u).Status
				return holds(found)
			}
		}
		return false
	})
	return found
}

func decode[T any](t *testing.T, u unstructured.Unstructured) (object T) {
	t.Helper()
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &object))
	return object
}

// freeOf is what the provider itself has free on a rabbit, which it writes into the Storage when a
// link changes.
func freeOf(t *testing.T, rabbit, node string) int64 {
	t.Helper()
	link := func(status string) func(dwssim.StorageStatus) bool {
		return func(s dwssim.StorageStatus) bool { return s.Access.Computes[0].Status == status }
	}
	failing(t, "storages", rabbit, dwssim.LinksAnnotation, node+"=Offline")
	free := awaitStorage(t, rabbit, link("Offline")).Capacity
	failing(t, "storages", rabbit, dwssim.LinksAnnotation, nil)
	awaitStorage(t, rabbit, link("Ready"))
	return free
}

// keepsRabbits requires that the rabbits are at the test's end as they are now, and that no job has
// left an object, a right or a file.
func keepsRabbits(t *testing.T) {
	t.Helper()
	now := func() []string {
		found := []string{}
		for i, node := range cluster.Nodes {
			rabbit := fmt.Sprintf("r%d", i+1)
			found = append(found, fmt.Sprintf("%d bytes are free on %s", freeOf(t, rabbit, node.Name), rabbit))
		}
		found = append(found, storageFiles(t)...)
		for resource, label := range map[schema.GroupVersionResource]string{
			dws("servers"): "", dws("directivebreakdowns"): "", dws("clientmounts"): "", dws("computes"): "",
			secrets: dwssim.Group + "/workflow.name", roles: slurmjob.LabelJobID, roleBindings: slurmjob.LabelJobID,
		} {
			found = append(found, labelled(t, resource, label)...)
		}
		slices.Sort(found)
		return found
	}
	before := now()
	t.Cleanup(func() {
		if !t.Failed() {
			eventually.Equal(t, before, now, "the rabbits, and what jobs have")
		}
	})
}

// storageFiles are what nodes keep for jobs with storage.
func storageFiles(t *testing.T) (found []string) {
	t.Helper()
	for _, n := range cluster.Nodes {
		files, err := cluster.On(deadline(t, patience), n, "sh", "-c", "find /run/slurmk8s -name 'storage.*' 2>/dev/null; true")
		require.NoError(t, err)
		found = append(found, strings.Fields(files)...)
	}
	return found
}

// labelled are the names of all objects of a kind with a label; "" stands for all objects.
func labelled(t *testing.T, resource schema.GroupVersionResource, label string) (found []string) {
	t.Helper()
	list, err := cluster.Kube.Resource(resource).List(deadline(t, patience), metav1.ListOptions{LabelSelector: label})
	require.NoError(t, err)
	for _, u := range list.Items {
		found = append(found, fmt.Sprintf("%s %s/%s", resource.Resource, u.GetNamespace(), u.GetName()))
	}
	return found
}

// promised is what all jobs have of each rabbit, or were promised and have not got yet.
func promised(t *testing.T) map[string]int64 {
	t.Helper()
	list, err := cluster.Kube.Resource(dws("servers")).List(deadline(t, patience), metav1.ListOptions{})
	require.NoError(t, err)
	sum := map[string]int64{}
	for _, u := range list.Items {
		servers := decode[dwssim.Servers](t, u)
		asked, made := map[string]int64{}, map[string]int64{}
		for _, set := range servers.Spec.AllocationSets {
			for _, on := range set.Storage {
				asked[on.Name] += set.AllocationSize * int64(on.AllocationCount)
			}
		}
		for _, set := range servers.Status.AllocationSets {
			for rabbit, has := range set.Storage {
				made[rabbit] += has.AllocationSize
			}
		}
		for rabbit, bytes := range asked {
			if servers.Status.Ready { // once; less is left in Teardown
				bytes = 0
			}
			sum[rabbit] += max(bytes, made[rabbit])
		}
	}
	return sum
}

// disabledNodes are those that the provider is told not to wait for.
func disabledNodes(t *testing.T) map[string]string {
	t.Helper()
	u, err := cluster.Kube.Resource(dws("systemstatuses")).Namespace("default").Get(deadline(t, patience), "default", metav1.GetOptions{})
	require.NoError(t, err)
	nodes, _, err := unstructured.NestedStringMap(u.Object, "data", "nodes")
	require.NoError(t, err)
	return nodes
}

// nodeDies kills all that runs on a node, until the returned function is called, and tells Slurm.
func nodeDies(t *testing.T, n testbed.Node) (back func()) {
	t.Helper()
	dead := true
	back = func() {
		if !dead {
			return
		}
		dead = false
		_, err := cluster.Docker(deadline(t, patience), "start", n.Container)
		require.NoError(t, err)
		eventually.Equal(t, "idle", func() string {
			return strings.TrimSpace(admin(t, "sinfo", "--noheader", "--nodes="+n.Name, "--partition=main", "--format=%T"))
		}, "node %s", n.Name)
	}
	t.Cleanup(back)
	_, err := cluster.Docker(deadline(t, patience), "kill", n.Container)
	require.NoError(t, err)
	// In place of SlurmdTimeout.
	admin(t, "scontrol", "update", "NodeName="+n.Name, "State=DOWN", "Reason=test")
	return back
}

// givesTokens makes the site one with workflows.token = "job" until the test ends. Each node has a
// certificate of its own, and run_dir is on a tmpfs as on a real host.
func givesTokens(t *testing.T) {
	t.Helper()
	const dir = "/home/slurmk8s-tokens" // on a volume that all hosts share
	controllerMay(t, manifests.StorageToken, map[string]any{"verb": "get", "resource": "secrets", "namespace": cluster.Namespace})
	onNodes := func(command string) {
		t.Helper()
		for _, n := range cluster.Nodes {
			_, err := cluster.On(deadline(t, patience), n, "bash", "-ec", command, "bash", n.Name)
			require.NoError(t, err)
		}
	}
	t.Cleanup(func() {
		everywhere(t, "mv /etc/slurm/slurmk8s.toml.before /etc/slurm/slurmk8s.toml")
		onNodes("umount /run/slurmk8s; mv /etc/slurm/slurmk8s-node.kubeconfig.before /etc/slurm/slurmk8s-node.kubeconfig")
		admin(t, "rm", "-r", dir)
	})
	result, err := cluster.As(deadline(t, patience), "root", adminConf(t), "bash", "-ec", "umask 077; mkdir -p "+dir+"; cat >"+dir+"/admin.conf; "+
		"/opt/slurmk8s/bin/slurmk8s setup --renew --remote --kubeconfig="+dir+"/admin.conf --output="+dir)
	require.NoError(t, err)
	require.Zero(t, result.Status, result.Stderr)
	everywhere(t, `sed -i.before '/^\[workflows\]/a token = "job"' /etc/slurm/slurmk8s.toml`)
	onNodes("cd /etc/slurm; cp -p slurmk8s-node.kubeconfig slurmk8s-node.kubeconfig.before; install -m 600 " + dir + "/nodes/$1/* .; " +
		"mkdir -p /run/slurmk8s; mount -t tmpfs -o mode=755 tmpfs /run/slurmk8s")
}

var (
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	roles        = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}
	roleBindings = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
)

// token is what the job's containers know it by.
func (j *job) token() string {
	j.t.Helper()
	u, err := cluster.Kube.Resource(secrets).Namespace(cluster.Namespace).Get(deadline(j.t, patience), j.workflow+"-token", metav1.GetOptions{})
	require.NoError(j.t, err)
	text, _, _ := unstructured.NestedString(u.Object, "data", "token")
	token, err := base64.StdEncoding.DecodeString(text)
	require.NoError(j.t, err)
	require.NotEmpty(j.t, token)
	return string(token)
}
