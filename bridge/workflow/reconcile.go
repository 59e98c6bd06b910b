package workflow

import (
	"context"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
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

// List returns this cluster's Workflows in all states. One whose labels do not
// hold a job id is not the bridge's and left out.
func (d *Driver) List(ctx context.Context) ([]Left, error) {
	items, err := d.workflows.List(ctx, kube.Selection{
		Labels: labels.Set{job.LabelManagedBy: job.ManagedBy, job.LabelCluster: d.cfg.Cluster}.String(),
	})
	if err != nil {
		return nil, err
	}
	var all []Left
	for i := range items {
		o := parse(&items[i])
		id, err := strconv.ParseUint(o.Labels[job.LabelJobID], 10, 32)
		if err != nil || o.Name != (&Job{Job: job.Job{ID: uint32(id)}}).Name() {
			d.log.Warnf("%s has the labels of slurmk8s but not the name of a job: not changed", o)
			continue
		}
		all = append(all, Left{
			JobID: uint32(id), State: string(o.Desired), Made: items[i].GetCreationTimestamp().Time,
			TornDown: o.reached(Teardown), CannotRun: o.failedBeforeRun(d.cfg.Workflows.TransientGrace.Std()), o: o,
		})
	}
	return all, nil
}

// Dispose tears a Workflow down and deletes it.
func (d *Driver) Dispose(ctx context.Context, l Left) error {
	err := d.dispose(ctx, l.o, false)
	d.disposed(ctx, l, err)
	return err
}
