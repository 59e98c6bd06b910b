// Command demo shows one job with #DW lines: its Workflow's seven states, driven by
// Slurm's hooks, its output with what DWS gave it, and that nothing is left. It only
// looks; it exits 1 when any of that is missing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

const (
	user  = "alice"
	limit = 3 * time.Minute
)

// Two providers' lines: storage with data copied in and out, and a driver that gives a
// variable before the job starts. delay= is the simulator's, to have something to see.
const script = `#!/bin/bash
#SBATCH --job-name=demo --output=demo-%j.out
#DW jobdw type=xfs capacity=50GiB pool=dws name=scratch
#DW copy_in source=/lus/alice/in destination=$DW_JOB_scratch/in delay=1s
#DW copy_out source=$DW_JOB_scratch/out destination=/lus/alice/out delay=1s
#DW Setup action=complete env=DW_DEMO_POOL:fast
echo "job $SLURM_JOB_ID runs on $SLURMD_NODENAME with"
env | grep ^DW_ | sort
sleep 1
`

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := show(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo: FAILED:", err)
		os.Exit(1)
	}
}

func show(ctx context.Context) error {
	bed, err := testbed.FromEnv()
	if err != nil {
		return err
	}
	changes, err := bed.Kube.Resource(dwssim.WorkflowsResource("v1alpha7")).Namespace(bed.Namespace).
		Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch workflows: %w", err)
	}
	defer changes.Stop()
	jobs := bed.WatchJobs(ctx)

	fmt.Printf("$ cat demo.sh\n%s\n$ sbatch demo.sh                    # as %s, a plain user\n", script, user)
	begin := time.Now()
	answer, err := bed.As(ctx, user, script, "sbatch")
	if err != nil {
		return fmt.Errorf("sbatch: %w", err)
	}
	fmt.Print(answer.Stdout, answer.Stderr)
	var id uint32
	if _, err := fmt.Sscanf(answer.Stdout, "Submitted batch job %d", &id); err != nil {
		return errors.New("sbatch did not submit the job")
	}
	if err := timeline(ctx, changes, jobs, id, begin); err != nil {
		return err
	}
	if _, err := jobs.Await(ctx, id, "completed", func(j testbed.Job) bool { return j.State() == "COMPLETED" }); err != nil {
		return err
	}
	output, err := bed.As(ctx, user, "", "cat", fmt.Sprintf("/home/%s/demo-%d.out", user, id))
	if err != nil {
		return fmt.Errorf("the job's output: %w", err)
	}
	fmt.Printf("\n$ cat demo-%d.out\n%s", id, output.Stdout)
	for _, variable := range []string{fmt.Sprintf("DW_WORKFLOW_NAME=bb%d", id), "DW_WORKFLOW_NAMESPACE=" + bed.Namespace, "DW_DEMO_POOL=fast"} {
		if !strings.Contains("\n"+output.Stdout, "\n"+variable+"\n") {
			return fmt.Errorf("the job's output lacks %s", variable)
		}
	}
	left, err := bed.Kube.Resource(dwssim.WorkflowsResource("v1alpha7")).Namespace(bed.Namespace).
		List(ctx, metav1.ListOptions{LabelSelector: fmt.Sprintf("slurmk8s.io/job-id=%d", id)})
	if err != nil {
		return fmt.Errorf("list workflows: %w", err)
	}
	if len(left.Items) > 0 {
		return fmt.Errorf("%d workflows of the job are left", len(left.Items))
	}
	fmt.Println("\nNo Workflow of the job is left. No kubectl was run: each state was one of Slurm's hooks.")
	return nil
}

// hooks are Slurm's hooks that ask for each state.
var hooks = map[string]string{
	"Proposal": "slurm_bb_setup", "Setup": "slurm_bb_setup", "DataIn": "slurm_bb_data_in",
	"PreRun": "slurm_bb_pre_run", "PostRun": "slurm_bb_post_run", "DataOut": "slurm_bb_data_out",
	"Teardown": "slurm_bb_job_teardown",
}

// timeline prints each state as it is entered and done, until the Workflow is deleted,
// and fails unless all seven were done, in order.
func timeline(ctx context.Context, changes watch.Interface, jobs *testbed.Jobs, id uint32, begin time.Time) error {
	fmt.Printf("\n%7s  %-9s %-23s %8s  %s\n", "time", "Workflow", "asked for by", "took", "job in Slurm")
	var done []string
	entered, state := begin, ""
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v only these states were done: %s", limit, strings.Join(done, ", "))
		case event, open := <-changes.ResultChan():
			u, ok := event.Object.(*unstructured.Unstructured)
			if !open || !ok {
				return errors.New("the watch on Workflows ended")
			}
			if u.GetName() != fmt.Sprintf("bb%d", id) {
				continue
			}
			w, err := dwssim.FromUnstructured(u)
			if err != nil {
				return err
			}
			if event.Type == watch.Deleted {
				fmt.Printf("%6.1fs  deleted\n", time.Since(begin).Seconds())
				if strings.Join(done, " ") != strings.Join(dwssim.States, " ") {
					return fmt.Errorf("the states were %q, not all seven in order", done)
				}
				return nil
			}
			if w.Spec.DesiredState != state {
				state, entered = w.Spec.DesiredState, time.Now()
			}
			ready := w.Status.State == state && w.Status.Ready
			if ready && (len(done) == 0 || done[len(done)-1] != state) {
				done = append(done, state)
				fmt.Printf("%6.1fs  %-9s %-23s %6.0fms  %s\n", time.Since(begin).Seconds(), state, hooks[state],
					float64(time.Since(entered).Milliseconds()), slurmState(jobs.Get(id)))
			}
		}
	}
}

func slurmState(job testbed.Job) string {
	if job == nil {
		return "-"
	}
	if job.State() == "PENDING" {
		return "PENDING (" + job["Reason"] + ")"
	}
	return job.State()
}
