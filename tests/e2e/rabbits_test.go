package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// A job of each class with storage that is made on servers: of its nodes, of the network, and
// one that is there already.
func TestStorageOfRabbits(t *testing.T) {
	alone(t)
	provideRabbits(t)
	first, second := cluster.Nodes[0].Name, cluster.Nodes[1].Name

	t.Run("xfs is made on the rabbit of the node that the job got", func(t *testing.T) {
		j := submit(t, script{directives: []string{"jobdw type=xfs capacity=50GB pool=dws name=scratch"},
			body: "env; sleep 3", options: []string{"--nodelist=" + second}})
		j.comes("RUNNING")
		require.Equal(t, "xfs r2:1", placedOn(t, j.workflow+"-0"))
		status := as(t, user, "scontrol", "show", "bbstat", "workflow", j.number()).Stdout
		require.Contains(t, status, "currentState=PreRun")
		if release > 2205 { // which does not tell the hook who asks
			require.Contains(t, status, "rabbits=r2")
		}
		j.ends("COMPLETED")
		j.gone()
	})

	t.Run("Lustre is staged in while the nodes are busy", func(t *testing.T) {
		busy := submit(t, script{body: "sleep 600", options: []string{"--nodes=2", "--exclusive"}})
		busy.comes("RUNNING")
		j := submit(t, script{directives: []string{"jobdw type=lustre capacity=1TB pool=dws name=scratch"}})
		j.awaitWorkflow("to be staged in", dwssim.Ready(dwssim.DataIn))
		require.Equal(t, "PENDING", jobs.Get(j.id).State())
		admin(t, "scancel", busy.number())
		j.ends("COMPLETED")
		j.gone()
	})

	t.Run("a job without room on its node goes back into the queue, and gets another", func(t *testing.T) {
		holder := submit(t, script{directives: []string{"jobdw type=xfs capacity=30TiB pool=dws name=scratch"},
			body: "sleep 600", options: []string{"--nodelist=" + first}})
		holder.comes("RUNNING")
		j := submit(t, script{directives: []string{"jobdw type=xfs capacity=30TiB pool=dws name=scratch"}, options: []string{"--nodelist=" + first}})
		line := fmt.Sprintf("xfs needs 30.01 TiB on r1 for node %s, and 1.99 TiB is free", first)
		j.await("to be put back", func(seen testbed.Job) bool {
			return seen["Restarts"] != "0" || strings.Contains(seen["SystemComment"], line)
		})
		admin(t, "scancel", holder.number())
		holder.gone()
		admin(t, "scontrol", "update", "JobId="+j.number(), "StartTime=now")
		j.ends("COMPLETED")
		j.gone()
	})

	t.Run("a persistent instance is made, used by a job on its node, and destroyed", func(t *testing.T) {
		on := []string{"--nodelist=" + first}
		for _, directive := range []string{"create_persistent type=xfs capacity=50GB pool=dws name=mine", "persistentdw name=mine", "destroy_persistent name=mine"} {
			j := submit(t, script{directives: []string{directive}, options: on})
			j.ends("COMPLETED")
			j.gone()
		}
	})
}

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

// What goes wrong with rabbits, on the real Slurm.
func TestRabbitsThatFail(t *testing.T) {
	alone(t)
	t.Cleanup(prober.ExcuseDrains())
	provideRabbits(t)
	first, second := cluster.Nodes[0].Name, cluster.Nodes[1].Name
	const xfs = "jobdw type=xfs capacity=50GB pool=dws name=scratch"

	t.Run("a rabbit that is drained after setup: the job goes to another one, and Slurm's node is drained", func(t *testing.T) {
		occupy := func(node string) *job {
			j := submit(t, script{body: "sleep 600", options: []string{"--nodelist=" + node, "--exclusive"}})
			j.comes("RUNNING")
			return j
		}
		here, there := occupy(first), occupy(second)
		j := submit(t, script{directives: []string{xfs}})
		j.awaitWorkflow("to wait for its nodes", dwssim.Ready(dwssim.Proposal))
		failing(t, "storages", "r1", dwssim.StatusAnnotation, "Drained")
		admin(t, "scancel", here.number())
		seen := j.await("to be kept away", func(seen testbed.Job) bool { return seen["ExcNodeList"] == first })
		require.Contains(t, seen["SystemComment"], "r1 (of "+first+") is Drained")

		// A configuration of its own: other tests want their nodes.
		const config = "/tmp/slurmk8s-drain.toml"
		admin(t, "bash", "-c", `sed 's/^\[workflows\]/[workflows]\nhealth = "drain"/' /etc/slurm/slurmk8s.toml >`+config)
		tend := func() {
			result := as(t, "slurm", "/opt/slurmk8s/bin/slurmk8s", "reconcile", "--limit=20s", "--config="+config)
			require.Zero(t, result.Status, result.Stdout+result.Stderr)
		}
		state := func() string {
			return strings.TrimSpace(admin(t, "sinfo", "--noheader", "--nodes="+first, "--partition=main", "--Format=StateComplete:60,Reason:60"))
		}
		tend()
		require.Contains(t, state(), "drain")
		require.Contains(t, state(), "slurmk8s: storage: r1 is Drained")
		failing(t, "storages", "r1", dwssim.StatusAnnotation, nil)
		eventually.True(t, first+" is undrained", func() bool { tend(); return !strings.Contains(state(), "drain") })

		admin(t, "scancel", there.number())
		admin(t, "scontrol", "update", "JobId="+j.number(), "StartTime=now")
		j.ends("COMPLETED")
		require.Equal(t, second, jobs.Get(j.id)["NodeList"])
		j.gone()
	})
}

// failing sets one of dwssim's annotations, or takes it away (nil).
func failing(t *testing.T, resource, name, annotation string, value any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation: value}}})
	require.NoError(t, err)
	_, err = cluster.Kube.Resource(dws(resource)).Namespace("default").Patch(deadline(t, patience), name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	if annotation != dwssim.StatusAnnotation {
		return
	}
	eventually.True(t, "the Storage shows it", func() bool {
		list, err := cluster.Kube.Resource(dws(resource)).Namespace("default").List(deadline(t, patience), metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false
		}
		for _, u := range list.Items {
			if status, _, _ := unstructured.NestedString(u.Object, "status", "status"); u.GetName() == name {
				return status == value || value == nil && status == "Ready"
			}
		}
		return false
	})
}
