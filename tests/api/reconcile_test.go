package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

type result struct {
	status         int
	stdout, stderr string
}

func (s *site) reconcile(args ...string) result {
	s.t.Helper()
	return s.run("reconcile", args...)
}

// run runs a command of the built program with our squeue.
func (s *site) run(command string, args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, common.program, append([]string{command, "--config", s.path("slurmk8s.toml")}, args...)...)
	cmd.Env = []string{}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	over, live, unknown := s.job("#DW jobdw type=xfs capacity=1GiB name=ab"), s.job("#DW Setup action=complete"), s.job("#DW DataOut action=wait")
	stagingOut := s.job("#DW DataOut action=wait")
	over.bring(dwssim.PreRun)
	live.bring(dwssim.Setup)
	unknown.bring(dwssim.PostRun)
	unknown.ok("data_out")
	stagingOut.bring(dwssim.PostRun)
	stagingOut.ok("data_out")
	stagingOut.wait("in DataOut", entered(dwssim.DataOut))
	var foreign []*unstructured.Unstructured
	var foreignJobs []*job
	for _, labels := range notOurs {
		j := s.job("#DW Setup action=wait")
		foreignJobs, foreign = append(foreignJobs, j), append(foreign, j.foreign(labels))
	}
	misnamed := s.job("#DW Setup action=wait") // our labels, but the id of another job
	foreignJobs = append(foreignJobs, misnamed)
	foreign = append(foreign, misnamed.foreign(map[string]string{
		"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": "1"}))

	s.jobs(fmt.Sprintf("%d|COMPLETED|ada|c1", over.id), fmt.Sprintf("%d|PENDING|ada|", live.id), fmt.Sprintf("%d|STAGE_OUT|ada|c1", stagingOut.id))
	all := s.names()
	liveBefore, stagingBefore := live.get(), stagingOut.get()

	t.Run("when Slurm does not answer nothing is touched", func(t *testing.T) {
		for name, body := range map[string]string{
			"an error":                "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
			"an error after a part":   fmt.Sprintf("echo '%d|RUNNING|ada|c1'; exit 1", live.id),
			"an answer that is cut":   fmt.Sprintf("echo '%d|RUNNING|ada|c1'; echo 12", live.id),
			"an answer of other kind": "echo 'JOBID STATE REASON'",
		} {
			s.write("squeue", "#!/bin/sh\n"+body+"\n", 0o755)
			r := s.reconcile()
			assert.Equal(t, 1, r.status, name)
			assert.Contains(t, r.stderr, "nothing was touched, since Slurm's jobs are unknown", name)
			assert.Equal(t, 1, strings.Count(r.stderr, "\n"), name)
			assert.Equal(t, all, s.names(), name)
		}
		s.write("squeue", "#!/bin/sh\nexec cat "+s.path("jobs")+"\n", 0o755)
	})
	t.Run("a dry run only says what it would do", func(t *testing.T) {
		r := s.reconcile("--dry-run")
		assert.Equal(t, 0, r.status, r.stderr)
		assert.Equal(t, fmt.Sprintf("workflow %[1]s/bb%[2]d (job %[2]d is over; was in PreRun): would be removed\n"+
			"workflow %[1]s/bb%[3]d (job %[3]d is over; was in DataOut): would be removed\n", s.namespace, over.id, unknown.id), r.stdout)
		assert.Equal(t, all, s.names())
	})
	t.Run("what is over is removed, and nothing else is touched", func(t *testing.T) {
		r := s.reconcile()
		assert.Equal(t, 0, r.status, r.stdout+r.stderr)
		assert.Equal(t, 2, strings.Count(r.stdout, ": removed\n"))
		assert.Nil(t, over.get())
		assert.Nil(t, unknown.get())
		assert.Equal(t, liveBefore, live.get())
		assert.Equal(t, stagingBefore, stagingOut.get())
		for i, j := range foreignJobs {
			assert.Equal(t, foreign[i], j.get(), j.name())
		}
		assert.NoDirExists(t, filepath.Join(s.path("state"), fmt.Sprintf("job.%d", over.id)))
		assert.DirExists(t, filepath.Join(s.path("state"), fmt.Sprintf("job.%d", live.id)))
	})
	t.Run("a second time there is nothing to do", func(t *testing.T) {
		assert.Equal(t, result{0, "", ""}, s.reconcile())
	})
}

func TestReconcileReportsWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	broken := s.job("#DW Teardown action=error severity=Fatal message=disk_is_dead")
	slow := s.job("#DW Teardown action=wait")
	good := s.job("#DW Teardown action=complete")
	for _, j := range []*job{broken, slow, good} {
		j.ok("setup")
	}
	r := s.reconcile("--limit", "2s")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout, fmt.Sprintf("bb%d (job %d is over; was in Setup): left: Teardown failed: DW Directive 0: Reported error: disk_is_dead (disk is dead)", broken.id, broken.id))
	assert.Contains(t, r.stdout, fmt.Sprintf("bb%d (job %d is over; was in Setup): left: Teardown not done when the hook's deadline passed", slow.id, slow.id))
	assert.Contains(t, r.stdout, fmt.Sprintf("bb%d (job %d is over; was in Setup): removed", good.id, good.id))
	assert.ElementsMatch(t, []string{broken.name(), slow.name()}, s.names(), "not deleted before DWS is done")

	slow.complete(dwssim.Teardown)
	broken.complete(dwssim.Teardown)
	r = s.reconcile()
	assert.Equal(t, 0, r.status, r.stdout)
	assert.Empty(t, s.names())
}

// Slurm tries a teardown three times, and then keeps a job that could not start pending.
func TestReconcileEndsAJobThatCannotRunOnceItsTeardownIsDone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, directive, state string
		cancelled              string
	}{
		{"a job that failed before it could start", "#DW Setup action=error severity=Fatal message=disk_is_dead", "PENDING", "JOBID\n"},
		{"a job that waits for its next run", "#DW Setup action=complete", "REQUEUED", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job(tt.directive, "#DW Teardown action=wait")
			s.write("squeue", fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *%%i*) echo '%[1]d|%[1]d|';; *) echo '%[1]d|%[2]s|ada|';; esac\n", j.id, tt.state), 0o755)
			s.write("scancel", "#!/bin/sh\necho \"$@\" >>"+s.path("scancelled")+"\n", 0o755)
			if j.run("setup"); tt.cancelled == "" {
				j.wait("in Setup", entered(dwssim.Setup))
			}
			j.fails("job_teardown", "DEADLINE_MS=500")
			assert.Equal(t, result{0, "", ""}, s.reconcile(), "its Teardown is not done")
			assert.NotNil(t, j.get())
			assert.NoFileExists(t, s.path("scancelled"))

			j.complete(dwssim.Teardown)
			r := s.reconcile()
			assert.Equal(t, 0, r.status, r.stderr)
			assert.Contains(t, r.stdout, fmt.Sprintf("bb%[1]d (job %[1]d does not run; was in Teardown): removed", j.id))
			assert.Nil(t, j.get())
			cancelled, _ := os.ReadFile(s.path("scancelled"))
			assert.Equal(t, strings.ReplaceAll(tt.cancelled, "JOBID", fmt.Sprint(j.id)), string(cancelled))
		})
	}
}

// An empty answer of a slurmctld that lost its state.
func TestReconcileAndCleanupKeepWhatALostSlurmctldDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Setup action=complete")
	j.bring(dwssim.PreRun)
	before := j.get()
	s.write("scontrol", "#!/bin/sh\necho BOOT_TIME = 1000\necho NEXT_JOB_ID = 1\n", 0o755)
	for _, r := range []result{s.reconcile(), s.reconcile("--force"), s.run("cleanup", fmt.Sprint(j.id))} {
		assert.Equal(t, 1, r.status, r.stdout)
		assert.Contains(t, r.stderr, "slurmctld lost its state")
	}
	assert.Equal(t, before, j.get())
	assert.Equal(t, 0, s.run("cleanup", "--force", fmt.Sprint(j.id)).status)
	assert.Nil(t, j.get())
}

func TestReconcileForgetsTheFilesOfJobsThatAreOver(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	for _, id := range []string{"job.7", "job.8"} {
		require.NoError(t, os.Mkdir(filepath.Join(s.path("state"), id), 0o700))
	}
	s.jobs("8|RUNNING|ada|c1")
	assert.Equal(t, result{0, fmt.Sprintf("files of job 7 in %s (job 7 is over): removed\n", s.path("state")), ""}, s.reconcile())
	assert.NoDirExists(t, filepath.Join(s.path("state"), "job.7"))
	assert.DirExists(t, filepath.Join(s.path("state"), "job.8"))
}

// More than one page, and as many as a busy site may have.
func TestReconcileOfManyWorkflows(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	const count = 600
	numbers := make(chan int)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for id := range numbers {
				object := &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": dwssim.Group + "/" + s.c.version(), "kind": "Workflow",
					"metadata": map[string]any{"name": fmt.Sprintf("bb%d", id)},
					"spec": map[string]any{"desiredState": "Proposal", "wlmID": "hpc", "jobID": int64(id), "userID": int64(1), "groupID": int64(1),
						"dwDirectives": []any{}},
				}}
				object.SetLabels(map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": fmt.Sprint(id)})
				_, err := s.workflows().Create(context.WithoutCancel(t.Context()), object, metav1.CreateOptions{})
				assert.NoError(t, err)
			}
		})
	}
	for id := 1; id <= count; id++ {
		numbers <- id
	}
	close(numbers)
	group.Wait()

	s.jobs("1|RUNNING|ada|c1", "600|PENDING|ada|") // one of each page
	r := s.reconcile("--dry-run", "--force")
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Equal(t, count-2, strings.Count(r.stdout, "would be removed\n"))

	begin := time.Now()
	r = s.reconcile("--limit", "10m", "--force")
	t.Logf("%d Workflows ended in %s", count-2, time.Since(begin).Round(time.Second))
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Equal(t, []string{"bb1", "bb600"}, s.names())
}
