package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// A slurmctld without its StateSaveLocation answers that there are no jobs. Reconcile leaves
// what a running job has: its Workflow, its Service and its node.
func TestASlurmctldThatLostItsStateEndsNothing(t *testing.T) {
	shareNodes(t)
	n := cluster.Nodes[0]
	name, port := unique("lost-state"), freePort()
	j := submit(t, script{
		directives: []string{dwssim.Setup + " action=complete"},
		options:    []string{"--k8s-nodes=reclaim", "--nodelist=" + n.Name, fmt.Sprintf("--k8s-register=%s:%d", name, port)},
		body:       serving(port) + untilTold,
	})
	j.serves(jobsNamespace, name)
	j.isSaved()
	before := j.holdings()
	require.NotNil(t, before.workflow)
	require.NotEmpty(t, before.objects)
	require.Contains(t, before.node.holders(), "/"+j.number()+"/")

	back := loseState(t)
	found := reconcile(t)
	assert.Equal(t, 1, found.Status)
	assert.Contains(t, found.Stderr, "slurmctld lost its state")
	_, err := cluster.On(deadline(t, patience), n, "env", "SLURMD_NODENAME="+n.Name, "/opt/slurmk8s/bin/slurmk8s", "reconcile", "--limit=20s")
	assert.ErrorContains(t, err, "slurmctld lost its state")
	assert.Equal(t, before, j.holdings())
	back()

	j.serves(jobsNamespace, name)
	assert.Equal(t, before, j.holdings())
	j.tell()
	j.ends("COMPLETED")
}

// holdings are what a job has in Kubernetes.
type holdings struct {
	workflow *dwssim.Workflow
	objects  []string
	node     nodeState
}

func (j *job) holdings() holdings {
	j.t.Helper()
	w, err := j.read(deadline(j.t, patience))
	require.NoError(j.t, err)
	objects, err := j.objects(deadline(j.t, patience))
	require.NoError(j.t, err)
	slices.Sort(objects)
	return holdings{w, objects, stateOf(j.t, cluster.Nodes[0].Name)}
}

// loseState starts slurmctld with an empty StateSaveLocation, until back is called. No slurmd runs
// meanwhile: it would end the jobs that slurmctld does not know.
func loseState(t *testing.T) (back func()) {
	t.Helper()
	const (
		hold    = "touch /run/slurmk8s-hold; "
		release = "; rm -f /run/slurmk8s-hold"
	)
	slurmd := func(command string) {
		t.Helper()
		for _, n := range cluster.Nodes {
			_, err := cluster.On(deadline(t, patience), n, "bash", "-ec", command)
			require.NoError(t, err)
		}
	}
	slurmctld := func(command string) {
		t.Helper()
		admin(t, "bash", "-ec", hold+fmt.Sprintf(stopDaemon, "slurmctld")+command+release)
		eventually.True(t, "slurmctld answers", func() bool {
			result, err := cluster.As(deadline(t, patience), "root", "", "sinfo", "--noheader")
			return err == nil && result.Status == 0
		})
	}
	answered := prober.Excuse()
	done := false
	back = func() {
		if done {
			return
		}
		done = true
		slurmctld("rm -rf /var/spool/slurm/state; mv /var/spool/slurm/state.away /var/spool/slurm/state")
		slurmd("rm -f /run/slurmk8s-hold")
		answered()
	}
	t.Cleanup(back)
	slurmd(hold + fmt.Sprintf(stopDaemon, "slurmd"))
	slurmctld("mv /var/spool/slurm/state /var/spool/slurm/state.away; install -d -o slurm -g slurm /var/spool/slurm/state")
	require.Empty(t, admin(t, "squeue", "--noheader", "--all"))
	return back
}
