package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

func TestABudgetThatAllowsNothing(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[:1]
	deploy(t, "held", 2, podSpec(t, onNode(n[0].Name), 1, "idle"))
	budget(t, "held", 0)
	pods := evictables(t, n[0].Name)
	require.Len(t, pods, 2)

	failing := reclaiming(t, n, "--k8s-evict-timeout=2:fail")
	ended := failing.ends("FAILED")
	require.Contains(t, failing.output(), "shared/held")
	require.Contains(t, ended["AdminComment"], "shared/held")
	require.Equal(t, pods, evictables(t, n[0].Name))
	awaitNode(t, n[0].Name, "to be given back", func(s nodeState) bool { return !s.Unschedulable && s.holders() == "" })

	ignoring := reclaiming(t, n, "--k8s-evict-timeout=2:ignore")
	ignoring.runsNow()
	require.Equal(t, pods, evictables(t, n[0].Name))
	ignoring.tells()

	deleting := reclaiming(t, n, "--k8s-evict-timeout=2:delete")
	deleting.runsNow()
	require.Empty(t, evictables(t, n[0].Name))
	deleting.tells()
}

func TestABudgetIsNeverExceeded(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[1]
	deploy(t, "web", 3, podSpec(t, preferring(n.Name), 1, "idle"))
	require.Len(t, evictables(t, n.Name), 3)
	budget(t, "web", 1)
	worst := watchReady(t, "web", 3)
	j := reclaiming(t, []testbed.Node{n})
	j.runsNow()
	require.GreaterOrEqual(t, worst(), 2)
	j.tells()
}

// preferring puts pods on a node while it takes any. With a constraint of their own, even one that
// means nothing, Kubernetes does not spread them.
func preferring(name string) string {
	return fmt.Sprintf(`{"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
		"topologySpreadConstraints": [{"maxSkew": 100, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}],
		"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
		"preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [%q]}]}}]}}}`, name)
}

// watchReady counts the ready pods of a Deployment, and returns what tells the lowest number.
func watchReady(t *testing.T, deployment string, now int) (worst func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w, err := cluster.Kube.Resource(node.Pods).Namespace(shared).Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
	require.NoError(t, err)
	lowest := make(chan int, 1)
	lowest <- now
	ready := map[types.UID]bool{}
	complete := false
	go func() {
		for event := range w.ResultChan() {
			pod, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			delete(ready, pod.GetUID())
			if event.Type != watch.Deleted && pod.GetDeletionTimestamp() == nil && isReady(pod) {
				ready[pod.GetUID()] = true
			}
			if complete = complete || len(ready) == now; complete {
				lowest <- min(<-lowest, len(ready))
			}
		}
	}()
	return func() int { n := <-lowest; lowest <- n; return n }
}

func isReady(pod *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	for _, c := range conditions {
		if condition := c.(map[string]any); condition["type"] == "Ready" {
			return condition["status"] == "True"
		}
	}
	return false
}

// A pod that wants an hour to end has as long as the job gives it.
func TestAPodThatDoesNotEndHasItsBudget(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[:1]
	deploy(t, "stubborn", 1, podSpec(t, onNode(n[0].Name), 3600, "stubborn"))
	const grace = 3 * time.Second
	submitted := time.Now()
	j := reclaiming(t, n, fmt.Sprintf("--k8s-evict-grace=%.0f", grace.Seconds()))
	j.runsNow()
	took := time.Since(submitted)
	require.Greater(t, took, grace, "the pod had no time to end")
	require.Empty(t, evictables(t, n[0].Name))
	t.Logf("the job ran %.1f s after its submission", took.Seconds())
	j.tells()
}
