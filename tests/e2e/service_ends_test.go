package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

// However a job ends, its services go with it. `ends` is Slurm's word for it.
func TestEveryEndOfAJobEndsItsServices(t *testing.T) {
	leaveOutIfShort(t)
	for name, c := range map[string]struct {
		options []string
		body    string // after the job was told to go on
		end     func(*job)
		ends    string
	}{
		"exit 0":              {end: (*job).tell, ends: "COMPLETED"},
		"exit 1":              {body: "exit 1", end: (*job).tell, ends: "FAILED"},
		"killed by itself":    {body: "kill -KILL $$", end: (*job).tell, ends: "FAILED"},
		"scancel":             {end: func(j *job) { j.scancel() }, ends: "CANCELLED"},
		"scancel -s KILL":     {end: func(j *job) { j.scancel("--signal=KILL") }, ends: "CANCELLED"},
		"scancel --full":      {end: func(j *job) { j.scancel("--full") }, ends: "CANCELLED"},
		"scancel by root":     {end: func(j *job) { admin(j.t, "scancel", j.number()) }, ends: "CANCELLED"},
		"time limit":          {options: []string{"--time=1"}, end: func(*job) {}, ends: "TIMEOUT"},
		"step program killed": {end: func(j *job) { j.killStepProgram(); j.tell() }, ends: "COMPLETED"},
		"and then cancelled":  {end: func(j *job) { j.killStepProgram(); j.scancel() }, ends: "CANCELLED"},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			port := freePort()
			service := unique(fmt.Sprintf("end-%d", port))
			j := submit(t, script{
				options: append(c.options, fmt.Sprintf("--k8s-register=name=%s,port=80:%d,endpoints=both", service, port)),
				body:    serving(port) + untilTold + c.body,
			})
			j.serves(jobsNamespace, service)
			c.end(j)
			j.ends(c.ends)
			j.unregistered()
		})
	}
}

// killStepProgram kills it as the kernel's OOM killer would.
func (j *job) killStepProgram() {
	j.t.Helper()
	node, err := cluster.Node(j.node())
	require.NoError(j.t, err)
	_, err = cluster.On(deadline(j.t, patience), node, "bash", "-c",
		"read -r pid _ </run/slurmk8s/job."+j.number()+` && [ "$(cat /proc/$pid/comm)" = slurmk8s ] && kill -KILL "$pid"`)
	require.NoError(j.t, err)
}

// slurmstepd is gone, and with it the socket that the step program listens to.
func TestAKilledSlurmstepdEndsItsServices(t *testing.T) {
	parallel(t)
	name, port := unique("no-stepd"), freePort()
	j := register(t, name, port)
	j.serves(jobsNamespace, name)
	node, err := cluster.Node(j.node())
	require.NoError(t, err)
	_, err = cluster.On(deadline(t, patience), node, "pkill", "-KILL", "-f", `slurmstepd: \[`+j.number()+`\.batch\]`)
	require.NoError(t, err)
	j.unregistered()
	j.tell() // the script, which lives on
	j.scancel()
	j.await("to be over", func(seen testbed.Job) bool { return isOver(seen.State()) })
}

func TestARequeuedJobRegistersAgain(t *testing.T) {
	parallel(t)
	name, port := unique("requeued"), freePort()
	j := register(t, name, port)
	j.serves(jobsNamespace, name)
	admin(t, "scontrol", "requeue", j.number())
	j.await("to be requeued", func(seen testbed.Job) bool { return seen["Restarts"] == "1" && seen.State() == "PENDING" })
	j.unregistered()
	j.serves(jobsNamespace, name)
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

// A job of partition main takes the node from one of partition spare.
func TestAPreemptedJobIsNoService(t *testing.T) {
	parallel(t)
	const mostOfANode = "--cpus-per-task=33"
	node := cluster.Nodes[1].Name
	name, port := unique("preempted"), freePort()
	j := register(t, name, port, "--partition=spare", "--nodelist="+node, mostOfANode)
	j.serves(jobsNamespace, name)
	stronger := submit(t, script{options: []string{"--nodelist=" + node, mostOfANode}, body: untilTold})
	j.await("to be preempted", func(seen testbed.Job) bool { return seen["Restarts"] == "1" })
	stronger.comes("RUNNING")
	j.unregistered()
	stronger.tell()
	stronger.ends("COMPLETED")
	j.scancel()
	j.ends("CANCELLED")
}
