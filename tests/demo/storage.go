package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

//go:embed storage.sh
var storageScript string

// showStorage runs a job with storage: the states of the job, as Slurm tells them, and those of
// its Workflow, as Kubernetes does, all seven of them.
func showStorage(ctx context.Context, cluster *testbed.Cluster, jobs *testbed.Jobs) error {
	fmt.Printf("\n  %s submits a job that needs storage:\n\n", user)
	began := time.Now()
	id, err := submit(ctx, cluster, storageScript)
	if err != nil {
		return err
	}
	table := newTimeline(began, id)
	if err := follow(ctx, cluster, jobs, id, table); err != nil {
		return err
	}
	if missing := table.missing(); missing != "" {
		return fmt.Errorf("not seen: %s", missing)
	}
	return showOutput(ctx, cluster, id)
}

// follow puts all that happens into the timeline, until the job is over and its Workflow gone.
func follow(ctx context.Context, cluster *testbed.Cluster, jobs *testbed.Jobs, id uint32, table *timeline) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workflows := make(chan *dwssim.Workflow, 64)
	failed := make(chan error, 1)
	go func() {
		failed <- watchWorkflow(ctx, cluster, fmt.Sprintf("bb%d", id), workflows)
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case w, more := <-workflows:
			if more {
				table.workflow(w)
				continue
			}
			workflows = nil
			table.gone()
		case err := <-failed:
			if err != nil {
				return err
			}
		case <-tick.C:
			if seen := jobs.Get(id); seen != nil {
				table.job(seen)
			}
		case <-ctx.Done():
			return errors.New("it takes too long: look at `scontrol show job " + strconv.Itoa(int(id)) +
				"` and /var/log/slurm/slurmk8s.log in " + cluster.Slurmctld)
		}
		if workflows == nil && table.jobState == "COMPLETED" {
			return nil
		}
		if table.jobState == "CANCELLED" || table.jobState == "FAILED" {
			return fmt.Errorf("the job ended %s: %s", table.jobState, jobs.Get(id)["SystemComment"])
		}
	}
}

// showOutput prints what the job wrote, which must hold its variables.
func showOutput(ctx context.Context, cluster *testbed.Cluster, id uint32) error {
	output, err := cluster.Root(ctx, "cat", fmt.Sprintf("/home/%s/slurm-%d.out", user, id))
	if err != nil {
		return err
	}
	fmt.Printf("\n  The job wrote:\n\n")
	for line := range strings.Lines(output) {
		fmt.Print("    | ", line)
	}
	for _, variable := range []string{fmt.Sprintf("DW_WORKFLOW_NAME=bb%d\n", id), "DW_JOB_scratch=/mnt/"} {
		if !strings.Contains(output, variable) {
			return fmt.Errorf("the job did not see %s", strings.TrimSpace(variable))
		}
	}
	return showNothingLeft(ctx, cluster, id)
}

// showNothingLeft asks for what a job has in Kubernetes: its Workflow, and DWS's Computes.
func showNothingLeft(ctx context.Context, cluster *testbed.Cluster, id uint32) error {
	version := dwssim.DefaultVersions[len(dwssim.DefaultVersions)-1]
	for _, resource := range []schema.GroupVersionResource{dwssim.WorkflowsResource(version), dwssim.ComputesResource(version)} {
		_, err := cluster.Kube.Resource(resource).Namespace(cluster.Namespace).Get(ctx, fmt.Sprintf("bb%d", id), metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("%s bb%d is left", resource.Resource, id)
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	fmt.Printf("\n  Nothing of it is left in Kubernetes.\n\n")
	return nil
}
