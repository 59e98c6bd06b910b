package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/eventually"
)

// prints waits until the job's own output has a line.
func (j *job) prints(line string) {
	j.t.Helper()
	file := fmt.Sprintf("/home/%s/slurm-%d.out", user, j.id)
	eventually.True(j.t, "the output says "+line, func() bool { return exists(j.t, file) && strings.Contains(j.output(), line+"\n") })
}

// Another user's server has the port, as where two users start the same notebook on one node.
func TestAnotherUsersServerIsNotPublished(t *testing.T) {
	parallel(t)
	name, port, on := unique("taken"), freePort(), cluster.Nodes[0].Name
	text := fmt.Sprintf("#!/bin/bash\n#SBATCH --ntasks=1 --time=10 --nodelist=%s --chdir=/tmp --output=/dev/null\nexec socat TCP-LISTEN:%d,fork,reuseaddr SYSTEM:true\n", on, port)
	result, err := cluster.As(deadline(t, patience), another, text, "sbatch", "--parsable")
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	theirs := adopt(t, parseID(t, result.Stdout))
	theirs.comes("RUNNING")

	mine := submit(t, script{
		options: []string{"--nodelist=" + on, fmt.Sprintf("--k8s-register=%s:%d", name, port)},
		body: fmt.Sprintf("until curl --silent --output /dev/null --max-time 1 telnet://$(hostname):%d </dev/null || [ $? = 28 ]; do sleep 0.1; done\n", port) +
			untilTold + serving(port) + "sleep 600",
	})
	mine.prints(fmt.Sprintf("slurmk8s: service %s/%s is not ready: port %d of this node is taken by another user", jobsNamespace, name, port))
	require.Equal(t, []string{mine.address() + " not ready"}, endpoints(t, jobsNamespace, name))
	require.Zero(t, as(t, "root", "scancel", theirs.number()).Status)
	theirs.ends("CANCELLED")
	mine.tell()
	mine.serves(jobsNamespace, name)
	mine.scancel()
	mine.ends("CANCELLED")
	mine.unregistered()
}

// Of a batch script the line is in its file, of a step it goes by srun.
func TestTheUserReadsWhyAServiceIsNotReady(t *testing.T) {
	parallel(t)
	local, silent, stepped := unique("local"), unique("silent"), unique("silent-step")
	localPort, silentPort, steppedPort := freePort(), freePort(), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=name=%s,port=%d,ready-timeout=3s;name=%s,port=%d,ready-timeout=3s", local, localPort, silent, silentPort)},
		body: fmt.Sprintf("socat TCP-LISTEN:%d,bind=127.0.0.1,fork,reuseaddr SYSTEM:true &\ntrap \"kill $!\" EXIT\n", localPort) +
			fmt.Sprintf("srun --k8s-register=name=%s,port=%d,ready-timeout=1s sleep 10\n", stepped, steppedPort) + untilTold,
	})
	for name, reason := range map[string]string{
		local + " is not ready after 3s":   fmt.Sprintf("port %d listens on localhost only (127.0.0.1), which pods cannot reach: let the server listen on 0.0.0.0", localPort),
		silent + " is not ready after 3s":  fmt.Sprintf("nothing listens on port %d", silentPort),
		stepped + " is not ready after 1s": fmt.Sprintf("nothing listens on port %d", steppedPort),
	} {
		j.prints("slurmk8s: service " + jobsNamespace + "/" + name + ": " + reason)
	}
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

func TestAJobGetsAFreePort(t *testing.T) {
	parallel(t)
	name := unique("any")
	variable := strings.Replace(variableOf(name), "SLURMK8S_SERVICE_", "SLURMK8S_PORT_", 1)
	submitOne := func(name string) *job {
		return submit(t, script{
			options: []string{"--nodelist=" + cluster.Nodes[0].Name, "--k8s-register=" + name + ":80:auto"},
			body: `port=$(env | sed -n 's/^SLURMK8S_PORT_[A-Z0-9_]*=//p')
printf 'HTTP/1.0 200 OK\r\n\r\njob %s\n' "$SLURM_JOB_ID" >page.$SLURM_JOB_ID
socat TCP-LISTEN:$port,fork,reuseaddr SYSTEM:"cat page.$SLURM_JOB_ID" &
trap "kill $!" EXIT
srun env | grep ^SLURMK8S_PORT_
` + untilTold,
		})
	}
	first, second := submitOne(name), submitOne(name+"-b")
	for j, service := range map[*job]string{first: name, second: name + "-b"} {
		j.serves(jobsNamespace, service)
		require.Equal(t, fmt.Sprintf("job %d", j.id), pageFrom(t, j.node(), "http://"+service+".slurm-jobs.svc/"))
	}
	require.NotEqual(t, portOf(t, first, variable), portOf(t, second, variable+"_B"))
	for _, j := range []*job{first, second} {
		j.tell()
		j.ends("COMPLETED")
		j.unregistered()
	}
}

// portOf waits for a variable in the job's output.
func portOf(t *testing.T, j *job, variable string) string {
	t.Helper()
	var value string
	eventually.True(t, variable, func() bool {
		var found bool
		_, after, _ := strings.Cut(j.output(), variable+"=")
		value, _, found = strings.Cut(after, "\n")
		return found
	})
	require.Regexp(t, `^2\d{4}$`, value)
	return value
}
