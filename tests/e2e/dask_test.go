package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// clusterIP is a Service's.
func clusterIP(t *testing.T, namespace, name string) string {
	t.Helper()
	u, err := cluster.Kube.Resource(service.Services).Namespace(namespace).Get(deadline(t, patience), name, metav1.GetOptions{})
	require.NoError(t, err)
	address, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
	return address
}

// cpusOfANode are what tests/cluster/slurm/slurm.conf says that there are.
const cpusOfANode = 64

var allocatedCPUs = regexp.MustCompile(`CPUAlloc=(\d+)`)

// preemptOneOn has a job of partition main take what is free on a node and one CPU more.
func preemptOneOn(t *testing.T, node string) *job {
	t.Helper()
	found := allocatedCPUs.FindStringSubmatch(admin(t, "scontrol", "show", "node", node))
	require.NotNil(t, found)
	allocated, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return submit(t, script{options: []string{"--nodelist=" + node, fmt.Sprintf("--ntasks=%d", cpusOfANode-allocated+1)}, body: "sleep 600"})
}

// A client computes through the Service, as one in a pod does: half of a cube is computed when
// one of the workers loses its node with all that it keeps, and the cube is the same as NumPy's.
func theCubeIsNumPysThoughAWorkerIsPreempted(t *testing.T, file string) {
	out, err := exec.CommandContext(deadline(t, patience), "../cluster/dask.sh").CombinedOutput()
	require.NoError(t, err, "%s", out)
	j := submitExample(t, file)
	ofGroup := adopt(t, j.id+1)
	j.serves(jobsNamespace, "dask-scheduler")
	j.serves(jobsNamespace, "dask-jupyter")
	require.Equal(t, []string{"dask-scheduler:8786:8786", "dask-webui:80:8787"}, portsOf(t, jobsNamespace, "dask-scheduler"), "those of the chart")
	require.Equal(t, []string{"<nil>:80:8888"}, portsOf(t, jobsNamespace, "dask-jupyter"))
	other := otherThan(t, j.node())
	require.Equal(t, "ok", pageFrom(t, other, "http://dask-scheduler.slurm-jobs.svc/health"))
	require.Equal(t, "a notebook", pageFrom(t, other, "http://dask-jupyter.slurm-jobs.svc/"))

	workers := tasksOf(t, submitExample(t, "dask-workers.sh"), 4)
	text, err := os.ReadFile("testdata/cube.py")
	require.NoError(t, err)
	where, err := cluster.Node(other)
	require.NoError(t, err)
	client := make(chan string, 1)
	ctx, address := deadline(t, 2*patience), clusterIP(t, jobsNamespace, "dask-scheduler")+":8786"
	go func() {
		// Each of both groups has four workers.
		said, err := cluster.On(ctx, where, "python3", "-c", string(text), address, "8", usersExamples)
		client <- fmt.Sprint(said, err)
	}()
	eventually.Equal(t, nil, func() error {
		if len(client) > 0 {
			require.Fail(t, "the client ended early", <-client)
		}
		_, err := cluster.Root(deadline(t, patience), "test", "-e", usersExamples+"/half")
		return err
	})
	taker := preemptOneOn(t, workers[0].node())
	preempted := func(seen testbed.Job) bool {
		return seen["ArrayJobId"] == workers[0].number() && seen["Restarts"] == "1"
	}
	eventually.Equal(t, 1, func() int { return len(jobs.Find(preempted)) }, "workers that were preempted")
	admin(t, "touch", usersExamples+"/told")
	require.Equal(t, "64 threads, as NumPy's: True\n<nil>", <-client)

	taker.scancel()
	workers[0].scancel() // whose id is the array's
	j.endsByScancel()
	for _, ended := range append(workers, taker, ofGroup) {
		ended.ends("CANCELLED")
	}
}
