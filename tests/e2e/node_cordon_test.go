package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

func TestTwoJobsShareANode(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[:1]
	first, second := reclaiming(t, n), reclaiming(t, n)
	first.runsNow()
	second.runsNow()
	both := fmt.Sprintf("test/%d/0=reclaim,test/%d/0=reclaim", first.id, second.id)
	awaitNode(t, n[0].Name, "to be held by both", func(s nodeState) bool { return s.Unschedulable && s.holders() == both })
	first.tells()
	awaitNode(t, n[0].Name, "to be held by the second", func(s nodeState) bool {
		return s.holders() == fmt.Sprintf("test/%d/0=reclaim", second.id)
	})
	require.True(t, stateOf(t, n[0].Name).Unschedulable, "the first job's end gave back what the second one has")
	second.tells()
}

func TestAnAdministratorsCordonStays(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	for _, c := range []struct {
		when     string
		before   func()
		during   func()
		after    func()
		cordoned bool
	}{
		{when: "before", before: func() { cordon(t, n.Name, true) }, cordoned: true},
		// Of two who cordon, Kubernetes does not see the later one, so the node is opened first.
		{when: "during", during: func() { cordon(t, n.Name, false); cordon(t, n.Name, true) }, cordoned: true},
		{when: "lifted during", during: func() { cordon(t, n.Name, false) }},
		{when: "before, lifted during", before: func() { cordon(t, n.Name, true) }, during: func() { cordon(t, n.Name, false) }},
		{when: "after", after: func() { cordon(t, n.Name, true) }, cordoned: true},
	} {
		for _, act := range []*func(){&c.before, &c.during, &c.after} {
			if *act == nil {
				*act = func() {}
			}
		}
		c.before()
		j := reclaiming(t, []testbed.Node{n})
		j.runsNow()
		require.True(t, stateOf(t, n.Name).Unschedulable, c.when)
		c.during()
		j.tells()
		state := awaitNode(t, n.Name, "to be given back, cordoned "+c.when, func(s nodeState) bool { return s.holders() == "" })
		c.after()
		healthCheck(t)
		state.Unschedulable = stateOf(t, n.Name).Unschedulable
		require.Equal(t, c.cordoned, state.Unschedulable, "cordoned %s", c.when)
		cordon(t, n.Name, false)
	}
}

// The hooks as Slurm calls them, without Slurm's own time, for jobs below FirstJobId.
const fiftyTimes = `set -e
for i in $(seq 101 150); do
	for hook in prolog epilog; do
		/opt/slurmk8s/bin/slurmk8s hook k8s_job_$hook DEADLINE_MS=20000 JOB_ID=$i UID=1001 GID=1001 \
			NODE=%[1]s NODELIST=%[1]s RESTART_COUNT=0 K8S_NODES=reclaim || { echo "$hook of job $i: $?"; exit 1; }
	done
done
ls /run/slurmk8s/nodes`

func TestTheSameNodeIsTakenAgainAndAgain(t *testing.T) {
	shareNodes(t)
	before := nodesNow(t)
	byHand, n := cluster.Nodes[0], cluster.Nodes[1]
	done := make(chan error, 1)
	go func() {
		left, err := cluster.On(deadline(t, patience), byHand, "bash", "-c", fmt.Sprintf(fiftyTimes, byHand.Name))
		if err == nil && left != "" {
			err = fmt.Errorf("local files are left: %s", left)
		}
		done <- err
	}()
	deploy(t, "web", 1, podSpec(t, onNode(n.Name), 1, "idle"))
	for range 10 {
		j := submit(t, script{options: []string{"--k8s-nodes=reclaim", "--nodelist=" + n.Name}, body: "true"})
		j.ends("COMPLETED")
		awaitNode(t, n.Name, "to be as before", func(s nodeState) bool { return s.equals(before[n.Name]) })
	}
	require.NoError(t, <-done)
	requireNodes(t, before)
	available(t, "web", 1)
}
