package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// mirrorConfig is slurmk8s.toml with a mirror: that of the cluster has none, so that other tests
// have nodes which do what they are told.
const mirrorConfig = "/run/slurmk8s-mirror.toml"

// mirrorNodes begins a test of drains and cordons. At its end both sides are open.
func mirrorNodes(t *testing.T) {
	t.Helper()
	shareNodes(t)
	const write = `sed '/^\[nodes\]/a mirror = "both"\nmirror_max_nodes = "1"\nmirror_after = "3s"\nmirror_conditions = ["KernelDeadlock"]' ` +
		`/etc/slurm/slurmk8s.toml >` + mirrorConfig + `; chmod 644 ` + mirrorConfig
	admin(t, "bash", "-ec", write)
	for _, n := range cluster.Nodes {
		_, err := cluster.On(deadline(t, patience), n, "bash", "-ec", write)
		require.NoError(t, err)
	}
	controllerMay(t, "slurmk8s-node-mirror", map[string]any{"verb": "patch", "resource": "nodes"})
	t.Cleanup(prober.ExcuseDrains())
	for _, n := range cluster.Nodes { // a slurmctld that has only begun does not know what they do
		eventually.Equal(t, "IDLE", func() string { return inSlurm(t, n.Name) }, "node %s of Slurm", n.Name)
	}
	t.Cleanup(func() {
		for _, n := range cluster.Nodes {
			cordon(t, n.Name, false)
			condition(t, n.Name, "KernelDeadlock", "")
			resume(t, n.Name)
			mirrorHere(t, n)
		}
	})
}

// controllerMay gives slurmctld's account the rights of a shipped role until the test ends; attributes
// are those of a request that they allow.
func controllerMay(t *testing.T, role string, attributes map[string]any) {
	t.Helper()
	_, objects, err := manifests.With(role)
	require.NoError(t, err)
	for _, u := range objects {
		resource, err := manifests.Resource(u)
		require.NoError(t, err)
		api := cluster.Kube.Resource(resource).Namespace(u.GetNamespace())
		_, err = api.Apply(deadline(t, patience), u.GetName(), u, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
		require.NoError(t, err)
		t.Cleanup(func() {
			_ = api.Delete(deadline(t, patience), u.GetName(), metav1.DeleteOptions{})
		})
	}
	review := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": map[string]any{
		"user":               "system:serviceaccount:" + manifests.Namespace + ":" + manifests.Controller,
		"resourceAttributes": attributes,
	}}}
	eventually.True(t, "the rights are in force", func() bool {
		answer, err := cluster.Kube.Resource(subjectReviews).Create(deadline(t, patience), review, metav1.CreateOptions{})
		require.NoError(t, err)
		allowed, _, _ := unstructured.NestedBool(answer.Object, "status", "allowed")
		return allowed
	})
}

var subjectReviews = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"}

// mirrorAll is a run on the controller; it returns what it did to nodes, or what is wrong. What else it
// does is of other tests' jobs.
func mirrorAll(t *testing.T, flags ...string) string {
	t.Helper()
	result := as(t, "slurm", append([]string{"/opt/slurmk8s/bin/slurmk8s", "reconcile", "--config", mirrorConfig, "--limit=10s"}, flags...)...)
	var lines []string
	for line := range strings.Lines(result.Stdout + result.Stderr) {
		if strings.HasPrefix(line, "node ") || strings.Contains(line, "mirror: ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// mirrorHere is a run on a node, with its kubelet's credential.
func mirrorHere(t *testing.T, n testbed.Node) string {
	t.Helper()
	out, err := cluster.On(deadline(t, patience), n, "env", "SLURMD_NODENAME="+n.Name,
		"/opt/slurmk8s/bin/slurmk8s", "reconcile", "--config", mirrorConfig, "--node", n.Name, "--limit=10s")
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// inSlurm is "STATE REASON" of a node; who gave the reason is left out, and that slurmd has not been
// asked since the node was resumed.
func inSlurm(t *testing.T, name string) string {
	t.Helper()
	state, reason := "", ""
	for line := range strings.Lines(admin(t, "scontrol", "show", "node", name)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "State="); ok {
			state, _, _ = strings.Cut(text, " ")
			state = strings.ReplaceAll(state, "+NOT_RESPONDING", "")
		}
		if text, ok := strings.CutPrefix(line, "Reason="); ok {
			reason, _, _ = strings.Cut(text, " [")
		}
	}
	return strings.TrimSpace(state + " " + reason)
}

func slurmNode(t *testing.T, name string, changes ...string) {
	t.Helper()
	admin(t, append([]string{"scontrol", "update", "NodeName=" + name}, changes...)...)
}

// resume is what an administrator does with a node that is drained or down; one that is neither is left
// alone, which Slurm 22.05 refuses to resume.
func resume(t *testing.T, name string) {
	t.Helper()
	state := inSlurm(t, name)
	if strings.Contains(state, "DRAIN") || strings.Contains(state, "DOWN") || strings.Contains(state, "FAIL") {
		slurmNode(t, name, "State=RESUME")
	}
}

// silent keeps the slurmd of a node from registering, until back is called: with ReturnToService=2,
// that ends DOWN.
func silent(t *testing.T, n testbed.Node) (back func()) {
	t.Helper()
	signal := func(name string) {
		t.Helper()
		_, err := cluster.On(deadline(t, patience), n, "pkill", name, "-x", "slurmd")
		require.NoError(t, err)
	}
	signal("-STOP")
	t.Cleanup(func() { signal("-CONT") })
	return func() { signal("-CONT") }
}

// condition is what a monitor says of a Node; "" removes it. The kubelet keeps those of others.
func condition(t *testing.T, name, kind, status string) {
	t.Helper()
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":%q}]}}`, kind, status, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	if status == "" {
		patch = fmt.Sprintf(`{"status":{"conditions":[{"$patch":"delete","type":%q}]}}`, kind)
	}
	_, err := cluster.Kube.Resource(node.Nodes).Patch(deadline(t, patience), name, types.StrategicMergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "node-problem-detector"}, "status")
	require.NoError(t, err)
}

func taint(t *testing.T, name, key string) {
	t.Helper()
	taints := "null"
	if key != "" {
		taints = fmt.Sprintf(`[{"key":%q,"effect":"NoSchedule"}]`, key)
	}
	_, err := cluster.Kube.Resource(node.Nodes).Patch(deadline(t, patience), name, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"taints":%s}}`, taints), metav1.PatchOptions{FieldManager: "cluster-autoscaler"})
	require.NoError(t, err)
}

func TestSlurmsNodesCloseTheirKubernetesNodes(t *testing.T) {
	mirrorNodes(t)
	n := cluster.Nodes[0].Name
	before := stateOf(t, n)
	var back func()
	stop := func() { back = silent(t, cluster.Nodes[0]) }
	for _, tt := range []struct {
		name       string
		begin, end func()
		why        string
	}{
		{"drained", func() { slurmNode(t, n, "State=DRAIN", "Reason=bad DIMM") }, func() { resume(t, n) }, "drained: bad DIMM"},
		{"failing", func() { slurmNode(t, n, "State=FAIL", "Reason=bad fan") }, func() { resume(t, n) }, "failing: bad fan"},
		{"down", func() { stop(); slurmNode(t, n, "State=DOWN", "Reason=no power") }, func() { back(); resume(t, n) }, "down: no power"},
		{"down and drained", func() {
			stop()
			slurmNode(t, n, "State=DOWN", "Reason=no power")
			slurmNode(t, n, "State=DRAIN", "Reason=bad DIMM")
		}, func() { back(); resume(t, n) }, "drained: bad DIMM"},
		{"in maintenance", func() {
			admin(t, "scontrol", "create", "reservation", "ReservationName=maintenance", "Flags=MAINT", "Nodes="+n, "Users=root", "StartTime=now", "Duration=10")
			eventually.True(t, "the reservation begins", func() bool { return strings.Contains(inSlurm(t, n), "MAINT") })
		}, func() {
			admin(t, "scontrol", "delete", "ReservationName=maintenance")
			eventually.True(t, "the reservation is over", func() bool { return !strings.Contains(inSlurm(t, n), "MAINT") })
		}, "in a maintenance reservation"},
	} {
		tt.begin()
		require.Equal(t, "node "+n+": close in Kubernetes ("+tt.why+" in Slurm): done", mirrorAll(t), tt.name)
		state := stateOf(t, n)
		require.True(t, state.Unschedulable, tt.name)
		require.Equal(t, "test: "+tt.why, state.Annotations[node.AnnotationDrained])
		require.Empty(t, mirrorAll(t), "our cordon is a reason for nothing")
		require.NotContains(t, inSlurm(t, n), "slurmk8s")
		tt.end()
		require.Equal(t, "node "+n+": open in Kubernetes (resumed in Slurm): done", mirrorAll(t), tt.name)
		require.Equal(t, before, stateOf(t, n), tt.name)
	}

	// DRAIN is not DRAINED: the job goes on, and the node stays closed after it.
	j := reclaiming(t, cluster.Nodes[:1])
	j.runsNow()
	slurmNode(t, n, "State=DRAIN", "Reason=bad DIMM")
	require.Contains(t, mirrorAll(t), "close in Kubernetes (draining: bad DIMM in Slurm): done")
	require.Equal(t, fmt.Sprintf("test/%d/0=reclaim,test=drain", j.id), stateOf(t, n).holders())
	j.tells()
	awaitNode(t, n, "to be given back by the job", func(s nodeState) bool { return s.holders() == "test=drain" })
	require.True(t, stateOf(t, n).Unschedulable, "the job's end opened it")
	eventually.True(t, "the node is drained", func() bool {
		mirrorAll(t)
		return stateOf(t, n).Annotations[node.AnnotationDrained] == "test: drained: bad DIMM"
	})
	resume(t, n)
	mirrorAll(t)
	require.Equal(t, before, stateOf(t, n))
}

func TestKubernetesNodesDrainTheirSlurmNodes(t *testing.T) {
	mirrorNodes(t)
	n := cluster.Nodes[0].Name
	for _, tt := range []struct {
		why        string
		begin, end func()
	}{
		{"cordoned", func() { cordon(t, n, true) }, func() { cordon(t, n, false) }},
		{"KernelDeadlock", func() { condition(t, n, "KernelDeadlock", "True") }, func() { condition(t, n, "KernelDeadlock", "False") }},
		{"ToBeDeletedByClusterAutoscaler", func() { taint(t, n, "ToBeDeletedByClusterAutoscaler") }, func() { taint(t, n, "") }},
	} {
		tt.begin()
		before := stateOf(t, n)
		require.Equal(t, "node "+n+": drain in Slurm ("+tt.why+" in Kubernetes): done", mirrorAll(t))
		require.Equal(t, "IDLE+DRAIN slurmk8s: "+tt.why+" in Kubernetes", inSlurm(t, n))
		require.Empty(t, mirrorAll(t), "our drain is a reason for nothing")
		require.Equal(t, before, stateOf(t, n))
		tt.end()
		require.Equal(t, "node "+n+": undrain in Slurm (open in Kubernetes): done", mirrorAll(t))
		require.Equal(t, "IDLE", inSlurm(t, n))
	}

	// Both at once are too many for one run.
	for _, n := range cluster.Nodes {
		cordon(t, n.Name, true)
	}
	require.Contains(t, mirrorAll(t), "held back: 2 of the 2 nodes that Slurm and Kubernetes share would be drained in Slurm")
	require.Equal(t, "IDLE", inSlurm(t, n))
	require.Contains(t, mirrorAll(t, "--force"), "node "+n+": drain in Slurm (cordoned in Kubernetes): done")

	// DOWN stays DOWN, and a person's words make the drain theirs.
	back := silent(t, cluster.Nodes[0])
	slurmNode(t, n, "State=DOWN", "Reason=slurmk8s: cordoned in Kubernetes")
	slurmNode(t, cluster.Nodes[1].Name, "Reason=slurmk8s: cordoned in Kubernetes, and mine")
	for _, n := range cluster.Nodes {
		cordon(t, n.Name, false)
	}
	mirrorAll(t, "--force")
	require.Contains(t, inSlurm(t, n), "DOWN")
	require.NotContains(t, inSlurm(t, n), "DRAIN")
	require.Equal(t, "IDLE+DRAIN slurmk8s: cordoned in Kubernetes, and mine", inSlurm(t, cluster.Nodes[1].Name))
	back()
	for _, n := range cluster.Nodes {
		resume(t, n.Name)
	}
	mirrorAll(t)
}

// A kubelet that stops is believed after Kubernetes's own time and ours, and one that comes and goes
// is not.
func TestAKubeletThatStopsDrainsItsSlurmNode(t *testing.T) {
	mirrorNodes(t)
	n := cluster.Nodes[0]
	systemctl := func(verb string) {
		t.Helper()
		_, err := cluster.Docker(deadline(t, patience), "exec", n.Name, "systemctl", verb, "kubelet")
		require.NoError(t, err)
	}
	t.Cleanup(func() { systemctl("start") })
	systemctl("restart")
	require.Empty(t, mirrorAll(t))
	systemctl("stop")
	eventually.True(t, "the node is not ready, and drained", func() bool {
		return mirrorAll(t) == "node "+n.Name+": drain in Slurm (NotReady in Kubernetes): done"
	})
	systemctl("start")
	eventually.True(t, "the node is ready, and undrained", func() bool {
		return mirrorAll(t) == "node "+n.Name+": undrain in Slurm (open in Kubernetes): done"
	})
	require.Equal(t, "IDLE", inSlurm(t, n.Name))
}

func TestOneSideIsAwayWhenDrainsAreMirrored(t *testing.T) {
	mirrorNodes(t)
	n := cluster.Nodes[0]
	cordon(t, n.Name, true)
	mirrorAll(t)
	const ours = "IDLE+DRAIN slurmk8s: cordoned in Kubernetes"
	require.Equal(t, ours, inSlurm(t, n.Name))
	cordon(t, n.Name, false)

	back := apiAway(t)
	out, err := cluster.On(deadline(t, patience), n, "bash", "-c", "/opt/slurmk8s/bin/slurmk8s reconcile --config "+mirrorConfig+" --node "+n.Name+" --limit=5s 2>&1; true")
	require.NoError(t, err)
	require.Contains(t, out, "mirror: no node was touched: get node "+n.Name)
	require.Equal(t, ours, inSlurm(t, n.Name))
	back()

	slurmNode(t, cluster.Nodes[1].Name, "State=DRAIN", "Reason=bad DIMM")
	answered := prober.Excuse()
	admin(t, "bash", "-ec", `kill -STOP "$(cat /run/slurm/slurmctld.pid)"`)
	t.Cleanup(func() { admin(t, "bash", "-c", `kill -CONT "$(cat /run/slurm/slurmctld.pid)"`) })
	require.Contains(t, mirrorAll(t), "mirror: no node was touched: scontrol --all show node: no answer in time")
	admin(t, "bash", "-ec", `kill -CONT "$(cat /run/slurm/slurmctld.pid)"`)
	answered()
	require.Equal(t, ours, inSlurm(t, n.Name))
	require.False(t, stateOf(t, cluster.Nodes[1].Name).Unschedulable)

	mirrorAll(t)
	require.Equal(t, "IDLE", inSlurm(t, n.Name))
	require.True(t, stateOf(t, cluster.Nodes[1].Name).Unschedulable)
	resume(t, cluster.Nodes[1].Name)
	mirrorAll(t)
}

// Both administrators, a job and both kinds of runs act in any order. The end is what the last person
// on each side wanted.
func TestDrainsAndCordonsInAnyOrder(t *testing.T) {
	mirrorNodes(t)
	n := cluster.Nodes[0]
	before := stateOf(t, n.Name)
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 22))
		cordoned, drained, story := false, "", []string{}
		var running *job
		for range 8 {
			step := ""
			switch random.IntN(7) {
			case 0: // of two who cordon, Kubernetes does not see the later one
				cordon(t, n.Name, false)
				cordon(t, n.Name, true)
				cordoned, step = true, "cordon"
			case 1:
				cordon(t, n.Name, false)
				cordoned, step = false, "uncordon"
			case 2:
				drained = fmt.Sprintf("reason %d of %d", len(story), seed)
				slurmNode(t, n.Name, "State=DRAIN", "Reason="+drained)
				step = "drain"
			case 3:
				resume(t, n.Name)
				drained, step = "", "resume"
			case 4:
				switch {
				case running != nil:
					running.tells()
					running, step = nil, "the job ends"
				case !strings.Contains(inSlurm(t, n.Name), "DRAIN"):
					running = reclaiming(t, []testbed.Node{n})
					running.runsNow()
					step = "a job begins"
				}
			case 5:
				step = "controller: " + mirrorAll(t)
			case 6:
				step = "node: " + mirrorHere(t, n)
			}
			story = append(story, step)
		}
		story = append(story, mirrorAll(t), mirrorHere(t, n))
		eventually.True(t, fmt.Sprintf("seed %d settles: %q", seed, story), func() bool { return mirrorAll(t) == "" }) // a job may still be ending
		state := inSlurm(t, n.Name)
		switch {
		case drained != "":
			require.Regexp(t, `\+DRAIN\b.* `+drained+"$", state, "seed %d: %q", seed, story)
		case cordoned:
			require.Regexp(t, `\+DRAIN\b.* slurmk8s: cordoned in Kubernetes$`, state, "seed %d: %q", seed, story)
		default:
			require.NotContains(t, state, "DRAIN", "seed %d: %q", seed, story)
		}
		if running != nil {
			running.tells()
			awaitNode(t, n.Name, "to be given back", func(s nodeState) bool { return !strings.Contains(s.holders(), "reclaim") })
		}
		require.Equal(t, cordoned || drained != "", stateOf(t, n.Name).Unschedulable, "seed %d: %q", seed, story)
		cordon(t, n.Name, false)
		resume(t, n.Name)
		mirrorAll(t)
		require.Equal(t, before, stateOf(t, n.Name), "seed %d: %q", seed, story)
	}
}
