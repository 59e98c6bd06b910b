package service

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
)

// With host=array the tasks of an array share one Service. It has the array's id as its
// job, and one ownerReference for each task that has joined: to that task's Lease. A task
// joins before it publishes its endpoints and leaves after it has removed them; the last
// one to leave deletes the Service. Each of these is a write of the version that was read,
// so that no task can delete the Service while another one joins. If nobody does it,
// Kubernetes deletes the Service after the last Lease.

// LabelArray is the id of the array whose tasks share a Service, on it and its EndpointSlices.
const LabelArray = "slurmk8s.io/array-id"

// arrayOf is the array whose tasks share the object; 0: it is of one job.
func arrayOf(u *unstructured.Unstructured) uint32 {
	id, _ := strconv.ParseUint(u.GetLabels()[LabelArray], 10, 32)
	return uint32(id)
}

// ofArray marks an object as shared by the tasks of the maker's array.
func (m maker) ofArray(s Spec, labels map[string]any) {
	if s.Array {
		labels[LabelArray] = strconv.FormatUint(uint64(m.array), 10)
	}
}

// sharer is the job as whose a Service is made: an array has no run of its own.
func (m maker) sharer(s Spec) maker {
	if s.Array {
		m.job.ID, m.job.Restarts, m.job.SubmitTime = m.array, job.AnyRun, ""
	}
	return m
}

// taskHost is the DNS name of a task below the headless Service, as StatefulSets name
// pods; empty if it is too long.
func (m maker) taskHost(s Spec) string {
	if name := fmt.Sprintf("%s-%d", s.Name, m.task); isLabel(name) {
		return name
	}
	return ""
}

// tasksOf are the jobs whose Leases own a shared Service.
func tasksOf(u *unstructured.Unstructured, cluster string) []uint32 {
	var ids []uint32
	for _, owner := range u.GetOwnerReferences() {
		number, ok := strings.CutPrefix(owner.Name, job.Job{Cluster: cluster}.LeasePrefix())
		id, err := strconv.ParseUint(number, 10, 32)
		if ok && err == nil && owner.Kind == "Lease" {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

// without are the owners of a shared Service other than one job.
func without(u *unstructured.Unstructured, of job.Job) []metav1.OwnerReference {
	return slices.DeleteFunc(u.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.Kind == "Lease" && o.Name == of.LeaseName() })
}

// judgeArray is judge of a Service that the tasks of an array share. The name is free when
// all of them are over.
func (r *Registrar) judgeArray(ctx context.Context, s Spec, found *unstructured.Unstructured, claim Claim) (plan, error) {
	p := plan{found: found, holder: claim}
	same := claim.Array == r.Array && claim.UID == r.Job.UID
	if same && claim.Spec == s.String() {
		p.shared = true
		return p, nil
	}
	for _, id := range tasksOf(found, r.Job.Cluster) {
		task := Claim{Job: job.Job{Cluster: r.Job.Cluster, ID: id, UID: claim.UID}}
		lease, err := job.GetLease(ctx, r.Kube, s.Namespace, task.Job)
		if err != nil {
			return plan{}, err
		}
		if lease != nil {
			if of, ours := job.Of(lease, r.Job.Cluster); ours {
				task.Job = of
			}
			_, task.Renewed = job.Renewed(lease, task.Job, time.Now())
		}
		alive, err := r.Alive(ctx, task)
		if err != nil {
			return plan{}, fmt.Errorf("%s belongs to job %d, and it is unknown whether that job has ended: %w", s.Object(), id, err)
		}
		if alive {
			task.Array = claim.Array
			return plan{}, &ConflictError{Object: s.Object(), Claim: &task, Same: same}
		}
	}
	return p, nil
}

// join is the Service that the array has, with this task among its owners.
func (r *Registrar) join(found, wanted *unstructured.Unstructured) *unstructured.Unstructured {
	wanted.SetOwnerReferences(append(without(found, r.Job), wanted.GetOwnerReferences()...))
	return adopt(found, wanted)
}

// leave takes a job, up to its given run, out of the owners of a shared Service, and
// deletes the Service if no owner is left.
func (a api) leave(ctx context.Context, found *unstructured.Unstructured, of job.Job) error {
	if of.Restarts != job.AnyRun {
		lease, err := job.GetLease(ctx, a.kube, found.GetNamespace(), of)
		if err != nil {
			return err
		}
		if lease != nil {
			if now, ours := job.Of(lease, of.Cluster); ours && now.Restarts > of.Restarts {
				return nil // the job was requeued and has joined again, or is about to
			}
		}
	}
	others := without(found, of)
	switch {
	case len(others) == 0:
		return a.remove(ctx, Services, found)
	case len(others) == len(found.GetOwnerReferences()) || found.GetDeletionTimestamp() != nil:
		return nil
	}
	left := found.DeepCopy()
	left.SetOwnerReferences(others)
	_, err := a.update(ctx, Services, left, "left")
	return err
}

// leaveListed is leave of a Service that was listed a while ago; another one that has its
// name by now is left alone. Each time before it writes, it asks whether the job is still over.
func (a api) leaveListed(ctx context.Context, listed *unstructured.Unstructured, of job.Job, stillOver func(context.Context) error) error {
	found := listed
	return whileConflicts(ctx, func() error {
		if found == nil {
			var err error
			if found, err = a.look(ctx, Services, listed.GetNamespace(), listed.GetName()); err != nil || found == nil || found.GetUID() != listed.GetUID() {
				return err
			}
		}
		if err := stillOver(ctx); err != nil {
			return err
		}
		err := a.leave(ctx, found, of)
		found = nil
		return err
	})
}

// listArrays lists the Services that a job shares with its array.
func (a api) listArrays(ctx context.Context, namespace, cluster string, id uint32) ([]unstructured.Unstructured, error) {
	found, err := a.list(ctx, Services, namespace, job.ClusterSelector(cluster)+","+LabelArray)
	return slices.DeleteFunc(found, func(u unstructured.Unstructured) bool { return !slices.Contains(tasksOf(&u, cluster), id) }), err
}
