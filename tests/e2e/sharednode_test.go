package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// shared is the namespace of the pods that jobs evict (workload/deploy.yaml).
const shared = "shared"

var (
	deploymentsResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	budgetsResource     = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
)

// nodeState is what an administrator sees and sets of a Node object.
type nodeState struct {
	Unschedulable       bool
	Taints              []any
	Labels, Annotations map[string]string
}

// stateOf reads it. The taint that Kubernetes derives from the cordon comes and goes a moment
// after it, and is left out.
func stateOf(t *testing.T, name string) nodeState {
	t.Helper()
	object, err := cluster.Kube.Resource(node.Nodes).Get(deadline(t, patience), name, metav1.GetOptions{})
	require.NoError(t, err)
	var state nodeState
	state.Labels, state.Annotations = object.GetLabels(), object.GetAnnotations()
	state.Unschedulable, _, _ = unstructured.NestedBool(object.Object, "spec", "unschedulable")
	taints, _, _ := unstructured.NestedSlice(object.Object, "spec", "taints")
	for _, taint := range taints {
		key, _, _ := unstructured.NestedString(taint.(map[string]any), "key")
		if !strings.HasPrefix(key, "node.kubernetes.io/") {
			state.Taints = append(state.Taints, taint)
		}
	}
	return state
}

// nodesNow are the states of all workers, by name.
func nodesNow(t *testing.T) map[string]nodeState {
	t.Helper()
	states := map[string]nodeState{}
	for _, n := range cluster.Nodes {
		states[n.Name] = stateOf(t, n.Name)
	}
	return states
}

// holders are the jobs that have the node, as its annotation says.
func (s nodeState) holders() string { return s.Annotations[node.AnnotationHolders] }

// shareNodes begins a test whose jobs take nodes from Kubernetes, and so disturb all others. At its
// end the nodes are as they were, to the letter.
func shareNodes(t *testing.T) {
	t.Helper()
	alone(t)
	cleanAfterInterruption(t)
	before := nodesNow(t)
	for name, state := range before {
		require.False(t, state.Unschedulable, "%s is cordoned before the test", name)
	}
	t.Cleanup(func() {
		if t.Failed() {
			freeNodes(t)
		}
		removeWorkloads(t)
		requireNodes(t, before)
	})
}

// cleanAfterInterruption ends what a run of the tests left that was killed.
func cleanAfterInterruption(t *testing.T) {
	t.Helper()
	removeWorkloads(t)
	if slices.ContainsFunc(cluster.Nodes, func(n testbed.Node) bool { return stateOf(t, n.Name).holders() != "" }) {
		healthCheck(t)
	}
}

// requireNodes waits until the nodes are as they were.
func requireNodes(t *testing.T, before map[string]nodeState) {
	t.Helper()
	for _, n := range cluster.Nodes {
		eventually.Equal(t, before[n.Name], func() nodeState { return stateOf(t, n.Name) }, "node %s is not as it was", n.Name)
	}
}

func (s nodeState) equals(other nodeState) bool {
	taints, _ := json.Marshal(s.Taints)
	others, _ := json.Marshal(other.Taints)
	return s.Unschedulable == other.Unschedulable && string(taints) == string(others) &&
		maps.Equal(s.Labels, other.Labels) && maps.Equal(s.Annotations, other.Annotations)
}

// freeNodes gives the nodes back by force after a failure, so that it makes no other test fail.
func freeNodes(t *testing.T) {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:null,%q:null},"labels":{%q:null,%q:null}},"spec":{"unschedulable":null}}`,
		node.AnnotationHolders, node.AnnotationChanged, node.LabelHeldBy, node.LabelLent)
	for _, n := range cluster.Nodes {
		t.Logf("node %s at the failure: %+v", n.Name, stateOf(t, n.Name))
		if log, err := cluster.On(deadline(t, patience), n, "tail", "-n", "25", "/var/log/slurm/slurmk8s.log"); err == nil {
			t.Logf("slurmk8s.log of %s:\n%s", n.Name, log)
		}
		_, _ = cluster.Kube.Resource(node.Nodes).Patch(deadline(t, patience), n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	}
}

// cordon is what the administrator does with kubectl.
func cordon(t *testing.T, name string, on bool) {
	t.Helper()
	_, err := cluster.Kube.Resource(node.Nodes).Patch(deadline(t, patience), name, types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on), metav1.PatchOptions{FieldManager: "kubectl"})
	require.NoError(t, err)
}

// awaitNode waits until the node is as wanted.
func awaitNode(t *testing.T, name, what string, holds func(nodeState) bool) nodeState {
	t.Helper()
	var state nodeState
	eventually.True(t, "node "+name+" "+what, func() bool { state = stateOf(t, name); return holds(state) })
	return state
}

// Where pods may run: the control plane is the third machine, which no job takes.
const (
	workersOnly = `{}`
	anywhere    = `{"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
		"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
		"preference": {"matchExpressions": [{"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"}]}}]}}}`
	controlPlaneOnly = `{"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
		"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}`
)

// podSpec is that of a pod that runs workload.
func podSpec(t *testing.T, placement string, graceSeconds int, arguments ...string) map[string]any {
	t.Helper()
	spec := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(placement), &spec))
	template, err := cluster.Kube.Resource(deploymentsResource).Namespace(shared).Get(deadline(t, patience), "workload", metav1.GetOptions{})
	require.NoError(t, err)
	containers, _, err := unstructured.NestedSlice(template.Object, "spec", "template", "spec", "containers")
	require.NoError(t, err)
	var words []any
	for _, a := range arguments {
		words = append(words, a)
	}
	containers[0].(map[string]any)["args"] = words
	spec["containers"] = containers
	spec["terminationGracePeriodSeconds"] = int64(graceSeconds)
	return spec
}

// onNode pins a pod to a node, in a way that the scheduler heeds a cordon.
func onNode(name string) string {
	return fmt.Sprintf(`{"nodeSelector": {"kubernetes.io/hostname": %q}}`, name)
}

// createShared makes an object in the namespace shared; removeWorkloads removes it.
func createShared(t *testing.T, resource schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	t.Helper()
	// Through YAML, so that all numbers are of one type.
	text, err := yaml.Marshal(object)
	require.NoError(t, err)
	var clean map[string]any
	require.NoError(t, yaml.Unmarshal(text, &clean))
	made, err := cluster.Kube.Resource(resource).Namespace(shared).Create(deadline(t, patience),
		&unstructured.Unstructured{Object: clean}, metav1.CreateOptions{})
	require.NoError(t, err)
	return made
}

// deploy makes a Deployment and waits until it is available.
func deploy(t *testing.T, name string, replicas int, spec map[string]any) {
	t.Helper()
	labels := map[string]any{"app": name}
	createShared(t, deploymentsResource, map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"replicas": replicas, "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec}},
	})
	available(t, name, replicas)
}

func available(t *testing.T, name string, replicas int) {
	t.Helper()
	eventually.Equal(t, int64(replicas), func() int64 {
		object, err := cluster.Kube.Resource(deploymentsResource).Namespace(shared).Get(deadline(t, patience), name, metav1.GetOptions{})
		require.NoError(t, err)
		number, _, _ := unstructured.NestedInt64(object.Object, "status", "availableReplicas")
		return min(number, int64(replicas))
	}, "available pods of deployment %s", name)
}

// budget lets so many pods of a Deployment be away at once.
func budget(t *testing.T, deployment string, maxUnavailable int) {
	t.Helper()
	createShared(t, budgetsResource, map[string]any{
		"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": map[string]any{"name": deployment},
		"spec": map[string]any{"maxUnavailable": maxUnavailable,
			"selector": map[string]any{"matchLabels": map[string]any{"app": deployment}}},
	})
	// Until its controller has counted the pods nothing may be evicted.
	eventually.True(t, "the pods of "+deployment+"'s budget are counted", func() bool {
		object, err := cluster.Kube.Resource(budgetsResource).Namespace(shared).Get(deadline(t, patience), deployment, metav1.GetOptions{})
		require.NoError(t, err)
		healthy, _, _ := unstructured.NestedInt64(object.Object, "status", "currentHealthy")
		return healthy > 0
	})
}

// removeWorkloads removes all pods that a test made, and waits for their end.
func removeWorkloads(t *testing.T) {
	t.Helper()
	now := int64(0)
	pods := cluster.Kube.Resource(node.Pods).Namespace(shared)
	require.NoError(t, cluster.Kube.Resource(budgetsResource).Namespace(shared).DeleteCollection(deadline(t, patience), metav1.DeleteOptions{}, metav1.ListOptions{}))
	require.NoError(t, cluster.Kube.Resource(deploymentsResource).Namespace(shared).DeleteCollection(deadline(t, patience), metav1.DeleteOptions{},
		metav1.ListOptions{FieldSelector: "metadata.name!=workload"}))
	eventually.True(t, "the pods of namespace "+shared+" are gone", func() bool {
		list, err := pods.List(deadline(t, patience), metav1.ListOptions{})
		require.NoError(t, err)
		for _, p := range list.Items {
			_ = pods.Delete(deadline(t, patience), p.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		}
		return len(list.Items) == 0
	})
}

// evictables are the pods of a node that a job which takes the node evicts.
func evictables(t *testing.T, name string) []string {
	t.Helper()
	list, err := cluster.Kube.Resource(node.Pods).List(deadline(t, patience), metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	require.NoError(t, err)
	var found []string
	for _, p := range list.Items {
		if isEvictable(&p) {
			found = append(found, p.GetNamespace()+"/"+p.GetName())
		}
	}
	return found
}

func isEvictable(p *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(p)
	_, mirror := p.GetAnnotations()["kubernetes.io/config.mirror"]
	phase, _, _ := unstructured.NestedString(p.Object, "status", "phase")
	return !mirror && (owner == nil || owner.Kind != "DaemonSet") && phase != "Succeeded" && phase != "Failed"
}

// podsOf are the nodes that the pods of a Deployment are bound to: "" for one that waits.
func podsOf(t *testing.T, deployment string) (nodes []string) {
	t.Helper()
	list, err := cluster.Kube.Resource(node.Pods).Namespace(shared).List(deadline(t, patience), metav1.ListOptions{LabelSelector: "app=" + deployment})
	require.NoError(t, err)
	for _, p := range list.Items {
		if p.GetDeletionTimestamp() == nil {
			name, _, _ := unstructured.NestedString(p.Object, "spec", "nodeName")
			nodes = append(nodes, name)
		}
	}
	return nodes
}

// onEachNode requires that the Deployment has pods on both workers.
func onEachNode(t *testing.T, deployment string) {
	t.Helper()
	for _, n := range cluster.Nodes {
		require.Contains(t, podsOf(t, deployment), n.Name, "%s has no pod there to begin with", deployment)
	}
}

// reclaiming is a job on some nodes that takes them from Kubernetes and runs until it is told to end.
func reclaiming(t *testing.T, nodes []testbed.Node, options ...string) *job {
	t.Helper()
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return submit(t, script{
		options: append([]string{"--k8s-nodes=reclaim", fmt.Sprintf("--ntasks=%d", len(nodes)), "--nodelist=" + strings.Join(names, ",")}, options...),
		body:    untilTold,
	})
}

// tells ends a job that runs until it is told to.
func (j *job) tells() testbed.Job {
	j.t.Helper()
	j.comes("RUNNING")
	j.tell()
	return j.ends("COMPLETED")
}

// runsNow waits until the job's script runs: RUNNING alone may mean that its nodes are made ready.
func (j *job) runsNow() {
	j.t.Helper()
	j.await("to run", func(seen testbed.Job) bool {
		require.False(j.t, isOver(seen.State()), "job %d: %s", j.id, seen["AdminComment"])
		return seen.State() == "RUNNING" && seen["Reason"] != "Prolog"
	})
	file := fmt.Sprintf("/home/%s/slurm-%d.out", user, j.id)
	eventually.True(j.t, "job "+j.number()+" has output", func() bool { return exists(j.t, file) })
}

// startNow has a requeued job begin: Slurm would wait two minutes.
func (j *job) startNow() {
	j.t.Helper()
	j.comes("PENDING")
	// The credential of the last run is revoked for that second.
	time.Sleep(2 * time.Second)
	admin(j.t, "scontrol", "update", "JobId="+j.number(), "StartTime=now")
}

// healthCheck does what HealthCheckProgram does, once on each node: it finds what epilogs left.
func healthCheck(t *testing.T) {
	t.Helper()
	for _, n := range cluster.Nodes {
		reconcileNode(t, n)
	}
}
