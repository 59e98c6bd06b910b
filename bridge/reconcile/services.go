package reconcile

import (
	"context"
	"fmt"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
)

// Services is the duty of --k8s-register, for all nodes.
type Services struct {
	Sweeper    *service.Sweeper
	Namespaces []string // "" is all
}

// List returns the objects of all jobs, in the order in which they are removed. A Lease
// that goes before the rest would leave nothing to find that by.
func (s Services) List(ctx context.Context) ([]Object, error) {
	var objects []Object
	for _, namespace := range s.Namespaces {
		all, err := s.Sweeper.List(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			objects = append(objects, Object{Name: l.Object(), JobID: l.ID, Made: l.Made(), Allocation: true,
				Chain: fmt.Sprintf("%s/%d", l.Namespace(), l.ID), Last: l.IsLease(),
				Remove: func(ctx context.Context) error { return s.Sweeper.Remove(ctx, l) }})
		}
	}
	return objects, nil
}

// NodeServices is the same duty on one node: what its epilogs could not do.
type NodeServices struct {
	Sweeper    *service.Sweeper
	Namespaces []string
	Records    service.Records
	Node       string // by its name in Slurm
}

// List returns the jobs that have a record on this node.
func (s NodeServices) List(context.Context) ([]Object, error) {
	jobs, err := s.Records.Jobs()
	var objects []Object
	for _, j := range jobs {
		objects = append(objects, Object{Name: "services that were made on node " + s.Node, JobID: j.ID, Made: j.Made, Allocation: true,
			Remove: func(ctx context.Context) error { return s.sweep(ctx, j.ID) }})
	}
	return objects, err
}

func (s NodeServices) sweep(ctx context.Context, id uint32) error {
	// Whatever run of the job made it: the job does not run.
	of := job.Job{Cluster: s.Sweeper.Cluster, ID: id, Restarts: job.AnyRun}
	return s.Sweeper.Node(ctx, s.Records, of, s.Node, s.Namespaces)
}
