package service

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// removeMine deletes an object by name if it is of this step.
func (r *Registrar) removeMine(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	return r.removeIf(ctx, gvr, namespace, name, func(c Claim) bool { return sameRun(c.Job, r.Job) && c.Step == r.Step })
}

// removeStale deletes an object by name if it is of another job of this cluster.
func (r *Registrar) removeStale(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	err := r.removeIf(ctx, gvr, namespace, name, func(c Claim) bool { return !sameRun(c.Job, r.Job) })
	if kube.Is(err, kube.Denied) {
		return nil // a site without Endpoints gives no right on them
	}
	return err
}

func (r *Registrar) removeIf(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, whose func(Claim) bool) error {
	return whileConflicts(ctx, func() error {
		found, err := r.api().get(ctx, gvr, namespace, name)
		if err != nil || found == nil {
			return err
		}
		if claim, ours := claimOf(found, r.Job.Cluster); !ours || !whose(claim) {
			return nil
		}
		return r.api().remove(ctx, gvr, found)
	})
}

// releaseLease deletes a job's Lease once nothing else of the job is in the
// namespace. A step that registers meanwhile renews it; a moment later its Service
// is there, which keeps it.
func (a api) releaseLease(ctx context.Context, namespace string, of job.Job) error {
	return whileConflicts(ctx, func() error { return a.releaseLeaseOnce(ctx, namespace, of) })
}

// contended is how long to wait after a write that another one came before. All tasks of an
// array write one Service: each write lets one of them through, so that long pauses only
// leave it idle.
func contended() kube.Pauses { return kube.Pauses{Cap: 500 * time.Millisecond} }

// whileConflicts does again what somebody else's write came between.
func whileConflicts(ctx context.Context, do func() error) error {
	pauses := contended()
	for {
		err := do()
		if !kube.Is(err, kube.Conflict) || pauses.Wait(ctx) != nil {
			return err
		}
	}
}

// notShared leaves out of a job's Services that of the array whose id the job has.
var notShared = map[schema.GroupVersionResource]string{Services: ",!" + LabelArray}

func (a api) releaseLeaseOnce(ctx context.Context, namespace string, of job.Job) error {
	lease, err := job.GetLease(ctx, a.kube, namespace, of)
	if err != nil || lease == nil {
		return err
	}
	if found, ours := job.Of(lease, of.Cluster); !ours || found.ID != of.ID || found.Restarts > of.Restarts {
		return nil
	}
	for _, gvr := range []schema.GroupVersionResource{Services, EndpointSlices} {
		left, err := a.list(ctx, gvr, namespace, of.Selector()+notShared[gvr])
		if err != nil || len(left) > 0 {
			return err
		}
	}
	return a.remove(ctx, job.Leases, lease)
}

// Sweeper removes what jobs left behind, from outside their steps. It looks for no
// Endpoints: the API server deletes them with the Service of their name.
type Sweeper struct {
	Kube    *kube.Client
	Cluster string
	Log     *logrus.Entry
}

func (s *Sweeper) api() api { return api{kube: s.Kube, log: s.Log} }

// Node removes what a node has recorded of a job that is over there, and the record last.
// If the record does not say where, otherwise are the namespaces to look in.
func (s *Sweeper) Node(ctx context.Context, records Records, of job.Job, node string, otherwise []string) error {
	namespaces, err := records.Namespaces(of.ID)
	if err != nil || len(namespaces) == 0 { // not readable
		namespaces = otherwise
	}
	var failed []error
	for _, namespace := range namespaces {
		failed = append(failed, s.Job(ctx, namespace, of, node))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return records.Forget(ctx, of.ID)
}

// Job removes what is left of a job on one node in a namespace: its endpoints, the
// Services that no other node serves, and its part in those of its array. Runs of the job
// after of.Restarts are left alone.
func (s *Sweeper) Job(ctx context.Context, namespace string, of job.Job, node string) error {
	return whileConflicts(ctx, func() error { return s.jobOnce(ctx, namespace, of, node) })
}

func (s *Sweeper) jobOnce(ctx context.Context, namespace string, of job.Job, node string) error {
	served := map[string]bool{} // by other nodes
	endpoints, err := s.api().list(ctx, EndpointSlices, namespace, of.Selector())
	if err != nil {
		return err
	}
	var failed []error
	remove := func(gvr schema.GroupVersionResource, u *unstructured.Unstructured) {
		if found, ours := job.Of(u, s.Cluster); ours && found.Restarts <= of.Restarts {
			failed = append(failed, s.api().remove(ctx, gvr, u))
		}
	}
	for i := range endpoints {
		if endpoints[i].GetLabels()[LabelNode] != nodeLabel(node) {
			served[endpoints[i].GetLabels()[labelServiceName]] = true
			continue
		}
		remove(EndpointSlices, &endpoints[i])
	}
	shared, err := s.api().listArrays(ctx, namespace, s.Cluster, of.ID)
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	for i := range shared {
		if !served[shared[i].GetName()] {
			failed = append(failed, s.api().leave(ctx, &shared[i], of))
		}
	}
	services, err := s.api().list(ctx, Services, namespace, of.Selector()+notShared[Services])
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	for i := range services {
		u := &services[i]
		if served[u.GetName()] || hasSelector(u) && u.GetAnnotations()[AnnotationNode] != node {
			continue
		}
		remove(Services, u)
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return s.api().releaseLease(ctx, namespace, of)
}

func hasSelector(u *unstructured.Unstructured) bool {
	selector, _, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	return len(selector) > 0
}
