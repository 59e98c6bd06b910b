package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// A job of each class with storage that is made on servers: of its nodes, of the network, and
// one that is there already.
func TestStorageOfRabbits(t *testing.T) {
	alone(t)
	provideRabbits(t)
	first, second := cluster.Nodes[0].Name, cluster.Nodes[1].Name

	t.Run("xfs is made on the rabbit of the node that the job got", func(t *testing.T) {
		j := submit(t, script{directives: []string{"jobdw type=xfs capacity=50GB pool=dws name=scratch"},
			body: "env; sleep 3", options: []string{"--nodelist=" + second}})
		j.comes("RUNNING")
		require.Equal(t, "xfs r2:1", placedOn(t, j.workflow+"-0"))
		status := as(t, user, "scontrol", "show", "bbstat", "workflow", j.number()).Stdout
		require.Contains(t, status, "currentState=PreRun")
		if release > 2205 { // which does not tell the hook who asks
			require.Contains(t, status, "rabbits=r2")
		}
		j.ends("COMPLETED")
		j.gone()
	})

	t.Run("Lustre is staged in while the nodes are busy", func(t *testing.T) {
		busy := submit(t, script{body: "sleep 600", options: []string{"--nodes=2", "--exclusive"}})
		busy.comes("RUNNING")
		j := submit(t, script{directives: []string{"jobdw type=lustre capacity=1TB pool=dws name=scratch"}})
		j.awaitWorkflow("to be staged in", dwssim.Ready(dwssim.DataIn))
		require.Equal(t, "PENDING", jobs.Get(j.id).State())
		admin(t, "scancel", busy.number())
		j.ends("COMPLETED")
		j.gone()
	})

	t.Run("a job without room on its node goes back into the queue, and gets another", func(t *testing.T) {
		holder := submit(t, script{directives: []string{"jobdw type=xfs capacity=30TiB pool=dws name=scratch"},
			body: "sleep 600", options: []string{"--nodelist=" + first}})
		holder.comes("RUNNING")
		j := submit(t, script{directives: []string{"jobdw type=xfs capacity=30TiB pool=dws name=scratch"}, options: []string{"--nodelist=" + first}})
		line := fmt.Sprintf("xfs needs 30.01 TiB on r1 for node %s, and 1.99 TiB is free", first)
		j.await("to be put back", func(seen testbed.Job) bool {
			return seen["Restarts"] != "0" || strings.Contains(seen["SystemComment"], line)
		})
		admin(t, "scancel", holder.number())
		holder.gone()
		admin(t, "scontrol", "update", "JobId="+j.number(), "StartTime=now")
		j.ends("COMPLETED")
		j.gone()
	})

	const xfs = "jobdw type=xfs capacity=50GB pool=dws name=scratch"

	t.Run("each task of an array has storage of its own", func(t *testing.T) {
		keepsRabbits(t)
		tasks := arrayOf(t, 3, script{directives: []string{xfs}, body: untilTold})
		paths := map[string]bool{}
		for _, task := range tasks {
			w := task.awaitWorkflow("to be mounted", dwssim.Ready(dwssim.PreRun))
			paths[w.Status.Env["DW_JOB_scratch"]] = true
			require.Regexp(t, `^xfs r[12]:1$`, placedOn(t, task.workflow+"-0"))
		}
		require.Len(t, paths, len(tasks))
		for _, task := range tasks {
			task.tell()
			task.ends("COMPLETED")
			task.gone()
		}
	})

	t.Run("each component of a heterogeneous job has storage of its own", func(t *testing.T) {
		keepsRabbits(t)
		leader, other := heterogeneous(t,
			"#SBATCH --ntasks=1 --time=10 --job-name=het-storage --nodelist="+first,
			"#DW jobdw type=xfs capacity=50GB pool=dws name=left",
			"#SBATCH hetjob",
			"#SBATCH --ntasks=1 --nodelist="+second,
			"#DW jobdw type=xfs capacity=100GB pool=dws name=right",
			"env", "srun --het-group=1 env | sed s/^/right:/", untilTold)
		leader.comes("RUNNING")
		require.Equal(t, "xfs r1:1", placedOn(t, leader.workflow+"-0"))
		require.Equal(t, "xfs r2:1", placedOn(t, other.workflow+"-0"))
		leader.prints("DW_JOB_left=" + leader.awaitWorkflow("to be mounted", dwssim.Ready(dwssim.PreRun)).Status.Env["DW_JOB_left"])
		leader.prints("right:DW_JOB_right=" + other.awaitWorkflow("to be mounted", dwssim.Ready(dwssim.PreRun)).Status.Env["DW_JOB_right"])
		leader.tell()
		for _, j := range []*job{leader, other} {
			j.ends("COMPLETED")
			j.gone()
		}
	})

	t.Run("twenty jobs that want more than there is all end, and nothing is promised twice", func(t *testing.T) {
		keepsRabbits(t)
		// An MGS elsewhere: a rabbit runs only one.
		all := submitMany(t, 20, script{directives: []string{"jobdw type=lustre capacity=8TiB pool=dws name=scratch profile=external"}, body: "true"})
		const ofRabbit = 32 << 40 // bytes; half of a job's storage is on each rabbit
		most := int64(0)
		eventually.True(t, "all jobs are over", func() bool {
			for rabbit, bytes := range promised(t) {
				require.LessOrEqual(t, bytes, int64(ofRabbit), rabbit)
				most = max(most, bytes)
			}
			return !slices.ContainsFunc(all, func(j *job) bool { return !isOver(jobs.Get(j.id).State()) })
		})
		require.Greater(t, most, int64(ofRabbit/2), "of several jobs at once")
		for _, j := range all {
			j.ends("COMPLETED")
			j.gone()
		}
	})

	t.Run("a copy-offload container: the tasks have the token of their job", func(t *testing.T) {
		keepsRabbits(t)
		givesTokens(t)
		j := submit(t, script{
			directives: []string{"jobdw type=gfs2 capacity=50GB pool=dws name=scratch requires=copy-offload",
				"container name=box profile=example-success DW_JOB_foo_local_storage=scratch"},
			options: []string{"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"},
			body: `srun bash -c 'echo "$SLURMD_NODENAME $(stat --format="%a %U" "$DW_WORKFLOW_TOKEN_FILE") $(cat "$DW_WORKFLOW_TOKEN_FILE")"'` +
				"\n" + untilTold,
		})
		j.comes("RUNNING")
		for _, n := range cluster.Nodes {
			j.prints(n.Name + " 600 " + user + " " + j.token())
		}
		rights := func() []string {
			of := slurmjob.LabelJobID + "=" + j.number()
			return append(labelled(t, roles, of), labelled(t, roleBindings, of)...)
		}
		require.Len(t, rights(), 2, "of the nodes to read it")
		j.tell()
		j.ends("COMPLETED")
		j.gone()
		require.Empty(t, rights())
		require.Empty(t, storageFiles(t))
	})

	t.Run("a persistent instance is made, used by a job on its node, and destroyed", func(t *testing.T) {
		on := []string{"--nodelist=" + first}
		for _, directive := range []string{"create_persistent type=xfs capacity=50GB pool=dws name=mine", "persistentdw name=mine", "destroy_persistent name=mine"} {
			j := submit(t, script{directives: []string{directive}, options: on})
			j.ends("COMPLETED")
			j.gone()
		}
	})
}

// What goes wrong with rabbits, on the real Slurm.
func TestStorageOfRabbitsThatFail(t *testing.T) {
	alone(t)
	t.Cleanup(prober.ExcuseDrains())
	provideRabbits(t)
	first, second := cluster.Nodes[0].Name, cluster.Nodes[1].Name
	const xfs = "jobdw type=xfs capacity=50GB pool=dws name=scratch"

	t.Run("a rabbit that is drained after setup: the job goes to another one, and Slurm's node is drained", func(t *testing.T) {
		occupy := func(node string) *job {
			j := submit(t, script{body: "sleep 600", options: []string{"--nodelist=" + node, "--exclusive"}})
			j.comes("RUNNING")
			return j
		}
		here, there := occupy(first), occupy(second)
		j := submit(t, script{directives: []string{xfs}})
		j.awaitWorkflow("to wait for its nodes", dwssim.Ready(dwssim.Proposal))
		failing(t, "storages", "r1", dwssim.StatusAnnotation, "Drained")
		admin(t, "scancel", here.number())
		seen := j.await("to be kept away", func(seen testbed.Job) bool { return seen["ExcNodeList"] == first })
		require.Contains(t, seen["SystemComment"], "r1 (of "+first+") is Drained")

		// A configuration of its own: other tests want their nodes.
		const config = "/tmp/slurmk8s-drain.toml"
		admin(t, "bash", "-c", `sed 's/^\[workflows\]/[workflows]\nhealth = "drain"/' /etc/slurm/slurmk8s.toml >`+config)
		tend := func() {
			result := as(t, "slurm", "/opt/slurmk8s/bin/slurmk8s", "reconcile", "--limit=20s", "--config="+config)
			require.Zero(t, result.Status, result.Stdout+result.Stderr)
		}
		state := func() string {
			return strings.TrimSpace(admin(t, "sinfo", "--noheader", "--nodes="+first, "--partition=main", "--Format=StateComplete:60,Reason:60"))
		}
		tend()
		require.Contains(t, state(), "drain")
		require.Contains(t, state(), "slurmk8s: storage: r1 is Drained")
		failing(t, "storages", "r1", dwssim.StatusAnnotation, nil)
		eventually.True(t, first+" is undrained", func() bool { tend(); return !strings.Contains(state(), "drain") })

		admin(t, "scancel", there.number())
		admin(t, "scontrol", "update", "JobId="+j.number(), "StartTime=now")
		j.ends("COMPLETED")
		require.Equal(t, second, jobs.Get(j.id)["NodeList"])
		j.gone()
	})

	t.Run("a node that dies while it has mounted: the job ends, and its storage goes", func(t *testing.T) {
		keepsRabbits(t)
		j := submit(t, script{directives: []string{xfs}, body: "sleep 600",
			options: []string{"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--no-requeue"}})
		j.comes("RUNNING")
		t.Cleanup(func() { failing(t, "systemconfigurations", "default", dwssim.HungAnnotation, nil) })
		failing(t, "systemconfigurations", "default", dwssim.HungAnnotation, second)
		back := nodeDies(t, cluster.Nodes[1])
		j.ends("NODE_FAIL")
		j.gone()
		require.Equal(t, map[string]string{second: "Disabled"}, disabledNodes(t))
		back()
		require.Zero(t, reconcile(t).Status)
		require.Empty(t, disabledNodes(t), "it is waited for again")
	})
}
