package reconcile

import (
	"context"
	"time"

	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// Duty lists what it keeps for jobs.
type Duty interface {
	// List returns all of it, whatever the state of the jobs.
	List(ctx context.Context) ([]Object, error)
}

// Object is something that is kept for a job: an object in Kubernetes, a claim on a
// node, files of this host.
type Object struct {
	Name  string // "workflow slurm/bb12"
	JobID uint32
	State string // what it is in, for people; "" where it has no states

	// Made is when it was made or last renewed; zero where nothing tells.
	Made time.Time
	// Allocation tells that the job needs it only while it holds nodes, and with Node
	// only while it holds this one, by its name in Slurm. Otherwise the job needs it
	// until it will run no more.
	Allocation bool
	Node       string
	// Finished tells that it is of no use to a job that does not hold nodes.
	Finished bool

	// Chain joins objects that are removed one after another, in the order of the
	// list; "": it is removed independently. Last is left if one before it is.
	Chain string
	Last  bool
	// Remove removes this object as it was listed and no later one of its name. An
	// object that is gone is no error.
	Remove func(context.Context) error

	duty int // its place in Options
}

// needed tells whether a job that Slurm knows needs the object.
func (o Object) needed(job slurm.Job) bool {
	switch {
	case o.Allocation && o.Node != "":
		return job.On(o.Node)
	case o.Allocation, o.Finished:
		return job.HoldsNodes()
	}
	return !job.Over()
}
