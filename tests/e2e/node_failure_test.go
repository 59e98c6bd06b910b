package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// givenBack requires that the nodes are as before after one reconcile on each, as HealthCheckProgram
// does it. Slurm has drained none: shareNodes sees to that.
func givenBack(t *testing.T, before map[string]nodeState) {
	t.Helper()
	healthCheck(t)
	requireNodes(t, before)
}

// stuck is a job whose prolog waits for a pod that may not be evicted. What the test does to it must
// happen within the timeout.
func stuck(t *testing.T, n testbed.Node, timeout string) *job {
	t.Helper()
	deploy(t, "held", 1, podSpec(t, onNode(n.Name), 1, "idle"))
	budget(t, "held", 0)
	j := reclaiming(t, []testbed.Node{n}, "--k8s-evict-timeout="+timeout)
	awaitNode(t, n.Name, "to be held", func(s nodeState) bool { return s.holders() != "" })
	return j
}

func kill9(t *testing.T, n testbed.Node, command string) {
	t.Helper()
	_, err := cluster.On(deadline(t, patience), n, "pkill", "-KILL", "-f", command)
	require.NoError(t, err)
}

func TestAJobIsCancelledInItsProlog(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	j := stuck(t, cluster.Nodes[0], "20:fail")
	j.scancel()
	j.ends("CANCELLED")
	requireNodes(t, before) // without a reconcile
	available(t, "held", 1)
}

func TestSlurmdIsKilledInAProlog(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	j := stuck(t, cluster.Nodes[0], "20:fail")
	kill9(t, cluster.Nodes[0], "^slurmd -D")
	awaitNode(t, cluster.Nodes[0].Name, "to be given back", func(s nodeState) bool { return s.holders() == "" })
	givenBack(t, before)
	removeWorkloads(t)
	j.launchAgain()
	j.tells()
}

// launchAgain is what an administrator does with a job that Slurm itself forgets to launch, because
// slurmd or slurmctld was killed during its prolog: whatever the prolog does, Slurm then shows it as
// running and nothing runs.
func (j *job) launchAgain() {
	j.t.Helper()
	if jobs.Get(j.id).State() != "PENDING" { // it was not written down yet that it had begun
		admin(j.t, "scontrol", "requeue", j.number())
	}
	j.startNow()
	j.runsNow()
}

func TestSlurmdIsKilledWhileAJobHasItsNode(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	j := reclaiming(t, []testbed.Node{n})
	j.runsNow()
	kill9(t, n, "^slurmd -D")
	eventually.True(t, "slurmd runs again", func() bool {
		_, err := cluster.On(deadline(t, patience), n, "pgrep", "-f", "^slurmd -D")
		return err == nil
	})
	healthCheck(t)
	require.True(t, stateOf(t, n.Name).Unschedulable, "the job still runs")
	j.tells()
}

// apiAway keeps the workers from the API server, until the returned function is called.
func apiAway(t *testing.T) (back func()) {
	t.Helper()
	var addresses []string
	for _, n := range cluster.Nodes {
		out, err := cluster.On(deadline(t, patience), n, "hostname", "--ip-address")
		require.NoError(t, err)
		addresses = append(addresses, strings.Fields(out)...)
	}
	refuseConnections(t, "--insert", addresses)
	away := true
	back = func() {
		if away {
			away = false
			refuseConnections(t, "--delete", addresses)
		}
	}
	t.Cleanup(back)
	return back
}

func TestTheAPIServerIsAwayWhenAJobBegins(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	back := apiAway(t)
	j := reclaiming(t, []testbed.Node{n})
	seen := j.await("to be requeued", func(seen testbed.Job) bool {
		return seen.State() == "PENDING" && seen["Restarts"] == "1"
	})
	t.Log(seen["AdminComment"])
	require.Contains(t, seen["AdminComment"], "slurmk8s: node "+n.Name+" could not be reclaimed from Kubernetes: ")
	back()
	j.startNow()
	j.runsNow()
	require.True(t, stateOf(t, n.Name).Unschedulable)
	j.tells()
}

func TestTheAPIServerGoesAwayInAProlog(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	j := stuck(t, cluster.Nodes[0], "30:delete")
	back := apiAway(t)
	seen := j.await("to be requeued", func(seen testbed.Job) bool {
		return seen.State() == "PENDING" && seen["Restarts"] == "1"
	})
	t.Log(seen["AdminComment"])
	back()
	givenBack(t, before)
	// The kubelet, too, takes its time until it asks the API server again.
	deploy(t, "answering", 1, podSpec(t, onNode(cluster.Nodes[0].Name), 1, "idle"))
	j.startNow()
	j.runsNow()
	require.Empty(t, evictables(t, cluster.Nodes[0].Name))
	j.tells()
}

func TestTheAPIServerIsAwayWhenAJobEnds(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	j := reclaiming(t, cluster.Nodes)
	j.runsNow()
	back := apiAway(t)
	j.tells()
	eventually.True(t, "the epilog ends", func() bool {
		return !strings.Contains(admin(t, "sinfo", "--noheader", "--format=%T"), "completing")
	})
	back()
	require.True(t, stateOf(t, cluster.Nodes[0].Name).Unschedulable, "somebody gave it back without Kubernetes")
	givenBack(t, before)
}

// A reboot: what the node itself knew is lost, and Slurm runs no epilog for a job on a node that is
// down.
func TestAWorkerIsRestartedUnderAJob(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	n := cluster.Nodes[1]
	j := reclaiming(t, []testbed.Node{n})
	j.runsNow()
	_, err := cluster.On(deadline(t, patience), n, "rm", "-r", "/run/slurmk8s")
	require.NoError(t, err)
	for _, command := range [][]string{{"stop", "--time", "2", n.Container}, {"restart", "--time", "5", n.Name}} {
		_, err := cluster.Docker(deadline(t, patience), command...)
		require.NoError(t, err)
	}
	j.comes("PENDING") // requeued, once Slurm takes the node for down
	require.True(t, stateOf(t, n.Name).Unschedulable, "the node's object has kept what was changed")
	_, err = cluster.Docker(deadline(t, patience), "start", n.Container)
	require.NoError(t, err)
	eventually.Equal(t, "idle", func() string {
		return strings.TrimSpace(admin(t, "sinfo", "--noheader", "--nodes="+n.Name, "--partition=main", "--format=%T"))
	}, "node %s", n.Name)
	givenBack(t, before) // by what slurmd's start or its health check does, or here
	j.startNow()
	j.tells()
}

func TestSlurmctldIsKilledInAProlog(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	j := stuck(t, n, "30:delete")
	j.isSaved()
	killSlurmctld(t)
	eventually.Equal(t, nil, func() []string { return evictables(t, n.Name) }, "pods on %s", n.Name)
	require.True(t, stateOf(t, n.Name).Unschedulable, "the job has the node")
	j.launchAgain()
	j.tells()
}
