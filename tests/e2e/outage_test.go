package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// outageTime is how long each lasts at least: longer than sbatch, sinfo and scontrol wait for
// slurmctld (MessageTimeout, 10 s), which must not wait for Kubernetes, and shorter than Slurm's limit
// on a hook (OtherTimeout=60).
const outageTime = 15 * time.Second

func TestAPIServerHangs(t *testing.T) {
	alone(t)
	var unpause func()
	outage(t, func() { unpause = pauseAPIServer(t) }, func() { unpause() })
}

// pauseAPIServer has the API server answer nothing until the function that it returns is called, at the
// latest at the test's end.
func pauseAPIServer(t *testing.T) (unpause func()) {
	t.Helper()
	eventually.True(t, "the control plane stands still (a busy kernel refuses: unable to freeze)", func() bool {
		_, err := cluster.Docker(deadline(t, patience), "pause", cluster.ControlPlane)
		return err == nil
	})
	unpause = sync.OnceFunc(func() {
		_, err := cluster.Docker(deadline(t, patience), "unpause", cluster.ControlPlane)
		require.NoError(t, err)
	})
	t.Cleanup(unpause)
	return unpause
}

func TestAPIServerRefusesConnections(t *testing.T) {
	alone(t)
	addresses := strings.Fields(admin(t, "hostname", "--ip-address"))
	outage(t, func() { refuseConnections(t, "--insert", addresses) }, func() { refuseConnections(t, "--delete", addresses) })
}

// refuseConnections changes the API server's firewall for hosts of these addresses.
func refuseConnections(t *testing.T, operation string, addresses []string) {
	t.Helper()
	for _, address := range addresses {
		table := "iptables"
		if strings.Contains(address, ":") {
			table = "ip6tables"
		}
		_, err := cluster.Docker(deadline(t, patience), "exec", cluster.ControlPlane, table, operation, "INPUT",
			"--source", address, "--protocol", "tcp", "--dport", "6443", "--jump", "REJECT", "--reject-with", "tcp-reset")
		require.NoError(t, err)
	}
}

// The API server answers, but what DWS has to say to a Workflow cannot be asked: no Workflow can
// be written at all.
func TestDWSIsDown(t *testing.T) {
	alone(t)
	t.Cleanup(func() { awaitJudgement(t) })
	deployments := cluster.Kube.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("dws-system")
	scale := func(replicas int) {
		_, err := deployments.Patch(deadline(t, patience), "dwssim", types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
		require.NoError(t, err)
		eventually.Equal(t, int64(replicas), func() int64 {
			object, err := deployments.Get(deadline(t, patience), "dwssim", metav1.GetOptions{})
			require.NoError(t, err)
			available, _, _ := unstructured.NestedInt64(object.Object, "status", "availableReplicas")
			return available
		})
	}
	waiting := submit(t, script{directives: []string{"DataIn action=wait"}})
	waiting.reaches(dwssim.DataIn)
	scale(0)
	up := sync.OnceFunc(func() { scale(1) })
	defer up()
	j := submit(t, script{directives: []string{"Setup action=complete"}})
	time.Sleep(outageTime / 3)
	up()
	j.ends("COMPLETED")
	waiting.complete(dwssim.DataIn)
	waiting.ends("COMPLETED")
}

// outage has jobs of all kinds go through a time without API server.
func outage(t *testing.T, begin, end func()) {
	t.Helper()
	t.Cleanup(func() { awaitJudgement(t) })
	waiting := submitWaiting(t)
	cancelled := submit(t, script{directives: []string{"DataIn action=wait"}})
	running := submit(t, script{directives: []string{"PostRun action=complete"}, body: "sleep 5"})
	for state, j := range waiting {
		j.reaches(state)
	}
	cancelled.reaches(dwssim.DataIn)
	running.comes("RUNNING")

	begin()
	stop := sync.OnceFunc(end)
	defer stop()
	began := time.Now()
	cancelled.scancel()
	// slurmctld stands still for the one submission that finds out, and for none after it.
	first := submit(t, script{directives: []string{"Setup action=complete"}})
	before := unasked(t, "the API server did not answer a moment ago")
	second := submit(t, script{directives: []string{"Setup action=complete"}})
	require.Equal(t, before+1, unasked(t, "the API server did not answer a moment ago"), "submissions that were accepted without a question to an API server that was just found to be away")
	require.Contains(t, waiting[dwssim.DataIn].bbstat(user), "Error running slurm_bb_get_status")
	time.Sleep(time.Until(began.Add(outageTime)))
	stop()

	for _, j := range []*job{first, second, running} {
		j.ends("COMPLETED")
		j.gone()
	}
	cancelled.ends("CANCELLED")
	cancelled.goneOrReconciled()
	for state, j := range waiting {
		j.complete(state)
	}
	for _, j := range waiting {
		j.ends("COMPLETED")
		j.gone()
	}
}

// awaitJudgement waits until submissions are judged again, which others count on: they are not for
// as long after a failed check as workflows.breaker says (tests/cluster/slurm/slurmk8s.toml).
func awaitJudgement(t *testing.T) {
	t.Helper()
	eventually.Equal(t, "", func() string {
		return admin(t, "find", "/var/spool/slurmk8s/", "-name", "breaker", "-newermt", "-11 seconds")
	})
}

// unasked is how many submissions were accepted without a question to Kubernetes, for this cause ("": for any).
// The file of the log is made with its first line.
func unasked(t *testing.T, cause string) int {
	t.Helper()
	log := admin(t, "bash", "-c", "cat /var/log/slurm/slurmk8s.log || [ ! -e /var/log/slurm/slurmk8s.log ]")
	return strings.Count(log, "accepted without asking Kubernetes: "+cause)
}
