package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// arrayOf submits an array of tasks and returns them when all run.
func arrayOf(t *testing.T, size int, s script) []*job {
	t.Helper()
	s.options = append([]string{fmt.Sprintf("--array=1-%d", size), "--output=/dev/null"}, s.options...)
	return tasksOf(t, submit(t, s), size)
}

// tasksOf are the jobs of an array, once as many run as it has.
func tasksOf(t *testing.T, first *job, size int) []*job {
	t.Helper()
	ofArray := func(seen testbed.Job) bool { return seen["ArrayJobId"] == first.number() && seen.State() == "RUNNING" }
	eventually.Equal(t, size, func() int { return len(jobs.Find(ofArray)) }, "tasks of array job %s that run", first.number())
	tasks := []*job{first} // whose id is the array's: Slurm gives it to one of the tasks
	for id := range jobs.Find(ofArray) {
		if id != first.id {
			tasks = append(tasks, adopt(t, id))
		}
	}
	return tasks
}

func TestTheTasksOfAnArrayAreEndpointsOfOneService(t *testing.T) {
	parallel(t)
	const size = 3
	name, port := unique("workers"), freePort()
	tasks := arrayOf(t, size, script{
		options: []string{fmt.Sprintf("--k8s-register=name=%s,port=%d,host=array,ready=none", name, port)},
		body:    untilTold,
	})
	for i, task := range tasks {
		eventually.Equal(t, size-i, func() int {
			ready := slices.DeleteFunc(endpoints(t, jobsNamespace, name), func(e string) bool { return strings.HasSuffix(e, "not ready") })
			return len(ready)
		}, "tasks behind the Service")
		task.tell()
		task.ends("COMPLETED")
	}
	for _, task := range tasks {
		task.unregistered()
	}
}

func TestEachTaskOfAnArrayHasItsOwnService(t *testing.T) {
	parallel(t)
	const size = 3
	name, port := unique("worker"), freePort()
	for _, task := range arrayOf(t, size, script{
		options: []string{fmt.Sprintf("--k8s-register=name=%s-%%a,port=%d,ready=none;name=%%u-%s-%%j,port=%d,ready=none", name, port, name, port)},
		body:    untilTold,
	}) {
		index := jobs.Get(task.id)["ArrayTaskId"]
		_, err := strconv.Atoi(index)
		require.NoError(t, err)
		task.serves(jobsNamespace, name+"-"+index)
		task.serves(jobsNamespace, fmt.Sprintf("%s-%s-%d", user, name, task.id))
		task.tell()
		task.ends("COMPLETED")
		task.unregistered()
	}
}
