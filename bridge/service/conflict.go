package service

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// ConflictError is a name that is somebody else's.
type ConflictError struct {
	Object string // "service ns/name"
	// Claim is the job that has it; nil: this cluster's bridge did not make it.
	Claim *Claim
	Same  bool // it is another step of the same job
	// InArray: the one who wants the name is a task of an array, and so may the one be who
	// has it.
	InArray bool
	// Cluster is the other cluster whose bridge made it; empty: none did.
	Cluster string
}

// Code is the hook's outcome: another name is the user's to choose.
func (e *ConflictError) Code() wire.Code { return wire.Refused }

func (e *ConflictError) Error() string {
	switch {
	case e.Cluster != "":
		return fmt.Sprintf("%s belongs to Slurm %s, which uses the same Kubernetes cluster: choose another name", e.Object, e.Cluster)
	case e.Claim == nil:
		return fmt.Sprintf("%s exists and was not made by slurmk8s: choose another name", e.Object)
	case e.Same && e.Claim.Array != 0:
		return fmt.Sprintf("%s: task job %d of this array registered it with other options", e.Object, e.Claim.ID)
	case e.Same:
		return fmt.Sprintf("%s: step %s of this job registered it with other options", e.Object, e.Claim.Step)
	}
	advice := "choose another name or wait until it ends"
	if e.InArray {
		advice = "in an array write %a, the task's index, into the name, or share one service with host=array"
	}
	return fmt.Sprintf("%s belongs to job %d, which is running: %s", e.Object, e.Claim.ID, advice)
}

// foreign is the error for an object that is not of this cluster's bridge.
func foreign(object string, u *unstructured.Unstructured, cluster string) error {
	e := &ConflictError{Object: object}
	set := u.GetLabels()
	if other := set[job.LabelCluster]; set[job.LabelManagedBy] == job.ManagedBy && other != cluster && isLabel(other) {
		e.Cluster = "cluster " + other
	}
	return e
}

// Claim is what an object of the bridge says of its maker.
type Claim struct {
	job.Job
	Step, Node string
	Spec       string
	Array      uint32 // whose tasks share it; 0: it is of one job
	// Renewed tells that the job's Lease has not run out.
	Renewed bool
}

func claimOf(u *unstructured.Unstructured, cluster string) (Claim, bool) {
	job, ours := job.Of(u, cluster)
	notes := u.GetAnnotations()
	return Claim{Job: job, Step: notes[AnnotationStep], Node: notes[AnnotationNode], Spec: notes[AnnotationSpec], Array: arrayOf(u)}, ours
}

// sameRun tells whether two jobs are one, and not another with the same id.
func sameRun(a, b job.Job) bool {
	return a.Cluster == b.Cluster && a.ID == b.ID && a.UID == b.UID && a.Restarts == b.Restarts
}

// plan is what is to be done about the name of a service.
type plan struct {
	found  *unstructured.Unstructured // the Service that is there; nil: to be made
	mine   bool                       // it is this step's already
	shared bool                       // another step of the job, or task of its array, has the same
	here   bool                       // that step serves on this node
	holder Claim
}

// judge looks a name up and decides: free, this step's already, another step's
// with the same wish, left by a job that is over, or taken (a *ConflictError).
// Nothing is changed.
func (r *Registrar) judge(ctx context.Context, s Spec) (plan, error) {
	found, err := r.api().get(ctx, Services, s.Namespace, s.Name)
	if err != nil {
		return plan{}, err
	}
	if found == nil {
		return plan{}, r.foreignEndpoints(ctx, s)
	}
	claim, ours := claimOf(found, r.Job.Cluster)
	if !ours {
		return plan{}, foreign(s.Object(), found, r.Job.Cluster)
	}
	if claim.Array != 0 {
		return r.judgeArray(ctx, s, found, claim)
	}
	p := plan{found: found, holder: claim}
	same := sameRun(claim.Job, r.Job)
	if same && claim.Step == r.Step && (claim.Node == r.Node || s.AllNodes) {
		p.mine = claim.Spec == s.String()
		return p, nil
	}
	if claim.ID == r.Job.ID && claim.UID == r.Job.UID && claim.Restarts < r.Job.Restarts {
		return p, nil // of this job before it was requeued
	}
	if same && claim.Step == r.Step {
		return p, nil // so too, on a node that died: a step has one first node, and Slurm does not always tell runs apart
	}
	lease, err := job.GetLease(ctx, r.Kube, s.Namespace, claim.Job)
	if err != nil {
		return plan{}, err
	}
	_, p.holder.Renewed = job.Renewed(lease, claim.Job, time.Now())
	alive, err := r.Alive(ctx, p.holder)
	switch {
	case err != nil:
		return plan{}, fmt.Errorf("%s belongs to job %d, and it is unknown whether that job has ended: %w", s.Object(), claim.ID, err)
	case !alive:
		return p, nil
	case same && claim.Spec == s.String():
		p.shared = true
		return p, nil
	}
	return plan{}, &ConflictError{Object: s.Object(), Claim: &p.holder, Same: same, InArray: r.Array != 0 && claim.UID == r.Job.UID}
}

// foreignEndpoints is an error if somebody has Endpoints of the name without a
// Service: Kubernetes deletes them together with the Service that we would make.
func (r *Registrar) foreignEndpoints(ctx context.Context, s Spec) error {
	found, err := r.api().get(ctx, Endpoints, s.Namespace, s.Name)
	if kube.Is(err, kube.Denied) {
		return nil // a site without Endpoints gives no right on them
	}
	if err != nil || found == nil {
		return err
	}
	if _, ours := job.Of(found, r.Job.Cluster); !ours {
		return foreign(object(Endpoints, s.Namespace, s.Name), found, r.Job.Cluster)
	}
	return nil
}
