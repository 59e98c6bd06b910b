package bundles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestTheLifeOfABundle(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	set := w.set("aok", phase("base", "", configMap("m"), serviceOf("s")), phase("server", "", deploymentOf("s", 2)))

	require.NoError(t, d.Check(t.Context(), set))
	assert.Empty(t, w.names(), "a check stores nothing")
	require.NoError(t, d.Claim(t.Context(), set))
	assert.Equal(t, []string{"leases/slurm-alps-12.aok"}, w.names(), "the inventory is there before the first object")

	w.kubelet(running)
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	lease := w.get(job.Leases, "slurm-alps-12.aok")
	assert.Equal(t, "ready", lease.GetAnnotations()["slurmk8s.io/state"])
	for name, gvr := range map[string]schema.GroupVersionResource{"m": configMaps, "s": services, "s ": deployments} {
		u := w.get(gvr, strings.TrimSpace(name))
		assert.Equal(t, "12", u.GetLabels()["slurmk8s.io/job-id"])
		assert.Equal(t, "aok", u.GetLabels()["slurmk8s.io/bundle"])
		assert.Equal(t, "test", u.GetAnnotations()["slurmk8s.io/bundle-name"])
		assert.Equal(t, "alice", u.GetAnnotations()["slurmk8s.io/user"])
		require.Len(t, u.GetOwnerReferences(), 1)
		assert.Equal(t, lease.GetUID(), u.GetOwnerReferences()[0].UID)
	}
	require.NoError(t, d.Ready(t.Context(), set))
	before := w.get(deployments, "s")
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience), "once more is the same")
	assert.Equal(t, before.GetUID(), w.get(deployments, "s").GetUID())

	require.NoError(t, w.admin.Resource(services).Namespace(w.namespace).Delete(t.Context(), "s", metav1.DeleteOptions{}))
	require.EqualError(t, d.Ready(t.Context(), set), "bundle test (as aok): service "+w.namespace+"/s: missing")

	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
	require.NoError(t, d.End(t.Context(), w.namespace), "a second time")
}

// The next phase begins when the one before is ready, and at the end a phase is gone before
// the one that it needs.
func TestPhasesComeInOrderAndGoInReverse(t *testing.T) {
	w := newWorld(t)
	var order []string
	d := w.over(12, func(next http.RoundTripper) http.RoundTripper {
		return trace(func(r *http.Request) {
			if r.Method == http.MethodPost || r.Method == http.MethodDelete {
				order = append(order, r.Method+" "+r.URL.Path[len(r.URL.Path)-1:])
			}
		}, next)
	})
	set := w.set("aok", phase("one", "", podOf("a")), phase("two", "", podOf("b")), phase("three", "none", podOf("c")))
	done := make(chan error, 1)
	go func() { done <- d.Bring(context.Background(), set, eventually.Patience) }()
	eventually.Equal(t, []string{"leases/slurm-alps-12.aok", "pods/a"}, w.names)
	w.setStatus("a", "{phase: Running}")
	w.setStatus("a", running)
	eventually.Equal(t, []string{"leases/slurm-alps-12.aok", "pods/a", "pods/b"}, w.names)
	w.setStatus("b", "{phase: Succeeded}")
	require.NoError(t, <-done, "the last phase is not waited for")
	assert.Len(t, w.names(), 4)

	order = nil
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Equal(t, []string{"DELETE c", "DELETE b", "DELETE a", "DELETE k"}, order, "and the Lease last")
	assert.Empty(t, w.names())
}

func TestABundleThatCannotBecomeReadySaysWhy(t *testing.T) {
	w := newWorld(t)
	w.kubelet("{phase: Pending, containerStatuses: [{name: c, image: x, imageID: '', restartCount: 3, ready: false, state: {waiting: {reason: CrashLoopBackOff}}, " +
		"lastState: {terminated: {exitCode: 7, reason: Error}}}]}")
	d := w.driver(12)
	set := w.set("aok", phase("server", "", deploymentOf("s", 1)))
	err := d.Bring(t.Context(), set, eventually.Patience)
	var failed *stage.FailedError
	require.ErrorAs(t, err, &failed)
	assert.Regexp(t, `^bundle test \(as aok\): phase server: deployment s: 0 of 1 available: pod s-\S+: CrashLoopBackOff: container c ended with exit code 7 \(Error\)$`, err.Error())
	assert.Equal(t, "failed", w.get(job.Leases, "slurm-alps-12.aok").GetAnnotations()["slurmk8s.io/state"])
	require.ErrorContains(t, d.Ready(t.Context(), set), "CrashLoopBackOff", "a later hook knows the reason")
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

func TestABundleThatIsNotReadyInTimeSaysHowFarItIs(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	set := w.set("aok", phase("base", "", configMap("m")), phase("server", "", podOf("p")))

	// One attempt ends early: the next goes on where it was, and the bundle's own time counts
	// from the first.
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := d.Bring(short, set, time.Hour)
	var late *stage.LateError
	require.ErrorAs(t, err, &late)
	assert.Equal(t, "bundle test (as aok): not ready in time: phase server (2 of 2): pod p: Pending", err.Error())
	lease := w.get(job.Leases, "slurm-alps-12.aok")
	assert.Equal(t, "staging", lease.GetAnnotations()["slurmk8s.io/state"])

	err = d.Bring(t.Context(), set, time.Millisecond)
	require.ErrorAs(t, err, &late)
	assert.Equal(t, "failed", w.get(job.Leases, "slurm-alps-12.aok").GetAnnotations()["slurmk8s.io/state"])
	require.NoError(t, d.End(t.Context(), w.namespace))
}

func TestAFullNamespaceIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	quotas := w.noRoom()
	d := w.driver(12)
	set := w.set("aok", phase("server", bundle.WaitNone, podOf("p")))
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var late *stage.LateError
	require.ErrorAs(t, d.Bring(short, set, time.Hour), &late)
	require.ErrorContains(t, late, "exceeded quota: q")
	require.NoError(t, d.Check(t.Context(), set), "nor is the job refused at the prompt")
	require.NoError(t, w.admin.Resource(quotas).Namespace(w.namespace).Delete(t.Context(), "q", metav1.DeleteOptions{}))
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

func TestEndpointsAreWaitedForWhereTheyAreAskedFor(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	set := w.set("aok", phase("all", bundle.WaitEndpoints, serviceOf("s")), phase("next", "", configMap("m")))
	done := make(chan error, 1)
	go func() { done <- d.Bring(context.Background(), set, eventually.Patience) }()
	eventually.Equal(t, []string{"leases/slurm-alps-12.aok", "services/s"}, w.names)

	// What Kubernetes makes for a Service that selects a pod has the Service's labels.
	slice := phase("", "", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1], conditions: {ready: true}}]}").Objects[0]
	labels := w.get(services, "s").GetLabels()
	labels["kubernetes.io/service-name"] = "s"
	slice.SetLabels(labels)
	_, err := w.admin.Resource(endpointSlices).Namespace(w.namespace).Create(t.Context(), slice, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

func TestWhatIsSomebodyElsesIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	foreign := w.create(configMaps, configMap("m"))
	d := w.driver(12)
	set := w.set("aok", phase("base", "", configMap("m")))
	want := "configmap " + w.namespace + "/m exists and was not made by slurmk8s for this cluster: it was left alone; choose another name"
	require.EqualError(t, d.Check(t.Context(), set), want)
	var conflict *stage.ConflictError
	require.ErrorAs(t, d.Bring(t.Context(), set, eventually.Patience), &conflict)
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Equal(t, foreign, w.get(configMaps, "m"), "untouched")

	// A living job's, and another bundle's of the same job.
	_ = w.admin.Resource(configMaps).Namespace(w.namespace).Delete(t.Context(), "m", metav1.DeleteOptions{})
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	other := w.driver(13)
	before := w.get(configMaps, "m")
	require.ErrorContains(t, other.Check(t.Context(), set), "belongs to job 12, which is not over")
	require.ErrorContains(t, other.Bring(t.Context(), set, eventually.Patience), "belongs to job 12, which is not over")
	require.ErrorContains(t, d.Bring(t.Context(), w.set("two", set.Phases...), eventually.Patience), "belongs to another bundle or service of this job")
	other.Alive = func(context.Context, job.Job) (bool, error) { return false, errors.New("slurmctld is away") }
	require.NoError(t, other.Claim(t.Context(), set), "what failed is tried again after this")
	require.ErrorContains(t, other.Bring(t.Context(), set, eventually.Patience), "it is unknown whether that job is over: slurmctld is away")
	assert.Equal(t, before, w.get(configMaps, "m"), "untouched")
	require.NoError(t, other.End(t.Context(), w.namespace))
	assert.Equal(t, before, w.get(configMaps, "m"), "the loser's end harms nothing")
}

func TestALeaseThatIsNotOursIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	foreign := w.create(job.Leases, "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: slurm-alps-12.aok}}")
	d := w.driver(12)
	require.ErrorContains(t, d.Claim(t.Context(), w.set("aok", phase("base", "", configMap("m")))), "was not made by slurmk8s")
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Equal(t, foreign, w.get(job.Leases, "slurm-alps-12.aok"))
}

func TestLeftoversOfADeadJobAreReplaced(t *testing.T) {
	w := newWorld(t)
	dead, next := w.driver(12), w.driver(13)
	next.Alive = alive(false)
	set := w.set("aok", phase("base", "", configMap("m"), deploymentOf("s", 0)))
	require.NoError(t, dead.Bring(t.Context(), set, eventually.Patience))
	require.NoError(t, next.Bring(t.Context(), set, eventually.Patience))
	assert.Equal(t, "13", w.get(configMaps, "m").GetLabels()["slurmk8s.io/job-id"])
	require.NoError(t, dead.End(t.Context(), w.namespace), "reconcile comes late")
	assert.Equal(t, []string{"leases/slurm-alps-13.aok", "configmaps/m", "deployments/s"}, w.names())
	require.NoError(t, next.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

// Objects for the end are made when the bundle ends, and go when they have done their work.
func TestObjectsForTheEndRunBeforeTheRestGoes(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	set := w.set("argo", phase("base", "", configMap("m")))
	set.Last = []bundle.Phase{phase("delete", "", podOf("last"))}
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	assert.Equal(t, []string{"leases/slurm-alps-12.argo", "configmaps/m"}, w.names())
	done := make(chan error, 1)
	go func() { done <- d.End(context.Background(), w.namespace) }()
	eventually.Equal(t, []string{"leases/slurm-alps-12.argo", "configmaps/m", "pods/last"}, w.names)
	w.setStatus("last", "{phase: Succeeded}")
	require.NoError(t, <-done)
	assert.Empty(t, w.names())

	// One that fails is named, and the Lease stays to tell.
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	go func() { done <- d.End(context.Background(), w.namespace) }()
	eventually.Equal(t, 3, func() int { return len(w.names()) })
	w.setStatus("last", "{phase: Failed, message: no space}")
	require.EqualError(t, <-done, "bundle test (as argo): bundle test (as argo): phase delete: pod last: Failed: no space")
	assert.Equal(t, []string{"leases/slurm-alps-12.argo"}, w.names())
	go func() { done <- d.End(context.Background(), w.namespace) }()
	eventually.Equal(t, 2, func() int { return len(w.names()) })
	w.setStatus("last", "{phase: Succeeded}")
	require.NoError(t, <-done, "and the next attempt runs it again")
	assert.Empty(t, w.names())
}

func TestWhatDoesNotEndIsNamedAndTheRestGoes(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	set := w.set("aok", phase("base", "", configMap("m")), phase("stuck", "", configMap("s")))
	set.DeleteTimeout = time.Second
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	finalizers := func(list string) {
		_, err := w.admin.Resource(configMaps).Namespace(w.namespace).Patch(t.Context(), "s", "application/merge-patch+json",
			[]byte(`{"metadata":{"finalizers":`+list+`}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	finalizers(`["example.org/hold"]`)
	require.EqualError(t, d.End(t.Context(), w.namespace),
		"bundle test (as aok): configmap "+w.namespace+"/s is deleted but not gone yet: finalizer example.org/hold")
	assert.Equal(t, []string{"leases/slurm-alps-12.aok", "configmaps/s"}, w.names())
	finalizers(`null`)
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

func TestADamagedInventoryIsNoReasonToStay(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	require.NoError(t, d.Bring(t.Context(), w.set("aok", phase("base", "", configMap("m"))), eventually.Patience))
	_, err := w.admin.Resource(job.Leases).Namespace(w.namespace).Patch(t.Context(), "slurm-alps-12.aok", "application/merge-patch+json",
		[]byte(`{"metadata":{"annotations":{"slurmk8s.io/inventory":"x"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, d.End(t.Context(), w.namespace))
	eventually.Equal(t, []string{}, w.names, "garbage collection took the rest")
}

func TestKubernetesRefusesInItsOwnWords(t *testing.T) {
	w := newWorld(t)
	d := w.driver(12)
	for name, tt := range map[string]struct{ object, want string }{
		"a value that the schema refuses": {"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 70000, targetPort: 80}]}}",
			`bundle test (as aok): Service s: Service "s" is invalid: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive (HTTP 422)`},
		"a field that there is not": {"{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, spec: {x: 1}}",
			`bundle test (as aok): ConfigMap m: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec" (HTTP 400)`},
		"a kind that there is not": {"{apiVersion: example.org/v1, kind: Widget, metadata: {name: x}}",
			"bundle test (as aok): example.org/v1 is not served by Kubernetes"},
		"a kind of the whole cluster": {"{apiVersion: v1, kind: Namespace, metadata: {name: x}}",
			"bundle test (as aok): Namespace of v1 is in no namespace: a bundle cannot have it"},
	} {
		t.Run(name, func(t *testing.T) {
			set := w.set("aok", phase("base", "", tt.object))
			require.EqualError(t, d.Check(t.Context(), set), tt.want)
			require.EqualError(t, d.Bring(t.Context(), set, eventually.Patience), tt.want)
			require.NoError(t, d.End(t.Context(), w.namespace))
		})
	}
	set := w.set("aok", phase("base", "", configMap("m")))
	set.Namespace = "nowhere"
	require.EqualError(t, d.Check(t.Context(), set), "bundle test (as aok): namespace nowhere does not exist")
}

// interrupted runs something that is killed at one of its requests. killed is false if there
// were not as many.
func (w *world) interrupted(hook func(context.Context, driver) error, at int, after bool) (killed bool) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	k := &killer{at: at, after: after, kill: cancel}
	d := w.over(12, func(next http.RoundTripper) http.RoundTripper { k.next = next; return k })
	err := hook(ctx, d)
	if k.seen < at {
		require.NoError(w.t, err)
		return false
	}
	return true
}

// Killed at each of its requests, before or after the API server has done it, and run again:
// the same end as undisturbed.
func TestKilledAtEachRequest(t *testing.T) {
	w := newWorld(t)
	set := w.set("aok", phase("base", "", configMap("m"), serviceOf("s")), phase("server", "", deploymentOf("s", 0)))
	set.Last = []bundle.Phase{phase("delete", bundle.WaitNone, configMap("last"))}
	bring := func(ctx context.Context, d driver) error { return d.Bring(ctx, set, eventually.Patience) }
	end := func(ctx context.Context, d driver) error { return d.End(ctx, w.namespace) }
	interrupted := w.interrupted
	ready := []string{"leases/slurm-alps-12.aok", "configmaps/m", "services/s", "deployments/s"}
	plain := w.driver(12)
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			killed := interrupted(bring, at, after)
			require.NoError(t, bring(t.Context(), plain), "after a kill at request %d (%t)", at, after)
			require.Equal(t, ready, w.names(), "after a kill at request %d (%t)", at, after)
			require.NoError(t, plain.Ready(t.Context(), set))
			require.NoError(t, end(t.Context(), plain))
			require.Empty(t, w.names())
			if !killed {
				require.Greater(t, at, 5, "there were requests")
				break
			}
			// And removed instead, as by scancel.
			interrupted(bring, at, after)
			require.NoError(t, end(t.Context(), plain))
			eventually.Equal(t, []string{}, w.names, fmt.Sprintf("after a kill at request %d (%t)", at, after))
		}
		for at := 1; ; at++ {
			require.NoError(t, bring(t.Context(), plain))
			killed := interrupted(end, at, after)
			require.NoError(t, end(t.Context(), plain), "after a kill at request %d (%t)", at, after)
			require.Empty(t, w.names(), "after a kill at request %d (%t)", at, after)
			if !killed {
				require.Greater(t, at, 5, "there were requests")
				break
			}
		}
	}
}

// A thousandth of what a driver asks is not under its control: only the kinds of its bundle
// are asked about.
func TestOnlyTheKindsOfTheBundleAreAskedAbout(t *testing.T) {
	w := newWorld(t)
	var asked []string
	d := w.over(12, func(next http.RoundTripper) http.RoundTripper {
		return trace(func(r *http.Request) { asked = append(asked, r.Method+" "+r.URL.Path) }, next)
	})
	set := w.set("aok", phase("base", "", configMap("m")))
	require.NoError(t, d.Bring(t.Context(), set, eventually.Patience))
	below := func(path string) string { return "/api/v1/namespaces/" + w.namespace + path }
	leases := "/apis/coordination.k8s.io/v1/namespaces/" + w.namespace + "/leases"
	lease := leases + "/slurm-alps-12.aok"
	assert.Equal(t, []string{"GET " + lease, "POST " + leases, "PATCH " + lease, "POST " + below("/configmaps"), "PATCH " + lease}, asked)
	asked = nil
	require.NoError(t, d.End(t.Context(), w.namespace))
	assert.Equal(t, []string{"GET " + leases, "GET " + below("/configmaps/m"), "DELETE " + below("/configmaps/m"), "GET " + below("/configmaps/m"), "DELETE " + lease}, asked)
}

func TestBundlesOfOtherJobsAndServicesStay(t *testing.T) {
	w := newWorld(t)
	first, second := w.driver(12), w.driver(13)
	require.NoError(t, first.Bring(t.Context(), w.set("a", phase("base", "", configMap("a"))), eventually.Patience))
	require.NoError(t, first.Bring(t.Context(), w.set("b", phase("base", "", configMap("b"))), eventually.Patience))
	require.NoError(t, second.Bring(t.Context(), w.set("a", phase("base", "", configMap("c"))), eventually.Patience))
	keeper := &job.Keeper{Kube: first.Kube, Job: first.Job, Log: apiserver.Log(t)}
	_, err := keeper.Apply(t.Context(), w.namespace)
	require.NoError(t, err)
	require.NoError(t, first.End(t.Context(), w.namespace))
	assert.Equal(t, []string{"leases/slurm-alps-12", "leases/slurm-alps-13.a", "configmaps/c"}, w.names())

	all, err := second.Kube.Objects(job.Leases, w.namespace).List(t.Context(), kube.Selection{Labels: job.ClusterSelector(cluster)})
	require.NoError(t, err)
	require.Len(t, all, 1, "what lists the leases of services sees no bundle")
	assert.Equal(t, "slurm-alps-12", all[0].GetName())
}
