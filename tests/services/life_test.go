package services

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
)

func TestTheLifeOfAService(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	specs := w.specs("jupyter:80:8888")

	regs, err := r.Register(t.Context(), specs)
	require.NoError(t, err)
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/jupyter", "endpointslices/jupyter.alps.12.c1"}, w.names())
	assert.Equal(t, "10.1.0.1 ready=false serving=false terminating=false", w.endpoint("jupyter.alps.12.c1"))

	require.NoError(t, r.Ready(t.Context(), regs[0]))
	assert.Equal(t, "10.1.0.1 ready=true serving=true terminating=false", w.endpoint("jupyter.alps.12.c1"))

	require.NoError(t, r.Terminating(t.Context(), regs[0]))
	assert.Equal(t, "10.1.0.1 ready=false serving=true terminating=true", w.endpoint("jupyter.alps.12.c1"))
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	assert.Equal(t, "10.1.0.1 ready=false serving=true terminating=true", w.endpoint("jupyter.alps.12.c1"), "there is no way back")

	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Empty(t, w.names())
	require.NoError(t, r.Deregister(t.Context(), regs), "a second time")
}

func TestObjectsSayWhoseTheyAre(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	_, err := r.Register(t.Context(), w.specs("name=jupyter,port=80:8888,label=team=x"))
	require.NoError(t, err)
	lease := w.get(job.Leases, "slurm-alps-12")
	for _, u := range []*unstructured.Unstructured{lease, w.get(service.Services, "jupyter"), w.get(service.EndpointSlices, "jupyter.alps.12.c1")} {
		assert.Equal(t, "slurmk8s", u.GetLabels()["slurmk8s.io/managed-by"])
		assert.Equal(t, "alps", u.GetLabels()["slurmk8s.io/cluster"])
		assert.Equal(t, "12", u.GetLabels()["slurmk8s.io/job-id"])
		assert.Equal(t, "1000", u.GetAnnotations()["slurmk8s.io/uid"])
		assert.Equal(t, "alice", u.GetAnnotations()["slurmk8s.io/user"])
		assert.Equal(t, "0", u.GetAnnotations()["slurmk8s.io/restart-count"])
		for _, entry := range u.GetManagedFields() {
			assert.Equal(t, "slurmk8s", entry.Manager)
		}
		if u.GetKind() == "Lease" {
			continue
		}
		require.Len(t, u.GetOwnerReferences(), 1)
		assert.Equal(t, lease.GetUID(), u.GetOwnerReferences()[0].UID)
		assert.False(t, *u.GetOwnerReferences()[0].BlockOwnerDeletion)
	}
	holder, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	assert.Equal(t, "alps/12/0", holder)
	assert.Equal(t, "x", w.get(service.Services, "jupyter").GetLabels()["team"])
}

func TestEveryKindIsTakenByKubernetes(t *testing.T) {
	for _, text := range []string{
		"a:1", "name=a,port=web:80:8080,port=9090", "name=a,port=1,expose=headless", "name=a,port=1,host=all",
		"name=a,port=1,expose=nodeport", "name=a,port=1,expose=loadbalancer", "name=a,port=1,endpoints=both",
		"name=a,port=80,type=internal,app=web", "name=a,port=1,label=example.org/x=y", "a:1;b:2",
		"a:1/udp", "name=a,port=dns:53:5353/udp,port=dns-tcp:53:5353,expose=nodeport", "name=a,port=1/udp,endpoints=both",
		"name=a,port=80,app-protocol=kubernetes.io/h2c,ready=https:80/x,label=app.kubernetes.io/name=x",
	} {
		t.Run(text, func(t *testing.T) {
			w := newWorld(t)
			r := w.registrar(12)
			regs, err := r.Register(t.Context(), w.specs(text))
			require.NoError(t, err)
			for range 2 { // once more is the same
				_, err = r.Register(t.Context(), w.specs(text))
				require.NoError(t, err)
			}
			for _, reg := range regs {
				require.NoError(t, r.Ready(t.Context(), reg))
			}
			require.NoError(t, r.Deregister(t.Context(), regs))
			assert.Empty(t, w.names())
		})
	}
}

func TestTwoJobsAndOneName(t *testing.T) {
	w := newWorld(t)
	first, second := w.registrar(12), w.registrar(13)
	regs, err := first.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	require.NoError(t, first.Ready(t.Context(), regs[0]))
	before := w.get(service.Services, "jupyter")

	none, err := second.Register(t.Context(), w.specs("free:1;jupyter:8888"))
	require.EqualError(t, err, "service "+w.namespace+"/jupyter belongs to job 12, which is running: choose another name or wait until it ends")
	assert.Empty(t, none)
	assert.Equal(t, before, w.get(service.Services, "jupyter"), "untouched")
	assert.Len(t, w.names(), 3, "nothing was made of the free one either")
	require.NoError(t, second.Deregister(t.Context(), none))
	assert.Len(t, w.names(), 3)
}

func TestTwoJobsAtOnceAndOneName(t *testing.T) {
	w := newWorld(t)
	const jobs = 8
	results := make(chan error, jobs)
	for job := range uint32(jobs) {
		r, specs := w.registrar(job+1), w.specs("jupyter:8888")
		go func() {
			regs, err := r.Register(context.Background(), specs)
			if err != nil {
				err = joined(err, r.Deregister(context.Background(), regs))
			}
			results <- err
		}()
	}
	won := 0
	for range jobs {
		if err := <-results; err == nil {
			won++
		} else {
			assert.ErrorContains(t, err, "belongs to job")
		}
	}
	assert.Equal(t, 1, won)
	assert.Len(t, w.names(), 3, "of the winner: %v", w.names())
}

func joined(first, second error) error {
	if second != nil {
		return second
	}
	return first
}

func TestLeftoversOfADeadJobAreTakenOver(t *testing.T) {
	for name, text := range map[string]string{"same kind": "name=jupyter,port=80:8888", "another kind": "name=jupyter,port=80,expose=headless"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dead, next := w.registrar(12), w.registrar(13)
			regs, err := dead.Register(t.Context(), w.specs("name=jupyter,port=8888,label=old=1"))
			require.NoError(t, err)
			require.NoError(t, dead.Ready(t.Context(), regs[0]))
			ip, _, _ := unstructured.NestedString(w.get(service.Services, "jupyter").Object, "spec", "clusterIP")
			next.Alive = func(_ context.Context, c service.Claim) (bool, error) {
				assert.Equal(t, uint32(12), c.ID)
				return false, nil
			}
			next.Node, next.Address = "c2", w.registrar(1).Address.Next()
			taken, err := next.Register(t.Context(), w.specs(text))
			require.NoError(t, err)
			assert.Equal(t, []string{"leases/slurm-alps-12", "leases/slurm-alps-13", "services/jupyter", "endpointslices/jupyter.alps.13.c2"},
				w.names(), "the dead endpoint is gone, its lease is reconcile's")
			u := w.get(service.Services, "jupyter")
			assert.Equal(t, "13", u.GetLabels()["slurmk8s.io/job-id"])
			assert.NotContains(t, u.GetLabels(), "old")
			ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
			assert.Len(t, ports, 1)
			if name == "same kind" {
				now, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
				assert.Equal(t, ip, now, "clients keep their address")
			}
			// The dead job's program comes back to life and cleans up: the new one's stay.
			require.NoError(t, dead.Deregister(t.Context(), regs))
			assert.Equal(t, []string{"leases/slurm-alps-13", "services/jupyter", "endpointslices/jupyter.alps.13.c2"}, w.names())
			require.NoError(t, next.Deregister(t.Context(), taken))
			assert.Empty(t, w.names())
		})
	}
}

func TestARequeuedJobTakesItsOwnLeftoversOver(t *testing.T) {
	w := newWorld(t)
	before, after := w.registrar(12), w.registrar(12)
	_, err := before.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	after.Job.Restarts, after.Node = 1, "c2"
	after.Alive = func(context.Context, service.Claim) (bool, error) {
		t.Error("it is known to be over")
		return true, nil
	}
	regs, err := after.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/jupyter", "endpointslices/jupyter.alps.12.c2"}, w.names())
	// And the old run's late end leaves it alone.
	late := &service.Sweeper{Kube: before.Kube, Cluster: cluster, Log: apiserver.Log(t)}
	require.NoError(t, late.Job(t.Context(), w.namespace, before.Job, "c2"))
	assert.Len(t, w.names(), 3)
	require.NoError(t, after.Deregister(t.Context(), regs))
	assert.Empty(t, w.names())
}

func TestAForeignServiceIsUntouched(t *testing.T) {
	foreign := map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "jupyter"},
		"spec": map[string]any{"selector": map[string]any{"app": "x"}, "ports": []any{map[string]any{"port": int64(80)}}},
	}
	for name, labels := range map[string]map[string]any{
		"without labels":     nil,
		"another cluster's":  {"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "other", "slurmk8s.io/job-id": "12"},
		"with half of ours":  {"slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "12"},
		"with a job of none": {"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			foreign["metadata"] = map[string]any{"name": "jupyter", "labels": labels}
			before := w.create(service.Services, foreign)
			r := w.registrar(12)
			regs, err := r.Register(t.Context(), w.specs("jupyter:8888"))
			want := "exists and was not made by slurmk8s: choose another name"
			if name == "another cluster's" {
				want = "belongs to Slurm cluster other, which uses the same Kubernetes cluster: choose another name"
			}
			require.EqualError(t, err, "service "+w.namespace+"/jupyter "+want)
			require.NoError(t, r.Deregister(t.Context(), regs))
			assert.Equal(t, before, w.get(service.Services, "jupyter"))
			sweeper := &service.Sweeper{Kube: r.Kube, Cluster: cluster, Log: apiserver.Log(t)}
			require.NoError(t, sweeper.Job(t.Context(), w.namespace, r.Job, "c1"))
			cfg := slurmconf.Default()
			cfg.Cluster, cfg.Services.Allow = cluster, []slurmconf.ServiceRule{{Namespaces: []string{w.namespace}}}
			left, err := service.Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: r.Kube, Log: apiserver.Log(t)})
			require.NoError(t, err)
			assert.Empty(t, left)
			assert.Equal(t, before, w.get(service.Services, "jupyter"))
		})
	}
}

func TestForeignEndpointsAreUntouched(t *testing.T) {
	w := newWorld(t)
	before := w.create(service.Endpoints, map[string]any{
		"apiVersion": "v1", "kind": "Endpoints", "metadata": map[string]any{"name": "jupyter"},
		"subsets": []any{map[string]any{"addresses": []any{map[string]any{"ip": "10.9.9.9"}}, "ports": []any{map[string]any{"port": int64(1)}}}},
	})
	r := w.registrar(12)
	regs, err := r.Register(t.Context(), w.specs("name=jupyter,port=1,endpoints=both"))
	require.ErrorContains(t, err, "endpoints "+w.namespace+"/jupyter exists and was not made by slurmk8s")
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Equal(t, before, w.get(service.Endpoints, "jupyter"))
	assert.Equal(t, []string{"endpoints/jupyter"}, w.names())
}

func TestTheSameWishOfTwoStepsCountsOnce(t *testing.T) {
	w := newWorld(t)
	batch, step := w.registrar(12), w.registrar(12)
	step.Step = "0"
	owned, err := batch.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	shared, err := step.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	require.True(t, shared[0].Shared)
	require.NoError(t, step.Ready(t.Context(), shared[0]))
	assert.Contains(t, w.endpoint("jupyter.alps.12.c1"), "ready=false", "the batch step's to change")
	require.NoError(t, step.Deregister(t.Context(), shared))
	assert.Len(t, w.names(), 3, "the batch step's")

	_, err = step.Register(t.Context(), w.specs("jupyter:9999"))
	require.EqualError(t, err, "service "+w.namespace+"/jupyter: step batch of this job registered it with other options")

	// A step whose program died without a word is no reason to own nothing.
	step.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
	now, err := step.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	require.False(t, now[0].Shared)
	require.NoError(t, step.Deregister(t.Context(), now))
	assert.Empty(t, w.names())
	require.NoError(t, batch.Deregister(t.Context(), owned))
}

func TestEveryNodeHasItsSlice(t *testing.T) {
	w := newWorld(t)
	specs := w.specs("name=dask,port=8786,host=all")
	type member struct {
		*service.Registrar
		regs []*service.Registration
	}
	var members []*member
	address := w.registrar(1).Address
	for _, node := range []string{"c1", "c2", "c3"} {
		m := &member{Registrar: w.registrar(12)}
		m.Step, m.Node, m.Address = "0", node, address
		address = address.Next()
		members = append(members, m)
	}
	done := make(chan error, len(members))
	for _, m := range members { // all at once, as srun does it
		go func() {
			var err error
			m.regs, err = m.Register(context.Background(), specs)
			done <- err
		}()
	}
	for range members {
		require.NoError(t, <-done)
	}
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/dask",
		"endpointslices/dask.alps.12.c1", "endpointslices/dask.alps.12.c2", "endpointslices/dask.alps.12.c3"}, w.names())
	clusterIP, _, _ := unstructured.NestedString(w.get(service.Services, "dask").Object, "spec", "clusterIP")
	assert.Equal(t, "None", clusterIP)
	assert.Contains(t, w.endpoint("dask.alps.12.c2"), "10.1.0.2 ")

	require.NoError(t, members[0].Deregister(t.Context(), members[0].regs))
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/dask",
		"endpointslices/dask.alps.12.c2", "endpointslices/dask.alps.12.c3"}, w.names(), "the others still serve")
	for _, m := range members[1:] {
		go func() { done <- m.Deregister(context.Background(), m.regs) }()
	}
	for range members[1:] {
		require.NoError(t, <-done)
	}
	assert.Empty(t, w.names())
}

func TestTheEpilogRemovesWhatIsLeftOnItsNode(t *testing.T) {
	w := newWorld(t)
	c1, c2, other := w.registrar(12), w.registrar(12), w.registrar(13)
	c2.Node, c2.Address = "c2", c1.Address.Next()
	_, err := c1.Register(t.Context(), w.specs("name=dask,port=8786,host=all"))
	require.NoError(t, err)
	c2.Step, c1.Step = "batch", "batch"
	_, err = c2.Register(t.Context(), w.specs("name=dask,port=8786,host=all"))
	require.NoError(t, err)
	_, err = c1.Register(t.Context(), w.specs("name=web,port=80,endpoints=both;name=in,port=80,type=internal,app=x"))
	require.NoError(t, err)
	_, err = other.Register(t.Context(), w.specs("others:1"))
	require.NoError(t, err)
	sweeper := &service.Sweeper{Kube: c1.Kube, Cluster: cluster, Log: apiserver.Log(t)}
	require.NoError(t, sweeper.Job(t.Context(), w.namespace, c1.Job, "c1"))
	theirs := []string{"leases/slurm-alps-12", "leases/slurm-alps-13", "services/dask", "services/others",
		"endpointslices/dask.alps.12.c2", "endpointslices/others.alps.13.c1"}
	assert.Equal(t, theirs, w.names())
	require.NoError(t, sweeper.Job(t.Context(), w.namespace, c1.Job, "c1"), "a second time")
	assert.Equal(t, theirs, w.names())
	require.NoError(t, sweeper.Job(t.Context(), w.namespace, c1.Job, "c2"))
	assert.Equal(t, []string{"leases/slurm-alps-13", "services/others", "endpointslices/others.alps.13.c1"}, w.names())
}

func TestRenewRestoresWhatSomebodyRemoved(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	regs, err := r.Register(t.Context(), w.specs("jupyter:8888"))
	require.NoError(t, err)
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	first := w.get(job.Leases, "slurm-alps-12")
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
	assert.Equal(t, first, w.get(job.Leases, "slurm-alps-12"), "another step renewed it a moment ago")
	require.NoError(t, r.Renew(t.Context(), regs, time.Microsecond))
	assert.NotEqual(t, first.GetResourceVersion(), w.get(job.Leases, "slurm-alps-12").GetResourceVersion())

	require.NoError(t, w.admin.Resource(job.Leases).Namespace(w.namespace).Delete(t.Context(), "slurm-alps-12", metav1.DeleteOptions{}))
	require.NoError(t, w.admin.Resource(service.Services).Namespace(w.namespace).Delete(t.Context(), "jupyter", metav1.DeleteOptions{}))
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
	assert.Len(t, w.names(), 3)
	assert.Contains(t, w.endpoint("jupyter.alps.12.c1"), "ready=true")
	lease := w.get(job.Leases, "slurm-alps-12")
	for _, u := range []*unstructured.Unstructured{w.get(service.Services, "jupyter"), w.get(service.EndpointSlices, "jupyter.alps.12.c1")} {
		assert.Equal(t, []types.UID{lease.GetUID()}, []types.UID{u.GetOwnerReferences()[0].UID}, "or garbage collection would take it")
	}

	// The name went to somebody else: our endpoint must not answer in theirs.
	require.NoError(t, w.admin.Resource(service.Services).Namespace(w.namespace).Delete(t.Context(), "jupyter", metav1.DeleteOptions{}))
	w.create(service.Services, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "jupyter"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80)}}}})
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/jupyter"}, w.names())
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Equal(t, []string{"services/jupyter"}, w.names())
}

func TestADeletedEndpointComesBack(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	r.Events = kube.NewEvents(r.Kube, r.Node)
	regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,endpoints=both"))
	require.NoError(t, err)
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	for gvr, name := range map[schema.GroupVersionResource]string{service.EndpointSlices: "a.alps.12.c1", service.Endpoints: "a"} {
		t.Run(gvr.Resource, func(t *testing.T) {
			require.NoError(t, w.admin.Resource(gvr).Namespace(w.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
			require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
			u := w.get(gvr, name)
			assert.Equal(t, w.get(job.Leases, "slurm-alps-12").GetUID(), u.GetOwnerReferences()[0].UID)
			assert.Equal(t, "10.1.0.1 ready=true serving=true terminating=false", w.endpoint("a.alps.12.c1"))
			before := u.GetResourceVersion()
			require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
			assert.Equal(t, before, w.get(gvr, name).GetResourceVersion(), "what is there is not written")
		})
	}
	w.tells("a",
		"Normal Ready: it answers at 10.1.0.1 (node c1)",
		"Warning Restored: somebody removed EndpointSlice a.alps.12.c1: Slurm job 12 of cluster alps restored it",
		"Warning Restored: somebody removed Endpoints a: Slurm job 12 of cluster alps restored it")
}

func TestAnUnknownNamespaceIsNamed(t *testing.T) {
	w := newWorld(t)
	w.namespace = "nowhere"
	r := w.registrar(12)
	_, err := r.Register(t.Context(), w.specs("jupyter:1"))
	require.ErrorContains(t, err, `namespace "nowhere" does not exist`)
}
