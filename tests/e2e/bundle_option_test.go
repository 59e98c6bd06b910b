package e2e

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// installJobSubmit gives slurmctld the job_submit.lua of the build until the test ends.
func installJobSubmit(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		admin(t, "sed", "-i", "/^JobSubmitPlugins=/d", "/etc/slurm/extra.conf")
		reconfigure(t)
		admin(t, "rm", "-f", "/etc/slurm/job_submit.lua")
	})
	admin(t, "ln", "-sfn", "/opt/slurmk8s/etc/job_submit.lua", "/etc/slurm/job_submit.lua")
	admin(t, "sh", "-c", "echo JobSubmitPlugins=lua >>/etc/slurm/extra.conf")
	reconfigure(t)
}

func reconfigure(t *testing.T) {
	t.Helper()
	admin(t, "scontrol", "reconfigure")
	eventually.Equal(t, 0, func() int { return as(t, user, "sinfo").Status }, "slurmctld answers")
}

// The option becomes a directive in slurmctld, whatever submits the job.
func TestTheBundleOption(t *testing.T) {
	alone(t)
	installJobSubmit(t)
	name := companion(t)
	option := "--k8s-bundle=" + name + ",greeting=hi"
	whole := map[string]int{"leases": 1, "configmaps": 1, "deployments": 1, "pods": 1}
	gone := func(t *testing.T, j *job) {
		t.Helper()
		eventually.Equal(t, map[string]int{}, j.companions, "left of job %d", j.id)
	}
	const show = "env | grep ^SLURMK8S_BUNDLES="
	// The subtests run together; the test itself with no other.
	t.Run("submitters", func(t *testing.T) {
		t.Run("sbatch", func(t *testing.T) {
			t.Parallel()
			// "capacity=" in a directive means something to Slurm.
			j := submit(t, script{options: []string{"--k8s-bundle=" + name + ",as=c,name=" + unique("c") + ",greeting=a%20capacity=5GB%2C%25"},
				body: "srun env | sed s/^/step:/\n" + untilTold})
			j.comes("RUNNING")
			require.Equal(t, whole, j.companions(), "staged before the job started")
			u, err := cluster.Kube.Resource(bundleResources[1]).Namespace(bundlesNamespace).Get(deadline(t, patience), unique("c"), metav1.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, map[string]any{"greeting": "a capacity=5GB,%"}, u.Object["data"], "though Slurm reads \"%\" and \"capacity=\" in directives")
			j.prints("step:SLURMK8S_BUNDLES=c")
			j.tell()
			j.ends("COMPLETED")
			gone(t, j)
		})
		t.Run("salloc", func(t *testing.T) {
			t.Parallel()
			result := as(t, user, "salloc", "--ntasks=1", option, "bash", "-c", show+"; srun env | sed s/^/step:/")
			require.Zero(t, result.Status, "salloc: %s", result.Stderr)
			j := adopt(t, granted(t, result.Stderr))
			require.Regexp(t, "(?m)^SLURMK8S_BUNDLES="+name+"$", result.Stdout)
			require.Contains(t, result.Stdout, "step:SLURMK8S_BUNDLES="+name+"\n")
			j.ends("COMPLETED")
			gone(t, j)
		})
		t.Run("srun", func(t *testing.T) {
			t.Parallel()
			result := as(t, user, "srun", "--ntasks=1", option, "env")
			require.Zero(t, result.Status, "srun: %s", result.Stderr)
			id := regexp.MustCompile(`(?m)^SLURM_JOB_ID=(\d+)$`).FindStringSubmatch(result.Stdout)
			require.NotNil(t, id, result.Stdout)
			j := adopt(t, parseID(t, id[1]))
			require.Contains(t, result.Stdout, "SLURMK8S_BUNDLES="+name+"\n")
			j.ends("COMPLETED")
			gone(t, j)
		})
		t.Run("each task of an array has its own", func(t *testing.T) {
			t.Parallel()
			for _, task := range arrayOf(t, 2, script{options: []string{option}, body: untilTold}) {
				require.Equal(t, whole, task.companions())
				task.tell()
				task.ends("COMPLETED")
				gone(t, task)
			}
		})
		t.Run("a name that is the same for all tasks of an array", func(t *testing.T) {
			t.Parallel()
			first := submit(t, script{options: []string{"--array=1-2", "--output=/dev/null", option + ",name=" + unique("same")}, body: untilTold})
			tasks := func(state string) map[uint32]testbed.Job {
				return jobs.Find(func(seen testbed.Job) bool {
					return seen["ArrayJobId"] == first.number() && seen["ArrayTaskId"] != "" && seen.State() == state
				})
			}
			eventually.Equal(t, []int{1, 1}, func() []int { return []int{len(tasks("RUNNING")), len(tasks("CANCELLED"))} }, "tasks that run, and that were cancelled")
			for runs := range tasks("RUNNING") {
				for id := range tasks("CANCELLED") {
					other := first
					if id != first.id {
						other = adopt(t, id)
					}
					other.says(fmt.Sprintf("belongs to job %d, which is not over: choose another name (in an array, one with the task's index)", runs))
				}
				task := first
				if runs != first.id {
					task = adopt(t, runs)
				}
				task.tell()
				task.ends("COMPLETED")
				gone(t, task)
			}
		})
		t.Run("the first component of a heterogeneous job", func(t *testing.T) {
			t.Parallel()
			leader, second := heterogeneous(t, "#SBATCH --ntasks=1 --time=10 "+option, "#SBATCH hetjob", "#SBATCH --ntasks=1 "+option,
				show, "srun --het-group=1 env | sed s/^/second:/")
			leader.ends("COMPLETED")
			second.ends("COMPLETED")
			require.Contains(t, leader.output(), "second:SLURMK8S_BUNDLES="+name+"\n")
			staged := func(j *job) bool {
				return as(t, "root", "grep", "-q", "slurm_bb_setup JobId="+j.number()+":", "/var/log/slurm/slurmctld.log").Status == 0
			}
			require.True(t, staged(leader))
			require.False(t, staged(second), "only the first component has the bundle")
			gone(t, leader)
		})
	})

	for value, says := range map[string]string{
		name + ",greting=hi":         "bundle " + name + ": no parameter \"greting\": did you mean greeting? (slurmk8s bundle show " + name + ")",
		name:                         "bundle " + name + ": greeting= is missing",
		name + ",greeting=hi,size=9": "bundle " + name + ": size=9: at most 3",
		"argo,template=x":            "bundle argo: user alice may use companion-*",
	} {
		for _, command := range [][]string{{"sbatch", "--wrap=true"}, {"salloc", "true"}, {"srun", "true"}} {
			words := append([]string{command[0], "--ntasks=1", "--k8s-bundle=" + value}, command[1:]...)
			result := as(t, user, words...)
			require.NotZero(t, result.Status, "%s %s: %s", command[0], value, result.Stdout)
			require.Contains(t, result.Stderr, says)
		}
	}
	result := as(t, another, "sbatch", "--ntasks=1", option, "--wrap=true")
	require.NotZero(t, result.Status)
	require.Contains(t, result.Stderr, "user bob may not have bundles: no [[bundles.allow]] of slurmk8s.toml allows it")
}
