package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestEachTaskOfAnArrayHasItsOwnService(t *testing.T) {
	parallel(t)
	const size = 3
	name, port := unique("worker"), freePort()
	first := submit(t, script{
		options: []string{fmt.Sprintf("--array=1-%d", size), "--output=/dev/null",
			fmt.Sprintf("--k8s-register=name=%s-%%a,port=%d,ready=none;name=%%u-%s-%%j,port=%d,ready=none", name, port, name, port)},
		body: untilTold,
	})
	ofArray := func(seen testbed.Job) bool { return seen["ArrayJobId"] == first.number() && seen.State() == "RUNNING" }
	eventually.Equal(t, size, func() int { return len(jobs.Find(ofArray)) }, "tasks of array job %s that run", first.number())
	for id, seen := range jobs.Find(ofArray) {
		task := first
		if id != first.id {
			task = adopt(t, id)
		}
		_, err := strconv.Atoi(seen["ArrayTaskId"])
		require.NoError(t, err)
		task.serves(jobsNamespace, name+"-"+seen["ArrayTaskId"])
		task.serves(jobsNamespace, fmt.Sprintf("%s-%s-%d", user, name, id))
		task.tell()
		task.ends("COMPLETED")
		task.unregistered()
	}
}
