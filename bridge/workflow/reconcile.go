package workflow

import (
	"context"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Left is a Workflow of this cluster.
type Left struct {
	JobID uint32
	State string // what it is asked to be in
	Made  time.Time
	// TornDown tells that DWS is done with its Teardown.
	TornDown bool
	// CannotRun tells that a driver failed for good before the job could start.
	CannotRun bool

	o *object
}

// Name is "workflow NAMESPACE/NAME".
func (l Left) Name() string { return l.o.String() }

// pageSize bounds one answer to a list; a cluster may have thousands of jobs.
const pageSize = 500

// List returns this cluster's Workflows in all states. One whose labels do not
// hold a job id is not the bridge's and left out.
func (d *Driver) List(ctx context.Context) ([]Left, error) {
	options := metav1.ListOptions{
		Limit:         pageSize,
		LabelSelector: labels.Set{LabelManagedBy: ManagedBy, LabelCluster: d.cfg.Cluster}.String(),
	}
	var all []Left
	for {
		var page *unstructured.UnstructuredList
		err := d.kube.Do(ctx, "list workflows in "+d.cfg.Workflows.Namespace, func(ctx context.Context) (err error) {
			page, err = d.workflows.List(ctx, options)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			o := parse(&page.Items[i])
			id, err := strconv.ParseUint(o.Labels[LabelJobID], 10, 32)
			if err != nil || o.Name != (&Job{ID: uint32(id)}).Name() {
				d.log.Warnf("%s has our labels but not the name of its job: left alone", o)
				continue
			}
			all = append(all, Left{
				JobID: uint32(id), State: string(o.Desired), Made: page.Items[i].GetCreationTimestamp().Time,
				TornDown: o.reached(Teardown), CannotRun: o.failedBeforeRun(d.cfg.Workflows.TransientGrace.Std()), o: o,
			})
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// Dispose tears a Workflow down and deletes it.
func (d *Driver) Dispose(ctx context.Context, l Left) error {
	err := d.dispose(ctx, l.o, false)
	d.disposed(ctx, l, err)
	return err
}
