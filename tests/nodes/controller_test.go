package nodes

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// job is one that Slurm's controller runs scripts for.
type job struct {
	*host
	nodes []string
	env   []string
}

// newJob makes some nodes with a pod each, and a controller's host.
func (w *world) newJob(count int, more ...string) *job {
	w.t.Helper()
	j := &job{host: w.newHost(append(more, "kubeconfig = \"/nonexistent/none-on-nodes\"")...)}
	for range count {
		name := w.newNode()
		w.kubelet(name, 0)
		w.newPod(name, apiserver.UniqueName(w.t, "pod-"))
		j.nodes = append(j.nodes, name)
	}
	j.slurm("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
	j.env = []string{
		"PATH=/usr/bin:/bin", "SLURM_JOB_ID=12", "SLURM_JOB_NODELIST=" + strings.Join(j.nodes, ","), "SLURM_JOB_PARTITION=hpc",
		"SLURM_SCRIPT_CONTEXT=prolog_slurmctld",
	}
	return j
}

func (j *job) script(command string, more ...string) string {
	j.t.Helper()
	cmd := exec.Command(slurmk8s(j.t), command, "--config", j.config)
	cmd.Env = append(j.env, more...)
	out, _ := cmd.CombinedOutput()
	return fmt.Sprintf("%d %s", cmd.ProcessState.ExitCode(), strings.TrimSpace(string(out)))
}

func TestControllerSide(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(3)
	stranger := w.newNode()
	before := map[string]any{}
	for _, name := range append(j.nodes, stranger) {
		before[name] = w.state(name)
	}
	require.Equal(t, "0 ", j.script("prolog-slurmctld"))
	for _, name := range j.nodes {
		assert.Empty(t, w.pods(name))
		assert.True(t, w.cordoned(name))
		assert.Equal(t, "alps/12/0=reclaim", w.holders(name))
	}
	assert.False(t, w.cordoned(stranger))
	require.Equal(t, "0 ", j.script("epilog-slurmctld"))
	for name, state := range before {
		assert.Equal(t, state, w.state(name))
	}
}

// EpilogSlurmctld runs before the job's processes are dead: a node is given back when
// Slurm has it back, and not before.
func TestTheControllersEpilogWaitsForEachNode(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(2)
	require.Equal(t, "0 ", j.script("prolog-slurmctld"))
	j.slurm("squeue", fmt.Sprintf("echo '12|COMPLETING|alice|%s'", strings.Join(j.nodes, ",")))
	done := make(chan string)
	go func() { done <- j.script("epilog-slurmctld") }()
	time.Sleep(time.Second)
	assert.True(t, w.cordoned(j.nodes[0]) && w.cordoned(j.nodes[1]))
	j.slurm("squeue", fmt.Sprintf("echo '12|COMPLETING|alice|%s'", j.nodes[1]))
	eventually.True(t, "the first node is given back", func() bool { return !w.cordoned(j.nodes[0]) })
	assert.True(t, w.cordoned(j.nodes[1]))
	j.slurm("squeue", "echo '12|COMPLETED|alice|"+strings.Join(j.nodes, ",")+"'")
	assert.Equal(t, "0 ", <-done)
	assert.False(t, w.cordoned(j.nodes[1]))
}

func TestTheControllersEpilogLeavesNodesOfUnknownJobs(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(1)
	require.Equal(t, "0 ", j.script("prolog-slurmctld"))
	j.slurm("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
	assert.Contains(t, j.script("epilog-slurmctld"), "1 slurmk8s: 1 nodes are left to reconcile: squeue ")
	assert.True(t, w.cordoned(j.nodes[0]))
}

// A failure is undone on all nodes, and status 1 makes Slurm requeue the job.
func TestOneNodeOfManyThatCannotBeTaken(t *testing.T) {
	for policy, want := range map[string]string{"requeue": "", "fail": "scancel 12", "proceed": "-"} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t)
			j := w.newJob(3, fmt.Sprintf("on_error = %q", policy))
			w.newPod(j.nodes[1], "bare", unmanaged)
			before := map[string]any{}
			for _, name := range j.nodes {
				before[name] = w.state(name)
			}
			j.slurm("squeue", "echo '12|12|'")
			out := j.script("prolog-slurmctld")
			if want == "-" {
				assert.Equal(t, "0 ", out)
				return
			}
			assert.Contains(t, out, "1 slurmk8s: node "+j.nodes[1]+": pod "+w.namespace+"/bare has no controller: nothing was evicted;")
			for name, state := range before {
				assert.Equal(t, state, w.state(name))
			}
			asked := j.asked()
			require.Greater(t, len(asked), 1)
			assert.Contains(t, asked[1], "scontrol update JobId=12 AdminComment=slurmk8s: ")
			if want != "" {
				assert.Equal(t, want, asked[len(asked)-1])
			}
		})
	}
}

// All are closed before the first pod is evicted: it cannot hop to the next node.
func TestAllNodesAreClosedBeforeTheFirstEviction(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(4)
	stream, err := w.admin.Resource(node.Pods).Namespace(w.namespace).Watch(t.Context(), everyPod)
	require.NoError(t, err)
	defer stream.Stop()
	done := make(chan string, 1)
	go func() { done <- j.script("prolog-slurmctld") }()
	for event := range stream.ResultChan() {
		if deleted(event) {
			for _, name := range j.nodes {
				assert.True(t, w.cordoned(name))
			}
			break
		}
	}
	assert.Equal(t, "0 ", <-done)
}

func TestTheJobsOwnWordsOnTheController(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(1, `reclaim = "request"`)
	require.Equal(t, "0 ", j.script("prolog-slurmctld"))
	assert.False(t, w.cordoned(j.nodes[0]), "it did not ask")
	const asks = "SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_nodes=reclaim"
	require.Equal(t, "0 ", j.script("prolog-slurmctld", asks))
	assert.True(t, w.cordoned(j.nodes[0]))
	require.Equal(t, "0 ", j.script("epilog-slurmctld", asks))
	assert.False(t, w.cordoned(j.nodes[0]))
	_ = j.asked()
	require.Equal(t, "0 ", j.script("epilog-slurmctld"))
	assert.Empty(t, j.asked(), "the epilog of a job that took no nodes asks nobody")
	for _, none := range []string{"SLURM_JOB_NODELIST=", "SLURM_JOB_NODELIST=(null)"} {
		assert.Equal(t, "0 ", j.script("prolog-slurmctld", asks, none))
		assert.Equal(t, "0 ", j.script("epilog-slurmctld", asks, none))
	}
	assert.Contains(t, j.script("prolog-slurmctld", "SLURM_JOB_ID=x"), "1 slurmk8s: SLURM_JOB_ID=\"x\" is not a job id")
}
