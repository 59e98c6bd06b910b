package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// reclaimByTheController begins a test of a site whose nodes have no credential: PrologSlurmctld
// and EpilogSlurmctld reclaim nodes and give them back.
func reclaimByTheController(t *testing.T) {
	t.Helper()
	shareNodes(t)
	controllerMay(t, "slurmk8s-node-reclaim", map[string]any{"verb": "create", "resource": "pods", "subresource": "eviction"})
	t.Cleanup(func() { // also of what was changed on one host only
		configure(t, `sed -i 's/ nodes=on//; s/ workflows=on/ nodes=on&/' /etc/slurm/plugstack.conf; echo >/etc/slurm/extra.conf; `)
	})
	configure(t, `sed -i 's/ nodes=on//' /etc/slurm/plugstack.conf
		printf '%s=/opt/slurmk8s/bin/slurmk8s\n' PrologSlurmctld EpilogSlurmctld >/etc/slurm/extra.conf; `)
}

func TestTheControllerReclaimsTheNodesOfAJob(t *testing.T) {
	reclaimByTheController(t)
	deploy(t, "web", 4, podSpec(t, anywhere, 5, "idle"))
	onEachNode(t, "web")
	j := reclaiming(t, cluster.Nodes)
	j.runsNow()
	for _, n := range cluster.Nodes {
		require.Equal(t, fmt.Sprintf("test/%d/0=reclaim", j.id), stateOf(t, n.Name).holders())
		require.Empty(t, evictables(t, n.Name))
	}
	j.tells()
	for _, n := range cluster.Nodes {
		awaitNode(t, n.Name, "to be back in Kubernetes", func(s nodeState) bool { return !s.Unschedulable && s.holders() == "" })
	}
	available(t, "web", 4)
}

// As on a node with a credential: Slurm would choose the node that stays occupied for the job again
// and again.
func TestTheControllerKeepsAJobFromANodeThatStaysOccupied(t *testing.T) {
	reclaimByTheController(t)
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
	for _, n := range cluster.Nodes {
		awaitNode(t, n.Name, "to be back in Kubernetes", func(s nodeState) bool { return !s.Unschedulable && s.holders() == "" })
	}
}
