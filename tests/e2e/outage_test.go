package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const (
	// submissionLimit is what an API server that does not answer may cost a user's sbatch.
	submissionLimit = 2500 * time.Millisecond
	// afterBreaker is what it costs all who come within workflows.breaker of it.
	afterBreaker = time.Second
	// outage is how long each lasts: shorter than Slurm's limit on a hook (OtherTimeout=60).
	outageTime = 15 * time.Second
)

func TestAPIServerHangs(t *testing.T) {
	alone(t)
	outage(t, func() {
		_, err := bed.Docker(deadline(t, patience), "pause", bed.ControlPlane)
		require.NoError(t, err)
	}, func() {
		_, err := bed.Docker(deadline(t, patience), "unpause", bed.ControlPlane)
		require.NoError(t, err)
	})
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
		_, err := bed.Docker(deadline(t, patience), "exec", bed.ControlPlane, table, operation, "INPUT",
			"--source", address, "--protocol", "tcp", "--dport", "6443", "--jump", "REJECT", "--reject-with", "tcp-reset")
		require.NoError(t, err)
	}
}

// The API server answers, but what DWS has to say to a Workflow cannot be asked: no Workflow can
// be written at all.
func TestDWSIsDown(t *testing.T) {
	alone(t)
	t.Cleanup(func() { awaitJudgement(t) })
	deployments := bed.Kube.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("dws-system")
	scale := func(replicas int) {
		_, err := deployments.Patch(deadline(t, patience), "dwssim", types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			object, err := deployments.Get(deadline(t, patience), "dwssim", metav1.GetOptions{})
			available, _, _ := unstructured.NestedInt64(object.Object, "status", "availableReplicas")
			return err == nil && available == int64(replicas)
		}, patience, lookAgain)
	}
	waiting := submit(t, script{directives: []string{"DataIn action=wait"}})
	waiting.reaches(dwssim.DataIn)
	scale(0)
	// slurmctld stands still for the one submission that finds out.
	over := prober.Excuse(submissionLimit, "a submission asks a DWS that is away")
	up := func() { scale(1); over() }
	defer func() {
		if up != nil {
			up()
		}
	}()
	j, took := submitTimed(t)
	require.Less(t, took, submissionLimit, "sbatch waited for a DWS that is away")
	time.Sleep(outageTime / 3)
	up()
	up = nil
	j.endsWithin(2*patience, "COMPLETED")
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

	// slurmctld stands still for the one submission that finds out.
	begin()
	over := prober.Excuse(submissionLimit, "a submission asks an API server that does not answer")
	ended := false
	stop := func() {
		if !ended {
			ended = true
			end()
			over()
		}
	}
	defer stop()
	began := time.Now()
	cancelled.scancel()
	first, took := submitTimed(t)
	require.Less(t, took, submissionLimit, "sbatch waited for an API server that is away")
	second, took := submitTimed(t)
	require.Less(t, took, afterBreaker, "sbatch waited for an API server that was just found to be away")
	asked := time.Now()
	require.Contains(t, waiting[dwssim.DataIn].bbstat(user), "Error running slurm_bb_get_status")
	require.Less(t, time.Since(asked), submissionLimit, "bbstat")
	time.Sleep(time.Until(began.Add(outageTime)))
	stop()

	for _, j := range []*job{first, second, running} {
		j.endsWithin(2*patience, "COMPLETED")
		j.gone()
	}
	cancelled.endsWithin(2*patience, "CANCELLED")
	cancelled.goneOrReconciled()
	for state, j := range waiting {
		j.complete(state)
	}
	for _, j := range waiting {
		j.endsWithin(2*patience, "COMPLETED")
		j.gone()
	}
}

// awaitJudgement waits until submissions are judged again, which others count on: they are not for
// as long after a failed check as workflows.breaker says (tests/cluster/slurm/slurmk8s.toml).
func awaitJudgement(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return admin(t, "find", "/var/spool/slurmk8s/", "-name", "breaker", "-newermt", "-11 seconds") == ""
	}, patience, lookAgain)
}

func submitTimed(t *testing.T) (*job, time.Duration) {
	t.Helper()
	began := time.Now()
	j := submit(t, script{directives: []string{"Setup action=complete"}})
	took := time.Since(began)
	t.Logf("sbatch took %v", took.Round(time.Millisecond))
	return j, took
}
