package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// serveOn submits a job that serves on a node, and waits until it does.
func serveOn(t *testing.T, node testbed.Node, options ...string) *job {
	t.Helper()
	port := freePort()
	name := unique(fmt.Sprintf("on-%d", port))
	j := register(t, name, port, append(options, "--nodelist="+node.Name)...)
	j.serves(jobsNamespace, name)
	return j
}

// The API server does not answer while jobs with services end and begin: no node is drained for
// it, a job that cannot be registered fails and says why, and one reconcile later nothing is left.
func TestAPIServerHangsWhenServicesEnd(t *testing.T) {
	alone(t)
	first, second := cluster.Nodes[0], cluster.Nodes[1]
	exits, cancelled, lives := serveOn(t, first), serveOn(t, second), serveOn(t, second)
	unpause := pauseAPIServer(t)
	exits.tell()
	cancelled.scancel()
	late := register(t, unique("late-in-outage"), freePort())
	exits.ends("COMPLETED")
	cancelled.ends("CANCELLED")
	late.ends("FAILED")
	require.Regexp(t, `^slurmk8s: .*slurm-jobs/`+unique("late-in-outage"), late.output())
	// Both nodes are free again: their epilogs have given up.
	eventually.Equal(t, "", func() string { return admin(t, "squeue", "--noheader", "--states=COMPLETING") })
	unpause()
	eventually.Equal(t, nil, func() error { _, err := lives.objects(deadline(t, patience)); return err })

	left, err := exits.objects(deadline(t, patience))
	require.NoError(t, err)
	require.NotEmpty(t, left, "somebody removed what could not be removed: does this test still test anything?")
	reconcileNode(t, first)
	reconcileNode(t, second)
	for _, j := range []*job{exits, cancelled, late} {
		j.unregistered()
	}
	left, err = lives.objects(deadline(t, patience))
	require.NoError(t, err)
	require.Len(t, left, 3, "a job that runs keeps its service")
	lives.tell()
	lives.ends("COMPLETED")
	lives.unregistered()
}

// The script has registered what its srun inherits, so that an outage in between fails none of
// them, on the node of the script and on another one. A new request fails.
func TestAnOutageFailsNoSrunThatInheritsTheOption(t *testing.T) {
	alone(t)
	name, port := unique("inherited"), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=%s:%d", name, port), "--nodes=2", "--ntasks=2"},
		body: serving(port) + untilTold +
			fmt.Sprintf("srun -N1 -n1 -w $SLURMD_NODENAME bash -c 'echo here $SLURMK8S_SERVICE_%s'\n", service.Variable(name)) +
			"srun -N1 -n1 -x $SLURMD_NODENAME bash -c 'echo there; sleep 5'\n" +
			fmt.Sprintf("srun -N1 -n1 -w $SLURMD_NODENAME --k8s-register=%s:%d echo new\n", unique("new"), freePort()) +
			"echo after $?\nrm told.$SLURM_JOB_ID\n" + untilTold,
	})
	j.serves(jobsNamespace, name)
	unpause := pauseAPIServer(t)
	j.tell()
	eventually.True(t, "all steps are over", func() bool { return strings.Contains(j.output(), "\nafter ") })
	unpause()
	require.Contains(t, j.output(), fmt.Sprintf("here %s.slurm-jobs.svc:%d\n", name, port))
	require.Contains(t, j.output(), "there\n")
	require.Contains(t, j.output(), "slurmk8s: the step starts, but the job's registration of slurm-jobs/"+name+" cannot be looked up now: ")
	require.NotContains(t, j.output(), "new\n")
	require.Contains(t, j.output(), "\nafter 1\n")
	j.serves(jobsNamespace, name)
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

// A node dies with its job, and Slurm runs no hook there: the controller's reconcile finds what
// the job has left. slurmctld and slurmd are killed meanwhile, which no job notices.
func TestDaemonsAndANodeKilledWhileServicesRun(t *testing.T) {
	alone(t)
	healthy, dies := cluster.Nodes[0], cluster.Nodes[1]
	bereft := serveOn(t, dies, "--no-requeue")
	old := serveOn(t, healthy)
	younger := serveOn(t, healthy)

	_, err := cluster.On(deadline(t, patience), healthy, "pkill", "-KILL", "-x", "slurmd")
	require.NoError(t, err)
	_, err = cluster.Docker(deadline(t, patience), "kill", dies.Container)
	require.NoError(t, err)
	back := sync.OnceFunc(func() {
		_, err := cluster.Docker(deadline(t, patience), "start", dies.Container)
		require.NoError(t, err)
		admin(t, "scontrol", "update", "NodeName="+dies.Name, "State=RESUME")
		eventually.True(t, "node "+dies.Name+" takes jobs again", func() bool { return as(t, user, "srun", "--nodelist="+dies.Name, "true").Status == 0 })
	})
	defer back()
	admin(t, "scontrol", "update", "NodeName="+dies.Name, "State=DOWN", "Reason=killed by a test")
	bereft.ends("NODE_FAIL")
	left, err := bereft.objects(deadline(t, patience))
	require.NoError(t, err)
	require.NotEmpty(t, left, "nobody could have removed them")
	reconcile(t)
	eventually.Equal(t, nil, func() []string {
		left, err := bereft.objects(deadline(t, patience))
		require.NoError(t, err)
		return left
	}, "one reconcile later")
	for _, j := range []*job{old, younger} {
		left, err := j.objects(deadline(t, patience))
		require.NoError(t, err)
		require.Len(t, left, 3, "a job that runs keeps its service")
	}

	back()
	reconcileNode(t, dies)
	bereft.unregistered()

	old.isSaved()
	younger.isSaved()
	killSlurmctld(t)
	old.tell()
	younger.scancel()
	old.ends("COMPLETED")
	younger.ends("CANCELLED")
	old.unregistered()
	younger.unregistered()
}
