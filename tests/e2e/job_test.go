package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// script is a job script.
type script struct {
	directives []string // without "#DW "
	body       string   // shell
	options    []string // of sbatch
	env        []string // of sbatch, NAME=VALUE
}

func (s script) text() string {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n#SBATCH --ntasks=1 --time=10\n")
	for _, d := range s.directives {
		b.WriteString("#DW " + d + "\n")
	}
	b.WriteString(s.body + "\n")
	return b.String()
}

// job is a job that Slurm has taken.
type job struct {
	t        *testing.T
	id       uint32
	workflow string
	// mayBeLost: slurmctld was killed before it had written the job down.
	mayBeLost bool
}

// submit hands a script to sbatch, which must take it. At the test's end the job must be over
// and nothing of it left.
func submit(t *testing.T, s script) *job {
	t.Helper()
	result, err := sbatch(deadline(t, patience), t, s)
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	return adopt(t, parseID(t, result.Stdout))
}

func sbatch(ctx context.Context, t *testing.T, s script) (testbed.Result, error) {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '.'
		}
		return r
	}, t.Name())
	command := append(append([]string{"env"}, s.env...), "sbatch", "--parsable", "--job-name="+name)
	command = append(command, s.options...)
	return cluster.As(ctx, user, s.text(), command...)
}

// parseID reads the answer of sbatch --parsable.
func parseID(t *testing.T, text string) uint32 {
	t.Helper()
	id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	require.NoError(t, err, "sbatch --parsable: %q", text)
	return uint32(id)
}

// adopt takes a job on, whoever submitted it.
func adopt(t *testing.T, id uint32) *job {
	t.Helper()
	j := &job{t: t, id: id, workflow: fmt.Sprintf("bb%d", id)}
	t.Cleanup(j.cleanUp)
	return j
}

// workflow is what DWS has for a job.
type workflow = dwssim.Workflow

// number is the job's id as commands take it.
func (j *job) number() string { return strconv.FormatUint(uint64(j.id), 10) }

// over are the states of a job that Slurm is done with, staging included.
var over = []string{"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL"}

// ends waits until the job is over, and requires how.
func (j *job) ends(state string) testbed.Job {
	j.t.Helper()
	found := j.await("to be over", func(seen testbed.Job) bool { return isOver(seen.State()) })
	require.Equal(j.t, state, found.State())
	return found
}

func isOver(state string) bool {
	for _, o := range over {
		if state == o {
			return true
		}
	}
	return false
}

// await waits for what Slurm shows of the job.
func (j *job) await(what string, holds func(testbed.Job) bool) testbed.Job {
	j.t.Helper()
	found, err := jobs.Await(deadline(j.t, patience), j.id, what, holds)
	require.NoError(j.t, err)
	return found
}

// comes waits until Slurm shows the job in a state.
func (j *job) comes(state string) testbed.Job {
	j.t.Helper()
	return j.await("to be "+state, func(seen testbed.Job) bool { return seen.State() == state })
}

// says waits until the job's SystemComment holds a text, which is how a user learns of a failure.
func (j *job) says(text string) {
	j.t.Helper()
	j.await("to say "+text, func(seen testbed.Job) bool { return strings.Contains(seen["SystemComment"], text) })
}

// reaches waits until the Workflow is in a state, whose drivers then wait.
func (j *job) reaches(state string) *dwssim.Workflow {
	j.t.Helper()
	return j.awaitWorkflow("to wait in "+state, func(w *dwssim.Workflow) bool {
		return w.Spec.DesiredState == state && w.Status.State == state && w.Status.Status == dwssim.DriverWait
	})
}

// awaitWorkflow waits for what DWS shows of the job's Workflow.
func (j *job) awaitWorkflow(what string, holds func(*dwssim.Workflow) bool) *dwssim.Workflow {
	j.t.Helper()
	w, err := dwssim.WaitFor(deadline(j.t, patience), cluster.Kube, cluster.Namespace, j.workflow, what, holds)
	require.NoError(j.t, err)
	return w
}

// complete plays the driver of a state, from outside.
func (j *job) complete(state string) {
	j.t.Helper()
	require.NoError(j.t, dwssim.Complete(deadline(j.t, patience), cluster.Kube, cluster.Namespace, j.workflow, state))
}

// awaitBuffer waits until Slurm shows the state of the job's burst buffer.
func (j *job) awaitBuffer(state string) {
	j.t.Helper()
	j.await("to have a buffer that is "+state, func(seen testbed.Job) bool { return seen["BurstBufferState"] == state })
}

// goneOrReconciled is gone() where Slurm may have killed its own teardown: when a job is
// cancelled, the kill of its old hook sometimes hits the new one ("teardown for JobId=N terminated
// by slurmctld"), which Slurm does not run again. It may hit it between the Workflow and the local
// files.
func (j *job) goneOrReconciled() {
	j.t.Helper()
	killed := fmt.Sprintf("grep -c 'teardown for JobId=%d terminated by slurmctld' /var/log/slurm/slurmctld.log", j.id)
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(lookAgain) {
		found, err := j.read(deadline(j.t, patience))
		if as(j.t, "root", "bash", "-c", killed).Status == 0 {
			j.t.Logf("Slurm killed its own teardown of job %d: reconcile", j.id)
			reconcile(j.t)
			break
		}
		if err == nil && found == nil && jobs.Get(j.id)["BurstBufferState"] == "complete" {
			break
		}
	}
	j.gone()
}

// reconcile does what the administrator's timer does.
func reconcile(t *testing.T) testbed.Result {
	t.Helper()
	return as(t, "slurm", "/opt/slurmk8s/bin/slurmk8s", "reconcile", "--limit=20s")
}

// gone waits until there is no Workflow of the job.
func (j *job) gone() {
	j.t.Helper()
	eventually.Equal(j.t, "gone", func() string {
		found, err := j.read(deadline(j.t, patience))
		require.NoError(j.t, err)
		if found == nil {
			return "gone"
		}
		return fmt.Sprintf("in %s (%s)", found.Status.State, found.Status.Message)
	}, "workflow %s", j.workflow)
}

// read returns the Workflow; nil when there is none.
func (j *job) read(ctx context.Context) (*dwssim.Workflow, error) {
	resource := cluster.Kube.Resource(dwssim.WorkflowsResource(dwsVersion)).Namespace(cluster.Namespace)
	object, err := resource.Get(ctx, j.workflow, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return dwssim.FromUnstructured(object)
}

// dwsVersion is the one that the tests read in: dwssim's newest.
var dwsVersion = dwssim.DefaultVersions[len(dwssim.DefaultVersions)-1]

// bbstat is what `scontrol show bbstat workflow ID` says.
func (j *job) bbstat(who string) string {
	j.t.Helper()
	result := as(j.t, who, "scontrol", "show", "bbstat", "workflow", j.number())
	return result.Stdout + result.Stderr
}

// status is bbstat's answer, read. After a request that took too long bbstat says for some
// seconds that it does not ask (the breaker); that is no failure here.
func (j *job) status(who string) map[string]string {
	j.t.Helper()
	text := j.bbstat(who)
	for until := time.Now().Add(patience); strings.Contains(text, "try again later") && time.Now().Before(until); text = j.bbstat(who) {
		time.Sleep(time.Second)
	}
	return parseStatus(j.t, text)
}

// output is what the job's script wrote.
func (j *job) output() string {
	j.t.Helper()
	return admin(j.t, "cat", fmt.Sprintf("/home/%s/slurm-%d.out", user, j.id))
}

func (j *job) scancel(options ...string) {
	j.t.Helper()
	command := append(append([]string{"scancel"}, options...), j.number())
	result := as(j.t, user, command...)
	require.Zero(j.t, result.Status, "scancel: %s", result.Stderr)
}

// cleanUp is the invariant: the job is over, and nothing is left of it.
func (j *job) cleanUp() {
	j.t.Helper()
	defer func() {
		if j.t.Failed() {
			j.t.Log(j.evidence())
			j.remove()
		}
	}()
	if j.t.Failed() {
		return
	}
	if !j.mayBeLost || jobs.Get(j.id) != nil {
		j.await("to be over at the test's end", func(seen testbed.Job) bool { return isOver(seen.State()) })
	}
	j.gone()
	j.unregistered()
	eventually.Equal(j.t, "", func() string { // the hook takes them away after the Workflow
		return admin(j.t, "find", "/var/spool/slurmk8s/", "-name", fmt.Sprintf("job.%d", j.id))
	}, "local files of job %d are left", j.id)
}

// evidence is what somebody needs who looks for the reason of a failure.
func (j *job) evidence() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id := j.number()
	var b strings.Builder
	section := func(title, text string, err error) {
		fmt.Fprintf(&b, "\n--- %s\n%s", title, strings.TrimSpace(text))
		if err != nil {
			fmt.Fprintf(&b, "(%v)", err)
		}
	}
	section("faults of job "+id, "", nil)
	text, err := cluster.Root(ctx, "scontrol", "show", "job", id)
	section("scontrol show job "+id, text, err)
	w, err := j.read(ctx)
	text = "there is none"
	if w != nil {
		w.ManagedFields = nil
		raw, _ := yaml.Marshal(w)
		text = string(raw)
	}
	section("workflow "+cluster.Namespace+"/"+j.workflow, text, err)
	text, err = cluster.Root(ctx, "bash", "-c", fmt.Sprintf(`grep -E "JobId=%s\b|bb%s\b" /var/log/slurm/slurmctld.log | tail -n 40`, id, id))
	section("slurmctld.log of the job", text, err)
	text, err = cluster.Root(ctx, "bash", "-c", fmt.Sprintf(`grep -E "job=%s\b|reconcile" /var/log/slurm/slurmk8s.log | tail -n 40`, id))
	section("slurmk8s.log of the job", text, err)
	left, err := j.objects(ctx)
	section("objects of services", strings.Join(left, "\n"), err)
	section("logs of the nodes", j.nodeLog(ctx), nil)
	text, err = cluster.Root(ctx, "bash", "-c", fmt.Sprintf("tail -n 30 /home/%s/slurm-%s.out", user, id))
	section("the job's output", text, err)
	text, err = cluster.Root(ctx, "tail", "-n", "15", "/var/log/slurm/slurmctld.log")
	section("slurmctld.log, its end", text, err)
	return b.String()
}

// remove takes a failed test's job away by force, so that it cannot make others fail.
func (j *job) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, _ = cluster.Root(ctx, "scancel", "--hurry", j.number())
	time.Sleep(time.Second)
	if w, err := j.read(ctx); err == nil && w != nil {
		completing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = dwssim.Complete(completing, cluster.Kube, cluster.Namespace, j.workflow, dwssim.Teardown)
	}
}
