package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

// watchWorkflow hands on each change of a Workflow that does not exist yet, and closes the
// channel when it is gone.
func watchWorkflow(ctx context.Context, cluster *testbed.Cluster, name string, changes chan<- *dwssim.Workflow) error {
	version := dwssim.DefaultVersions[len(dwssim.DefaultVersions)-1]
	w, err := cluster.Kube.Resource(dwssim.WorkflowsResource(version)).Namespace(cluster.Namespace).
		Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("watch of workflow %s: %v", name, event.Object)
		}
		if event.Type == watch.Deleted {
			close(changes)
			return nil
		}
		workflow, err := dwssim.FromUnstructured(object)
		if err != nil {
			return err
		}
		changes <- workflow
	}
	return ctx.Err()
}

// timeline prints events as they come: the job's on the left, the Workflow's on the right.
type timeline struct {
	began    time.Time
	bold     func(string) string
	jobState string

	state string // of the Workflow
	since time.Time
	ready []string
}

func newTimeline(began time.Time, id uint32) *timeline {
	t := &timeline{began: began, bold: func(text string) string { return text }}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		t.bold = func(text string) string { return "\033[1m" + text + "\033[0m" }
	}
	fmt.Printf("\n    %8s   %-34s %s\n", "", fmt.Sprintf("Slurm: job %d", id), fmt.Sprintf("Kubernetes: Workflow bb%d", id))
	return t
}

func (t *timeline) print(left, right string) {
	fmt.Printf("    %6.2f s   %s%s %s\n", time.Since(t.began).Seconds(), t.bold(left), strings.Repeat(" ", max(0, 34-len(left))), right)
}

func (t *timeline) job(seen testbed.Job) {
	if seen.State() == t.jobState {
		return
	}
	t.jobState = seen.State()
	t.print(t.jobState, "")
}

func (t *timeline) workflow(w *dwssim.Workflow) {
	if w.Status.State == "" {
		return
	}
	if w.Status.State != t.state {
		t.state, t.since = w.Status.State, time.Now()
	}
	if dwssim.Ready(t.state)(w) && !slices.Contains(t.ready, t.state) {
		t.ready = append(t.ready, t.state)
		t.print("", fmt.Sprintf("%s after %.2f s", t.bold(fmt.Sprintf("%-9s", t.state)), time.Since(t.since).Seconds()))
	}
}

func (t *timeline) gone() { t.print("", "deleted") }

// missing names the states that were not seen.
func (t *timeline) missing() string {
	var missing []string
	for _, state := range dwssim.States {
		if !slices.Contains(t.ready, state) {
			missing = append(missing, state)
		}
	}
	return strings.Join(missing, ", ")
}
