package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

// living is a task that writes down the time while it lives, and does not end when it is told to:
// it has to be killed.
const living = `trap "" TERM; while :; do date +%s.%N >>alive.$SLURM_JOB_ID.$SLURMD_NODENAME; sleep 0.05; done`

// Both nodes are empty of pods before the first task runs, and get none until the last process is
// dead. A Deployment's pods move to where there is room, or wait and come back; a Spark
// application goes on with other executors.
func TestAJobHasItsNodesToItself(t *testing.T) {
	shareNodes(t)
	deploy(t, "web", 4, podSpec(t, anywhere, 5, "idle"))
	deploy(t, "batch", 4, podSpec(t, workersOnly, 5, "idle"))
	sparkle := spark(t, 4, 400)
	onEachNode(t, "web")
	onEachNode(t, "batch")
	pods := watchPods(t)

	submitted := time.Now()
	ended := make(chan testbed.Result, 1)
	name := "reclaim." + strconv.FormatInt(submitted.UnixNano(), 36)
	go func() {
		result, _ := cluster.As(deadline(t, patience), user, "", "srun", "--job-name="+name, "--nodes=2", "--ntasks-per-node=1",
			"--k8s-nodes=reclaim", "bash", "-c", living)
		ended <- result
	}()
	j := adopt(t, jobNamed(t, name))
	first := map[string]time.Time{}
	for _, n := range cluster.Nodes {
		first[n.Name] = firstAlive(t, j, n)
		t.Logf("%s: the first task began %.2f s after srun", n.Name, first[n.Name].Sub(submitted).Seconds())
	}
	for _, n := range cluster.Nodes {
		require.Equal(t, fmt.Sprintf("test/%d/0=reclaim", j.id), stateOf(t, n.Name).holders())
	}
	available(t, "web", 4)
	require.NotContains(t, podsOf(t, "web"), cluster.Nodes[0].Name)
	require.Equal(t, []string{"", "", "", ""}, podsOf(t, "batch"), "they wait for a worker")
	require.Empty(t, evictables(t, cluster.Nodes[0].Name))
	time.Sleep(time.Second)
	j.scancel()
	<-ended
	j.ends("CANCELLED")
	available(t, "batch", 4) // on the workers: they may be nowhere else
	back := time.Now()
	for _, n := range cluster.Nodes {
		last := lastAlive(t, j, n)
		require.Greater(t, last.Sub(first[n.Name]), time.Second)
		require.Empty(t, pods.between(n.Name, first[n.Name], last), "pods on %s while the job had it, %s to %s",
			n.Name, first[n.Name].Format(clock), last.Format(clock))
		require.GreaterOrEqual(t, pods.left(n.Name, submitted, first[n.Name]), 3, "pods that left %s for the job", n.Name)
		t.Logf("%s: pods were back %.2f s after the last sign of life", n.Name, back.Sub(last).Seconds())
	}
	sparkle.succeeds()
	require.NotEmpty(t, eventsOf(t, j), "no Event says which job it was")
}

// jobNamed waits for a job of that name.
func jobNamed(t *testing.T, name string) uint32 {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(lookAgain) {
		for id := range jobs.Find(func(j testbed.Job) bool { return j["JobName"] == name }) {
			return id
		}
		require.True(t, time.Now().Before(until), "there is no job %s", name)
	}
}

// signs are the times that a living task on a node wrote down.
func signs(t *testing.T, j *job, n testbed.Node) []time.Time {
	t.Helper()
	text := as(t, "root", "cat", fmt.Sprintf("/home/%s/alive.%d.%s", user, j.id, n.Name)).Stdout
	var times []time.Time
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		nanos, err := strconv.ParseInt(strings.Replace(line, ".", "", 1), 10, 64)
		if whole && err == nil {
			times = append(times, time.Unix(0, nanos))
		}
	}
	return times
}

func firstAlive(t *testing.T, j *job, n testbed.Node) time.Time {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(lookAgain) {
		if times := signs(t, j, n); len(times) > 0 {
			return times[0]
		}
		require.True(t, time.Now().Before(until), "job %d does not run on %s", j.id, n.Name)
	}
}

func lastAlive(t *testing.T, j *job, n testbed.Node) time.Time {
	t.Helper()
	times := signs(t, j, n)
	require.NotEmpty(t, times)
	return times[len(times)-1]
}

// eventsOf are the Events on pods that name the job.
func eventsOf(t *testing.T, j *job) (found []string) {
	t.Helper()
	list, err := cluster.Kube.Resource(node.Pods.GroupVersion().WithResource("events")).Namespace(shared).
		List(deadline(t, patience), metav1.ListOptions{})
	require.NoError(t, err)
	for _, e := range list.Items {
		message, _, _ := unstructured.NestedString(e.Object, "message")
		if strings.Contains(message, fmt.Sprintf("job %d ", j.id)) {
			found = append(found, message)
		}
	}
	return found
}
