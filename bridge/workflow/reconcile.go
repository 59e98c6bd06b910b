package workflow

import (
	"context"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Left is a Workflow of this cluster.
type Left struct {
	JobID uint32
	State string // what it is asked to be in
	o     *object
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
			all = append(all, Left{JobID: uint32(id), State: string(o.Desired), o: o})
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// atOnce is how many Workflows are torn down at the same time.
const atOnce = 16

// Dispose tears Workflows down and deletes them, each within limit, and returns
// an error, or nil, for each.
func (d *Driver) Dispose(ctx context.Context, left []Left, limit time.Duration) []error {
	results := make([]error, len(left))
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, l := range left {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			results[i] = safely.Do(func() error { return d.dispose(ctx, l.o, false) })
			d.disposed(ctx, l, results[i])
		})
	}
	group.Wait()
	return results
}
