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

// configure runs shell as root on all hosts of Slurm, which may change its configuration, and
// starts the daemons again.
func configure(t *testing.T, change string) {
	t.Helper()
	answered := prober.Excuse()
	defer answered()
	for _, n := range cluster.Nodes {
		_, err := cluster.On(deadline(t, patience), n, "bash", "-ec", change+fmt.Sprintf(stopDaemon, "slurmd"))
		require.NoError(t, err)
	}
	admin(t, "bash", "-ec", change+fmt.Sprintf(stopDaemon, "slurmctld"))
	eventually.True(t, "all nodes are idle", func() bool {
		result, err := cluster.As(deadline(t, patience), "root", "", "sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
		return err == nil && result.Status == 0 && result.Stdout == strings.Repeat("idle\n", len(cluster.Nodes))
	})
}

// onUsableCPUs keeps the daemons that a container starts from now on to the CPUs on which a
// process can bind the mount namespace of its child. Linux 6.18 numbers namespaces by CPU and
// refuses one whose number is below the binder's own ("Invalid argument").
const onUsableCPUs = `usable=; touch /run/ns
	for cpu in $(seq 0 $(($(nproc --all) - 1))); do
		taskset -c "$cpu" unshare --mount sleep 5 & sleep 0.3
		! mount --bind "/proc/$!/ns/mnt" /run/ns || { usable+="${usable:+,}$cpu"; umount /run/ns; }
		kill $!
	done
	rm /run/ns; taskset -pc "$usable" "$(pgrep -o -x entrypoint)"; `

// With job_container/tmpfs, /tmp of a job is another directory of the host.
func TestAReadyFileInAJobsOwnTmp(t *testing.T) {
	alone(t)
	plugin := admin(t, "find", "/usr/lib", "/opt", "-name", "job_container_tmpfs.so")
	if plugin == "" {
		t.Skip("this Slurm has no job_container/tmpfs")
	}
	for _, n := range cluster.Nodes {
		out, err := cluster.On(deadline(t, patience), n, "bash", "-c", onUsableCPUs)
		require.NoError(t, err)
		t.Log(out)
	}
	configure(t, `install -d /var/spool/slurmd/containers
		printf 'AutoBasePath=true\nBasePath=/var/spool/slurmd/containers\n' >/etc/slurm/job_container.conf
		printf 'JobContainerType=job_container/tmpfs\nPrologFlags=Alloc,DeferBatch,Contain\n' >/etc/slurm/extra.conf; `)
	t.Cleanup(func() {
		configure(t, "taskset -pc 0-$(($(nproc --all) - 1)) $(pgrep -o -x entrypoint); rm /etc/slurm/job_container.conf; echo >/etc/slurm/extra.conf; ")
	})
	batch, step := unique("own-tmp"), unique("own-tmp-step")
	port, stepPort := freePort(), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=name=%s,port=%d,ready=file:/tmp/e2e.ready", batch, port)},
		body: serving(port) + "touch /tmp/e2e.ready\n" +
			fmt.Sprintf("srun --k8s-register=name=%s,port=%d,ready=file:/tmp/e2e-step.ready bash -c 'touch /tmp/e2e-step.ready; %s'\n",
				step, stepPort, strings.ReplaceAll(untilTold, "\n", "")),
	})
	j.serves(jobsNamespace, batch)
	j.serves(jobsNamespace, step)
	host, err := cluster.Node(j.node())
	require.NoError(t, err)
	files, err := cluster.On(deadline(t, patience), host, "ls", "/tmp")
	require.NoError(t, err)
	require.NotContains(t, files, "e2e", "the host's /tmp")
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
