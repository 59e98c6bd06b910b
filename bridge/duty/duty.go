// Package duty says what a duty of slurmk8s is: something that it keeps for jobs, and
// that has to go when they are over. reconcile, cleanup, status, doctor and setup are loops
// over the duties, which package all lists.
package duty

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duty is one of them. It has no state of its own.
type Duty interface {
	// Used tells whether slurmk8s.toml asks for it.
	Used(*slurmconf.Config) bool
	// List returns what it keeps for jobs in any state, on all nodes, as the controller's
	// credential sees it. What it saw before an error counts.
	List(context.Context, Host) ([]Object, error)
	// Rights are what its credentials must be allowed in Kubernetes.
	Rights(*slurmconf.Config) []Rights
}

// OnNode is a duty that each compute node cleans up after itself as well, with a
// credential of its own.
type OnNode interface {
	Duty
	// Kubeconfig is the path of that credential.
	Kubeconfig(*slurmconf.Config) string
	// ListHere returns what the node keeps for jobs.
	ListHere(context.Context, Host) ([]Object, error)
}

// Tended is a duty that has more to do on the controller from time to time than to remove
// what is left.
type Tended interface {
	Duty
	Tend(context.Context, Host) error
}

// Noted is a duty with something to tell that belongs to no job.
type Noted interface {
	Duty
	// Notes are lines for an administrator, as the controller's credential sees it.
	Notes(context.Context, Host) ([]string, error)
}

// Host is where a duty looks, and what for.
type Host struct {
	Config *slurmconf.Config
	Kube   *kube.Client
	Node   string // this node, by its name in Slurm
	Job    uint32 // only what is kept for this job; 0: for all
	Force  bool   // what is kept for its own sake, though its job is over, is removed too
	Log    *logrus.Entry
}

// Slurm are the commands of this host's Slurm.
func (h Host) Slurm() slurm.Commands {
	return slurm.Commands{Dir: h.Config.SlurmBinDir, Conf: h.Config.SlurmConf}
}

// Selector selects the objects in Kubernetes of the jobs that are asked for.
func (h Host) Selector() string {
	if h.Job != 0 {
		return job.Job{Cluster: h.Config.Cluster, ID: h.Job}.Selector()
	}
	return job.ClusterSelector(h.Config.Cluster)
}

// Errors of List that are no failure where there are other duties.
var (
	// ErrAbsent is a duty whose API Kubernetes does not serve.
	ErrAbsent = errors.New("not installed in Kubernetes")
	// ErrHidden is what the credential may not see.
	ErrHidden = errors.New("this credential may not see it")
)

// ErrChanged is what Remove returns for an object that it left alone since it, or its job's
// Lease, has changed since it was listed. That is no failure.
var ErrChanged = errors.New("it has changed since it was listed")

// Object is something that is kept for a job: an object in Kubernetes, a hold on a
// node, files of this host.
type Object struct {
	Name  string // "workflow slurm/bb12"
	JobID uint32
	User  string // of the job; "" where nothing tells
	// Made is when it was made or last renewed; zero where nothing tells.
	Made time.Time

	// State is the one that it is removed from, "PreRun"; "" where it has none.
	State string
	// Detail is all that people want to know: "PreRun, ready". Wrong is an error that it
	// has.
	Detail, Wrong string

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
	// object that is gone is no error, and one that it left alone is ErrChanged.
	Remove func(context.Context) error
}

// Needed tells whether a job that Slurm knows needs the object.
func (o Object) Needed(job slurm.Job) bool {
	switch {
	case o.Allocation && o.Node != "":
		return job.On(o.Node)
	case o.Allocation, o.Finished:
		return job.HoldsNodes()
	}
	return !job.Over()
}

// FromKubernetes is an object of a job of this cluster, without what its duty knows. ours
// is false for an object of somebody else.
func FromKubernetes(u *unstructured.Unstructured, cluster, detail string) (o Object, ours bool) {
	of, ours := job.Of(u, cluster)
	if u.GetDeletionTimestamp() != nil {
		detail += ", being deleted"
	}
	return Object{
		Name:  strings.ToLower(u.GetKind()) + " " + u.GetNamespace() + "/" + u.GetName(),
		JobID: of.ID, User: of.User, Made: u.GetCreationTimestamp().Time, Detail: detail,
	}, ours
}

// Age is a duration for a person, as kubectl writes it.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
