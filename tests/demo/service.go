package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

//go:embed service.sh
var serviceScript string

const serviceNamespace, serviceName = "slurm-jobs", "notebook"

// showService runs a job that is a Service while it runs, and has a pod on the other node
// fetch a page from it.
func showService(ctx context.Context, cluster *testbed.Cluster, jobs *testbed.Jobs) error {
	fmt.Printf("  %s submits a job that serves:\n\n", user)
	id, err := submit(ctx, cluster, serviceScript)
	if err != nil {
		return err
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("    %5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	say("job %d submitted", id)
	node := ""
	err = until(ctx, func() (bool, error) {
		job := jobs.Get(id)
		if job.State() == "FAILED" || job.State() == "CANCELLED" {
			return false, fmt.Errorf("the job ended %s: look at /home/%s/slurm-%d.out", job.State(), user, id)
		}
		node = job["BatchHost"]
		return job.State() == "RUNNING" && node != "", nil
	})
	if err != nil {
		return err
	}
	say("it runs on %s", node)
	for _, wanted := range []bool{false, true} {
		err := until(ctx, func() (bool, error) {
			there, ready, err := endpoint(ctx, cluster, id)
			return there && ready == wanted, err
		})
		if err != nil {
			return err
		}
		say("Service %s.%s.svc: %s", serviceName, serviceNamespace, map[bool]string{false: "there, not ready: its port does not answer yet", true: "ready"}[wanted])
	}

	from := ""
	for _, n := range cluster.Nodes {
		if n.Name != node {
			from = n.Name
		}
	}
	page := ""
	err = until(ctx, func() (bool, error) { // kube-proxy needs a moment
		var visiting error
		page, visiting = cluster.Visit(ctx, from, "http://"+serviceName+"."+serviceNamespace+".svc/")
		return visiting == nil, nil
	})
	if err != nil {
		return err
	}
	say("a pod on %s fetches a page: %q", from, strings.TrimSpace(page))
	if want := fmt.Sprintf("hello from job %d", id); !strings.HasPrefix(page, want) {
		return fmt.Errorf("the page is %q, not %q", page, want)
	}
	if _, err := cluster.Root(ctx, "touch", "/home/"+user+"/visited"); err != nil {
		return err
	}
	if err := until(ctx, func() (bool, error) { return jobs.Get(id).State() == "COMPLETED", nil }); err != nil {
		return err
	}
	say("the job is over")
	return until(ctx, func() (bool, error) {
		for _, resource := range []struct {
			name string
			left func() (*unstructured.UnstructuredList, error)
		}{
			{"Service", func() (*unstructured.UnstructuredList, error) {
				return cluster.Kube.Resource(service.Services).Namespace(serviceNamespace).List(ctx, ofJob(id))
			}},
			{"EndpointSlice", func() (*unstructured.UnstructuredList, error) {
				return cluster.Kube.Resource(service.EndpointSlices).Namespace(serviceNamespace).List(ctx, ofJob(id))
			}},
			{"Lease", func() (*unstructured.UnstructuredList, error) {
				return cluster.Kube.Resource(job.Leases).Namespace(serviceNamespace).List(ctx, ofJob(id))
			}},
		} {
			left, err := resource.left()
			if err != nil || len(left.Items) > 0 {
				return false, err
			}
		}
		say("and nothing of it is left in Kubernetes\n")
		return true, nil
	})
}

func ofJob(id uint32) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: fmt.Sprintf("%s=%d", job.LabelJobID, id)}
}

// endpoint tells whether the job's endpoint is there, and ready.
func endpoint(ctx context.Context, cluster *testbed.Cluster, id uint32) (there, ready bool, err error) {
	slices, err := cluster.Kube.Resource(service.EndpointSlices).Namespace(serviceNamespace).List(ctx, ofJob(id))
	if err != nil {
		return false, false, err
	}
	for _, slice := range slices.Items {
		all, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, e := range all {
			there = true
			ready, _, _ = unstructured.NestedBool(e.(map[string]any), "conditions", "ready")
		}
	}
	return there, ready, nil
}

// until asks until it is so, or the demo's time is over.
func until(ctx context.Context, so func() (bool, error)) error {
	for {
		yes, err := so()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("it takes too long")
		case <-time.After(100 * time.Millisecond):
		}
	}
}
