package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestAJobIsAServiceWhileItRuns(t *testing.T) {
	parallel(t)
	name, port := unique("web"), freePort()
	url := "http://" + name + ".slurm-jobs.svc/"
	j := submit(t, script{body: fmt.Sprintf("#SBATCH --k8s-register=%s:80:%d\n", name, port) +
		"env | grep ^SLURMK8S_\n" + serving(port) + untilTold})
	j.serves(jobsNamespace, name)
	page := fmt.Sprintf("port %d of job %d on %s", port, j.id, j.node())
	require.Equal(t, page, pageFrom(t, otherThan(t, j.node()), url), "from a pod on the other node")
	require.Equal(t, page, pageFrom(t, j.node(), url), "from a pod on the same node")
	require.Contains(t, j.output(), variableOf(name)+"="+name+".slurm-jobs.svc:80\n")
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

// The option is not lost with the environment that it travels in.
func TestAJobWithoutTheEnvironmentOfSbatchIsAService(t *testing.T) {
	parallel(t)
	for _, export := range []string{"NONE", "NIL", "HOME,PATH"} {
		t.Run(export, func(t *testing.T) {
			t.Parallel()
			name, port := unique("bare-"+strings.ToLower(export[:2])), freePort()
			j := submit(t, script{
				options: []string{"--export=" + export, fmt.Sprintf("--k8s-register=%s:%d", name, port)},
				body:    "export PATH=/usr/bin:/bin\n" + serving(port) + untilTold,
			})
			j.serves(jobsNamespace, name)
			j.tell()
			j.ends("COMPLETED")
			j.unregistered()
		})
	}
}

func TestAServiceIsNotReadyBeforeItsPortListens(t *testing.T) {
	parallel(t)
	name, port := unique("late"), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=%s:%d", name, port)},
		body:    untilTold + serving(port) + "sleep 600",
	})
	j.comes("RUNNING")
	unready := []string{j.address() + " not ready"}
	eventually.Equal(t, unready, func() []string { return endpoints(t, jobsNamespace, name) })
	time.Sleep(3 * time.Second)
	require.Equal(t, unready, endpoints(t, jobsNamespace, name), "nothing listens")
	_, err := cluster.Visit(deadline(t, patience), j.node(), fmt.Sprintf("http://%s.slurm-jobs.svc:%d/", name, port))
	require.Error(t, err)
	j.tell()
	j.serves(jobsNamespace, name)
	j.scancel()
	j.ends("CANCELLED")
	j.unregistered()
}

func TestAFileThatTheUserCannotReadIsNoReadiness(t *testing.T) {
	parallel(t)
	own, secret := unique("own-file"), unique("root-file")
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=name=%s,port=%d,ready=file:/home/%s/.profile-of-own;name=%s,port=%d,ready=file:/etc/slurm/slurmk8s-node.kubeconfig",
			own, freePort(), user, secret, freePort())},
		body: "touch .profile-of-own\n" + untilTold,
	})
	j.serves(jobsNamespace, own)
	time.Sleep(2 * time.Second)
	require.Equal(t, []string{j.address() + " not ready"}, endpoints(t, jobsNamespace, secret), "root can read it, the user cannot")
	j.tell()
	j.ends("COMPLETED")
}

func TestASrunInABatchScriptRegistersForTheStepOnly(t *testing.T) {
	parallel(t)
	name, port := unique("stepped"), freePort()
	j := submit(t, script{body: fmt.Sprintf("cat >step.$SLURM_JOB_ID <<'EOF'\n%s%sEOF\nsrun --k8s-register=%s:%d bash step.$SLURM_JOB_ID\ntouch after.$SLURM_JOB_ID\nsleep 600",
		serving(port), untilTold, name, port)})
	j.serves(jobsNamespace, name)
	j.tell()
	after := "/home/" + user + "/after." + j.number()
	eventually.True(t, "the step is over", func() bool { return exists(t, after) })
	j.unregistered() // srun does not wait for what slurmstepd does at a step's end
	require.Equal(t, "RUNNING", jobs.Get(j.id).State(), "the step is over, and its job runs on")
	j.scancel()
	j.ends("CANCELLED")
}

// The option of the script is also in the environment of its steps.
func TestASrunThatInheritsTheOptionRegistersNothingTwice(t *testing.T) {
	parallel(t)
	name, port := unique("once"), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=%s:%d", name, port)},
		body:    serving(port) + "srun env | grep ^SLURMK8S_\nsrun true\ntouch after.$SLURM_JOB_ID\n" + untilTold,
	})
	after := "/home/" + user + "/after." + j.number()
	eventually.True(t, "the step is over", func() bool { return exists(t, after) })
	j.serves(jobsNamespace, name)
	require.Contains(t, j.output(), fmt.Sprintf("%s=%s.slurm-jobs.svc:%d\n", variableOf(name), name, port))
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

func TestSrunAndSallocRegisterTheirSteps(t *testing.T) {
	leaveOutIfShort(t)
	for program, command := range map[string]func(option string) []string{
		"srun":   func(option string) []string { return []string{"srun", "--ntasks=1", option} },
		"salloc": func(option string) []string { return []string{"salloc", "--ntasks=1", option, "srun"} },
	} {
		t.Run(program, func(t *testing.T) {
			parallel(t)
			name, port := unique("by-"+program), freePort()
			text := serving(port) + `for i in $(seq 100); do
				curl --silent --fail "http://$(hostname):` + fmt.Sprint(port) + `/" && break
				sleep 0.1
			done
			env | grep -E "^SLURMK8S_|^SLURM_JOB_ID="`
			result := as(t, user, append(command(fmt.Sprintf("--k8s-register=%s:%d", name, port)), "bash", "-c", text)...)
			require.Zero(t, result.Status, result.Stderr)
			require.Contains(t, result.Stdout, fmt.Sprintf("%s=%s.slurm-jobs.svc:%d\n", variableOf(name), name, port))
			_, number, _ := strings.Cut(result.Stdout, "SLURM_JOB_ID=")
			number, _, _ = strings.Cut(number, "\n")
			j := adopt(t, parseID(t, number))
			j.ends("COMPLETED")
			j.unregistered()
		})
	}
}

// Component 0 has no option; an srun on component 1 registers that one.
func TestOfAHeterogeneousJobOnlyTheComponentThatAsksIsRegistered(t *testing.T) {
	parallel(t)
	name, port := unique("part"), freePort()
	nodes := cluster.Nodes
	leader, second := heterogeneous(t,
		"#SBATCH --ntasks=1 --time=10 --job-name=het-service --nodelist="+nodes[0].Name,
		"#SBATCH hetjob",
		"#SBATCH --ntasks=1 --nodelist="+nodes[1].Name,
		fmt.Sprintf("cat >step.$SLURM_JOB_ID <<'EOF'\n%sexec sleep 600\nEOF", serving(port)),
		fmt.Sprintf("srun --het-group=1 --k8s-register=%s:%d bash step.$SLURM_JOB_ID", name, port))
	eventually.Equal(t, []string{addressOf(t, nodes[1].Name) + " ready"}, func() []string { return endpoints(t, jobsNamespace, name) }, "the second component's node")
	left, err := leader.objects(deadline(t, patience))
	require.NoError(t, err)
	require.Empty(t, left, "the first component did not ask")
	leader.scancel()
	leader.ends("CANCELLED")
	second.ends("CANCELLED")
	second.unregistered()
}

func TestAllNodesOfAJobAreEndpointsOfAHeadlessService(t *testing.T) {
	parallel(t)
	name, port := unique("everywhere"), freePort()
	j := submit(t, script{
		options: []string{"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", fmt.Sprintf("--k8s-register=name=%s,port=%d,host=all", name, port)},
		body:    fmt.Sprintf("cat >step.$SLURM_JOB_ID <<'EOF'\n%s%sEOF\nsrun bash step.$SLURM_JOB_ID", serving(port), untilTold),
	})
	eventually.True(t, "both nodes serve "+name, func() bool {
		found := endpoints(t, jobsNamespace, name)
		return len(found) == 2 && strings.HasSuffix(found[0], " ready") && strings.HasSuffix(found[1], " ready")
	})
	for _, n := range cluster.Nodes {
		require.Equal(t, fmt.Sprintf("port %d of job %d on %s", port, j.id, n.Name),
			pageFrom(t, cluster.Nodes[0].Name, fmt.Sprintf("http://%s.%s.slurm-jobs.svc:%d/", n.Name, name, port)), "each node has a name of its own")
	}
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

func TestAJobFindsAServiceThatItImports(t *testing.T) {
	parallel(t)
	name, port := unique("data-base"), freePort()
	server := register(t, name, port)
	server.serves(jobsNamespace, name)
	variable := service.Variable(name)
	client := submit(t, script{
		options: []string{"--k8s-import=" + name},
		body:    fmt.Sprintf(`env | grep ^%[1]s_; curl --silent --fail --retry 5 --retry-all-errors "http://$%[1]s_ADDRESS/"`, variable),
	})
	client.ends("COMPLETED")
	require.Contains(t, client.output(), fmt.Sprintf("port %d of job %d on ", port, server.id))
	require.Regexp(t, `(?m)^`+variable+`_SERVICE_HOST=[0-9.]+$`, client.output())
	require.Contains(t, client.output(), fmt.Sprintf("%s_SERVICE_PORT=%d\n", variable, port))
	server.tell()
	server.ends("COMPLETED")

	lost := submit(t, script{options: []string{"--k8s-import=" + unique("nowhere")}})
	lost.ends("FAILED")
	require.Equal(t, "slurmk8s: --k8s-import: service slurm-jobs/"+unique("nowhere")+" does not exist\n", lost.output())
}

// variableOf is the variable that tells a job where its service is.
func variableOf(name string) string { return "SLURMK8S_SERVICE_" + service.Variable(name) }

// The plugin is mapped where Slurm loads it; nothing else is, and no program runs.
func TestAJobWithoutOptionsStartsNothing(t *testing.T) {
	parallel(t)
	j := submit(t, script{body: untilTold})
	node, err := cluster.Node(j.node())
	require.NoError(t, err)
	look := fmt.Sprintf(`for _ in $(seq 600); do
			pid=$(pgrep -f '[s]lurmstepd: \[%s\.batch\]') && grep -q slurmk8s "/proc/$pid/maps" && break
			sleep 0.1
		done
		grep -o '/[^ ]*/slurmk8s[^ ]*\.so' "/proc/$pid/maps" | sort -u
		pgrep -a -P "$pid" slurmk8s || true`, j.number())
	out, err := cluster.On(deadline(t, patience), node, "bash", "-c", look)
	require.NoError(t, err)
	require.Regexp(t, `^\S+/slurmk8s_nodes_spank\.so\n$`, out)
	require.Empty(t, j.marks())
	j.tell()
	j.ends("COMPLETED")
	log := j.nodeLog(deadline(t, patience))
	require.NotContains(t, log, "hook=step", "the step program")
	require.NotContains(t, log, "hook=k8s_job_epilog", "the library, in the epilog")
}
