package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// Who takes nodes: tests/cluster/slurm/slurmk8s.toml.
func TestWhichJobsTakeTheirNodes(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	deploy(t, "web", 1, podSpec(t, onNode(n.Name), 1, "idle"))
	for _, c := range []struct {
		options []string
		takes   bool
	}{
		{options: nil},
		{options: []string{"--partition=reclaim", "--k8s-nodes=keep"}},
		{options: []string{"--partition=reclaim"}, takes: true},
		{options: []string{"--constraint=exclusive"}, takes: true},
	} {
		available(t, "web", 1)
		j := submit(t, script{options: append(c.options, "--nodelist="+n.Name), body: untilTold})
		j.runsNow()
		require.Equal(t, c.takes, len(evictables(t, n.Name)) == 0, "%v", c.options)
		require.Equal(t, c.takes, stateOf(t, n.Name).Unschedulable, "%v", c.options)
		j.tells()
		awaitNode(t, n.Name, "to be given back", func(s nodeState) bool { return s.holders() == "" })
	}
}

// A job that is a placeholder for pods: they stay, and find the node by its label.
func TestALentNodeIsMarkedForPods(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	j := submit(t, script{options: []string{"--k8s-nodes=lend", "--nodelist=" + n.Name}, body: untilTold})
	j.runsNow()
	require.Equal(t, "true", stateOf(t, n.Name).Labels[node.LabelLent])
	deploy(t, "guest", 1, podSpec(t, `{"nodeSelector": {"slurmk8s.io/lent": "true"}}`, 1, "idle"))
	require.Equal(t, []string{n.Name}, podsOf(t, "guest"))
	j.tells()
	awaitNode(t, n.Name, "not to be lent any more", func(s nodeState) bool { return s.Labels[node.LabelLent] == "" })
}

// A pod that nothing makes again is not lost without the administrator's word.
func TestAPodWithoutAnOwnerIsNotEvicted(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	bare := podSpec(t, onNode(n.Name), 1, "idle")
	createShared(t, node.Pods, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "bare"}, "spec": bare})
	eventually.Equal(t, []string{"shared/bare"}, func() []string { return evictables(t, n.Name) })
	j := reclaiming(t, []testbed.Node{n})
	seen := j.await("to say why", func(seen testbed.Job) bool { return strings.Contains(seen["AdminComment"], "shared/bare") })
	t.Log(seen["AdminComment"])
	j.comes("PENDING")
	require.Equal(t, []string{"shared/bare"}, evictables(t, n.Name))
	removeWorkloads(t)
	j.startNow()
	j.runsNow()
	j.tells()
}

// A node that stays occupied is idle for Slurm, which would choose it for the job again.
func TestAJobIsNotSentBackToTheNodeOfAPodWithoutAnOwner(t *testing.T) {
	shareNodes(t)
	first, second := cluster.Nodes[0], cluster.Nodes[1]
	bare := podSpec(t, onNode(first.Name), 1, "idle")
	createShared(t, node.Pods, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "bare"}, "spec": bare})
	eventually.Equal(t, []string{"shared/bare"}, func() []string { return evictables(t, first.Name) })
	j := submit(t, script{options: []string{"--k8s-nodes=reclaim"}, body: untilTold})
	j.await("to say why", func(seen testbed.Job) bool { return strings.Contains(seen["AdminComment"], "shared/bare") })
	j.startNow()
	j.runsNow()
	seen := j.tells()
	require.Equal(t, second.Name, seen["NodeList"])
	require.Equal(t, first.Name, seen["ExcNodeList"])
	require.Equal(t, "1", seen["Restarts"], "it went to the free node at once")
	require.Equal(t, []string{"shared/bare"}, evictables(t, first.Name))
}

func TestOptionsAboutNodesAreJudgedAtThePrompt(t *testing.T) {
	parallel(t)
	for _, c := range []struct{ option, says string }{
		{"--k8s-nodes=mine", "must be one of reclaim, keep, lend"},
		{"--k8s-nodes=", "is empty"},
		{"--k8s-evict-grace=soon", "soon"},
		{"--k8s-evict-grace=0", "allows 1 to 300 seconds"},
		{"--k8s-evict-grace=100000", "allows 1 to 300 seconds"},
		{"--k8s-evict-timeout=10:perhaps", "perhaps must be one of"},
		{"--k8s-evict-timeout=100000", "allows 0 to 600 seconds"},
		{"--k8s-evict-timeout=-1", "-1"},
	} {
		result := as(t, user, "sbatch", c.option, "--wrap=true")
		require.NotZero(t, result.Status, "%s was accepted", c.option)
		require.Contains(t, result.Stderr, "slurmk8s: ", "%s", c.option)
		require.Contains(t, result.Stderr, c.says, "%s", c.option)
		t.Log(strings.TrimSpace(result.Stderr))
	}
}

// A step has its nodes already.
func TestAStepCannotAskForNodes(t *testing.T) {
	parallel(t)
	j := submit(t, script{body: "srun --k8s-nodes=reclaim true && echo accepted\nsrun true && echo inherited", options: []string{"--k8s-nodes=keep"}})
	j.ends("COMPLETED")
	require.Contains(t, j.output(), "slurmk8s: --k8s-nodes is for a whole job")
	require.NotContains(t, j.output(), "accepted")
	require.Contains(t, j.output(), "inherited")
}
