package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duty is what is kept for --k8s-register.
type Duty struct{}

// Used tells whether a rule allows anybody a service.
func (Duty) Used(cfg *slurmconf.Config) bool { return len(cfg.Services.Allow) > 0 }

// Rights are those of nodes in each namespace, of which the old Endpoints may be left out,
// and of reconcile on the controller.
func (Duty) Rights(cfg *slurmconf.Config) []duty.Rights {
	rights := []duty.Rights{{Role: "slurmk8s-node-ports", OnNodes: true, Optional: []string{duty.Everything}}}
	for _, namespace := range cfg.Services.Named() {
		rights = append(rights, duty.Rights{Role: "slurmk8s-node", Namespace: namespace, OnNodes: true, Optional: []string{"events", "endpoints"}})
	}
	for _, namespace := range cfg.Services.Searched() {
		rights = append(rights, duty.Rights{Role: "slurmk8s-reconcile", Namespace: namespace})
	}
	return rights
}

// List returns the endpoints, Services and Leases of jobs, in the order in which they are
// removed. A Lease that goes before the rest would leave nothing to find that by.
func (Duty) List(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	var objects []duty.Object
	for _, namespace := range h.Config.Services.Searched() {
		leases, err := h.Kube.Objects(job.Leases, namespace).List(ctx, kube.Selection{Labels: h.Selector(), Trim: kube.Lean})
		if err != nil {
			return objects, err
		}
		l := lister{Host: h, leases: versions(leases)}
		for _, kind := range []struct {
			gvr    schema.GroupVersionResource
			detail func(*unstructured.Unstructured) string
		}{{EndpointSlices, endpointsDetail}, {Services, serviceDetail}, {job.Leases, leaseDetail}} {
			all := leases
			if kind.gvr != job.Leases {
				all, err = h.Kube.Objects(kind.gvr, namespace).List(ctx, kube.Selection{Labels: h.Selector(), Trim: kube.Lean})
			}
			if err == nil && kind.gvr == Services && h.Job != 0 {
				all, err = ofTask(ctx, h, namespace, all)
			}
			if err != nil {
				return objects, err
			}
			for i := range all {
				if kind.gvr == Services && arrayOf(&all[i]) != 0 {
					objects = append(objects, l.shares(&all[i])...)
					continue
				}
				o, ours := duty.FromKubernetes(&all[i], h.Config.Cluster, kind.detail(&all[i]))
				if !ours {
					continue
				}
				o.Allocation, o.Chain, o.Last = true, fmt.Sprintf("%s/%d", all[i].GetNamespace(), o.JobID), kind.gvr == job.Leases
				o.Remove = func(ctx context.Context) error { return l.remove(ctx, kind.gvr, &all[i], o.JobID) }
				objects = append(objects, o)
			}
		}
	}
	slices.SortStableFunc(objects, func(a, b duty.Object) int { return int(int64(a.JobID) - int64(b.JobID)) })
	return objects, nil
}

// ofTask are a job's own Services and those that it shares with its array. services are
// those that have the job's id: an array has one of its tasks' ids.
func ofTask(ctx context.Context, h duty.Host, namespace string, services []unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	own := slices.DeleteFunc(services, func(u unstructured.Unstructured) bool { return arrayOf(&u) != 0 })
	shared, err := api{kube: h.Kube, log: h.Log}.listArrays(ctx, namespace, h.Config.Cluster, h.Job)
	return append(own, shared...), err
}

// shares are what each task of an array has of the Service that they share. One that
// belongs to no task is the array's.
func (l lister) shares(u *unstructured.Unstructured) (objects []duty.Object) {
	tasks := tasksOf(u, l.Config.Cluster)
	if len(tasks) == 0 {
		tasks = []uint32{arrayOf(u)}
	}
	for _, id := range tasks {
		o, ours := duty.FromKubernetes(u, l.Config.Cluster, fmt.Sprintf("%s, shared by array %d", serviceDetail(u), arrayOf(u)))
		if !ours || l.Job != 0 && l.Job != id {
			continue
		}
		o.JobID, o.Allocation, o.Chain = id, true, fmt.Sprintf("%s/%d", u.GetNamespace(), id)
		o.Remove = func(ctx context.Context) error {
			return l.api().leaveListed(ctx, u, l.job(id), func(ctx context.Context) error { return l.stillOver(ctx, u.GetNamespace(), id) })
		}
		objects = append(objects, o)
	}
	return objects
}

// lister removes what it has listed before. A job that was over then may have been requeued
// since: what its new run has written is left alone, and so is what that run found as it
// wants it, which shows in the job's Lease.
type lister struct {
	duty.Host
	leases map[string]string // by name, their versions
}

func versions(objects []unstructured.Unstructured) map[string]string {
	found := map[string]string{}
	for i := range objects {
		found[objects[i].GetName()] = objects[i].GetResourceVersion()
	}
	return found
}

func (l lister) api() api { return api{kube: l.Kube, log: l.Log} }

func (l lister) job(id uint32) job.Job {
	return job.Job{Cluster: l.Config.Cluster, ID: id, Restarts: job.AnyRun}
}

// stillOver is nil if nobody has made or renewed the job's Lease since it was listed.
func (l lister) stillOver(ctx context.Context, namespace string, id uint32) error {
	name := l.job(id).LeaseName()
	lease, err := l.api().look(ctx, job.Leases, namespace, name)
	if err == nil && lease != nil && lease.GetResourceVersion() != l.leases[name] {
		return duty.ErrChanged
	}
	return err
}

// remove deletes an object as it was listed; one that changed since then lives.
func (l lister) remove(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, id uint32) error {
	if err := l.stillOver(ctx, u.GetNamespace(), id); err != nil {
		return err
	}
	err := l.api().remove(ctx, gvr, u)
	if kube.Is(err, kube.Conflict) {
		return duty.ErrChanged
	}
	return err
}

// Kubeconfig is the credential of compute nodes.
func (Duty) Kubeconfig(cfg *slurmconf.Config) string { return cfg.Services.Kubeconfig }

// ListHere returns the jobs that have a record on this node: what its epilogs could not
// do.
func (Duty) ListHere(_ context.Context, h duty.Host) ([]duty.Object, error) {
	records := Records(h.Config.Services.RunDir)
	sweeper := &Sweeper{Kube: h.Kube, Cluster: h.Config.Cluster, Log: h.Log}
	jobs, err := records.Jobs()
	var objects []duty.Object
	for _, j := range jobs {
		// Whatever run of the job made it: the job does not run.
		of := job.Job{Cluster: h.Config.Cluster, ID: j.ID, Restarts: job.AnyRun}
		objects = append(objects, duty.Object{Name: "services that were made on node " + h.Node, JobID: j.ID, Made: j.Made, Allocation: true,
			Remove: func(ctx context.Context) error {
				return sweeper.Node(ctx, records, of, h.Node, h.Config.Services.Named())
			}})
	}
	return objects, err
}

// serviceDetail is "ClusterIP 8888, 9000".
func serviceDetail(u *unstructured.Unstructured) string {
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	var numbers []string
	for _, p := range ports {
		if p, ok := p.(map[string]any); ok {
			numbers = append(numbers, fmt.Sprint(p["port"]))
		}
	}
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "type")
	if address, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP"); address == "None" {
		kind = "headless"
	}
	return kind + " " + strings.Join(numbers, ", ")
}

// endpointsDetail is "10.1.0.1 ready".
func endpointsDetail(u *unstructured.Unstructured) string {
	endpoints, _, _ := unstructured.NestedSlice(u.Object, "endpoints")
	var all []string
	for _, e := range endpoints {
		e, _ := e.(map[string]any)
		addresses, _, _ := unstructured.NestedStringSlice(e, "addresses")
		ready, _, _ := unstructured.NestedBool(e, "conditions", "ready")
		terminating, _, _ := unstructured.NestedBool(e, "conditions", "terminating")
		how := "not ready"
		switch {
		case terminating:
			how = "terminating"
		case ready:
			how = "ready"
		}
		all = append(all, strings.Join(addresses, ", ")+" "+how)
	}
	if len(all) == 0 {
		return "no address"
	}
	return strings.Join(all, "; ")
}

// leaseDetail is "renewed 12s ago".
func leaseDetail(u *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(u.Object, "spec", "renewTime")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "never renewed"
	}
	detail := "renewed " + duty.Age(time.Since(at)) + " ago"
	seconds, bounded, _ := unstructured.NestedInt64(u.Object, "spec", "leaseDurationSeconds")
	if bounded && time.Now().After(at.Add(time.Duration(seconds)*time.Second)) {
		detail += ", run out"
	}
	return detail
}
