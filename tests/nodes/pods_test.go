package nodes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// take makes a node ready for job 12, with the kubelet's credential.
func (w *world) take(name string, cfg *slurmconf.NodeSettings, terms node.Terms) (node.Outcome, error) {
	w.t.Helper()
	return w.driver(w.kubeletCredential(name), cfg).Take(w.t.Context(), node.ClaimFilesIn(w.t.TempDir()), name,
		node.Claim{Cluster: cluster, JobID: 12, Mode: node.Reclaim}, terms)
}

func TestWhatBecomesOfEachKindOfPod(t *testing.T) {
	tolerates := func(key string) podOption {
		return func(pod map[string]any) {
			pod["spec"].(map[string]any)["tolerations"] = []any{map[string]any{"key": key, "operator": "Exists", "effect": "NoSchedule"}}
		}
	}
	set := func(to *string, value string) { *to = value }
	tests := []struct {
		name   string
		pod    []podOption
		phase  string
		policy func(*slurmconf.NodeSettings)
		stays  bool
		fails  string
	}{
		{name: "one of a Deployment goes"},
		{name: "one of a Job goes", pod: []podOption{ownedBy("batch/v1", "Job")}},
		{name: "one that succeeded stays", phase: "Succeeded", stays: true},
		{name: "one that failed stays, bare or not", pod: []podOption{unmanaged}, phase: "Failed", stays: true},
		{name: "a DaemonSet's stays", pod: []podOption{ownedBy("apps/v1", "DaemonSet")}, stays: true},
		{name: "a DaemonSet's goes when told", pod: []podOption{ownedBy("apps/v1", "DaemonSet"), toleratingAll},
			policy: func(c *slurmconf.NodeSettings) { set(&c.DaemonSets, "evict") }},
		{name: "one that only looks like a DaemonSet's goes", pod: []podOption{ownedBy("example.org/v1", "DaemonSet")}},
		{name: "a static pod's mirror stays", pod: []podOption{unmanaged, annotated("kubernetes.io/config.mirror", "x")}, stays: true},
		{name: "one that tolerates everything stays", pod: []podOption{toleratingAll}, stays: true},
		{name: "one that tolerates a cordon stays", pod: []podOption{tolerates("node.kubernetes.io/unschedulable")}, stays: true},
		{name: "one that tolerates something else goes", pod: []podOption{tolerates("example.org/x")}},
		{name: "one that tolerates goes when told", pod: []podOption{toleratingAll},
			policy: func(c *slurmconf.NodeSettings) { set(&c.Tolerating, "evict") }},
		{name: "one that tolerates our taint, when we taint, stays", pod: []podOption{tolerates("slurmk8s.io/reclaimed")}, stays: true,
			policy: func(c *slurmconf.NodeSettings) { set(&c.Block, "taint") }},
		{name: "one that tolerates a cordon, when we taint, goes", pod: []podOption{tolerates("node.kubernetes.io/unschedulable")},
			policy: func(c *slurmconf.NodeSettings) { set(&c.Block, "taint") }},
		{name: "a bare one fails the job", pod: []podOption{unmanaged}, stays: true, fails: "has no controller: nothing was evicted; delete it, or set nodes.unmanaged"},
		{name: "one whose owner controls nothing is a bare one", pod: []podOption{ownedBy("v1", "ConfigMap"), uncontrolled}, stays: true,
			fails: "has no controller: nothing was evicted; delete it, or set nodes.unmanaged"},
		{name: "a bare one goes when told", pod: []podOption{unmanaged}, policy: func(c *slurmconf.NodeSettings) { set(&c.Unmanaged, "evict") }},
		{name: "a bare one stays when told", pod: []podOption{unmanaged}, stays: true, policy: func(c *slurmconf.NodeSettings) { set(&c.Unmanaged, "keep") }},
		{name: "one with an emptyDir goes", pod: []podOption{withEmptyDir}},
		{name: "one with an emptyDir fails the job when told", pod: []podOption{withEmptyDir}, stays: true, fails: "has an emptyDir volume: nothing was evicted; delete it, or set nodes.emptydir",
			policy: func(c *slurmconf.NodeSettings) { set(&c.EmptyDir, "fail") }},
		{name: "a bare one that may go stays for its emptyDir", pod: []podOption{unmanaged, withEmptyDir}, stays: true,
			policy: func(c *slurmconf.NodeSettings) { set(&c.Unmanaged, "evict"); set(&c.EmptyDir, "keep") }},
	}
	w := newWorld(t)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			name := w.newNode()
			w.kubelet(name, 0)
			cfg := settings()
			if tt.policy != nil {
				tt.policy(cfg)
			}
			pod := fmt.Sprint("pod-", i)
			w.newPod(name, pod, tt.pod...)
			other := fmt.Sprint("other-", i)
			w.newPod(name, other)
			if tt.phase != "" {
				w.setPhase(pod, tt.phase)
			}
			credential := w.kubeletCredential(name)
			if cfg.Block != slurmconf.BlockCordon {
				credential = w.server.Kubeconfig()
			}
			outcome, err := w.driver(credential, cfg).Take(t.Context(), node.ClaimFilesIn(t.TempDir()), name,
				node.Claim{Cluster: cluster, JobID: 12, Mode: node.Reclaim}, terms())
			if tt.fails != "" {
				require.ErrorContains(t, err, "pod "+w.namespace+"/"+pod+" "+tt.fails)
				assert.Len(t, w.pods(name), 2, "none was evicted")
				return
			}
			require.NoError(t, err)
			want := []string{}
			if tt.stays {
				want = append(want, pod)
			}
			assert.Equal(t, want, w.pods(name))
			assert.Equal(t, node.Outcome{Evicted: 2 - len(want), Kept: len(want)}, outcome)
		})
	}
}

// The kubelet of these tests ends a pod after its grace period.
func TestThePodsGracePeriodAndTheBudget(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, time.Hour)
	w.newPod(name, "short", grace(1))
	w.newPod(name, "long", grace(300))
	terminating := w.newPod(name, "ending", grace(300))
	require.NoError(t, w.admin.Resource(podsGVR).Namespace(w.namespace).Delete(t.Context(), terminating.GetName(), metav1.DeleteOptions{}))
	begin := time.Now()
	outcome, err := w.take(name, settings(), node.Terms{Grace: 3 * time.Second, Timeout: time.Minute, Policy: slurmconf.EvictFail})
	require.NoError(t, err)
	assert.Equal(t, 3, outcome.Evicted)
	assert.GreaterOrEqual(t, time.Since(begin), 2*time.Second, "the budget")
}

// A pod on its way counts against its grace period, not against evict_timeout, which is
// for disruption budgets.
func TestAGracePeriodMayOutlastTheTimeout(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, time.Hour)
	w.newPod(name, "slow", grace(4))
	outcome, err := w.take(name, settings(), node.Terms{Grace: 5 * time.Second, Timeout: time.Second, Policy: slurmconf.EvictFail})
	require.NoError(t, err)
	assert.Equal(t, 1, outcome.Evicted)
}

// budget makes a PodDisruptionBudget that allows some disruptions, and does what the
// disruption controller does for it: count the pods that are ready.
func (w *world) budget(name, label string, minAvailable int64) {
	w.t.Helper()
	w.create(budgets, w.namespace, map[string]any{
		"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": map[string]any{"name": name, "namespace": w.namespace},
		"spec": map[string]any{"minAvailable": minAvailable, "selector": map[string]any{"matchLabels": map[string]any{"app": label}}},
	})
	w.count(name, label, minAvailable)
}

// ready counts the pods of an application that are ready and not on their way out.
func (w *world) ready(ctx context.Context, label string) int64 {
	list, err := w.admin.Resource(podsGVR).Namespace(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + label})
	if err != nil {
		return -1
	}
	ready := int64(0)
	for _, u := range list.Items {
		if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); phase == "Running" && u.GetDeletionTimestamp() == nil {
			ready++
		}
	}
	return ready
}

// count brings a budget's status up to date. The API server notes in it the pods whose
// eviction it has granted and that are not deleted yet.
func (w *world) count(name, label string, minAvailable int64) {
	u, err := w.admin.Resource(budgets).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return
	}
	list, err := w.admin.Resource(podsGVR).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=" + label})
	if err != nil {
		return
	}
	granted, _, _ := unstructured.NestedMap(u.Object, "status", "disruptedPods")
	still, healthy := map[string]any{}, int64(0)
	for _, pod := range list.Items {
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		if phase != "Running" || pod.GetDeletionTimestamp() != nil {
			continue
		}
		if at, ok := granted[pod.GetName()]; ok {
			still[pod.GetName()] = at
			continue
		}
		healthy++
	}
	_ = unstructured.SetNestedMap(u.Object, map[string]any{
		"observedGeneration": u.GetGeneration(), "currentHealthy": healthy, "desiredHealthy": minAvailable, "expectedPods": int64(len(list.Items)),
		"disruptionsAllowed": max(healthy-minAvailable, 0), "disruptedPods": still,
	}, "status")
	_, _ = w.admin.Resource(budgets).Namespace(w.namespace).UpdateStatus(w.t.Context(), u, metav1.UpdateOptions{})
}

func TestABudgetThatAllowsNone(t *testing.T) {
	w := newWorld(t)
	make := func(t *testing.T, label string) (*world, string) {
		w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
		name := w.newNode()
		w.kubelet(name, 0)
		w.newPod(name, label, labelled("app", label))
		w.newPod(name, label+"-free")
		w.budget(label, label, 1)
		return w, name
	}
	t.Run("fail", func(t *testing.T) {
		w, name := make(t, "fails")
		_, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 1500 * time.Millisecond, Policy: slurmconf.EvictFail})
		require.Error(t, err)
		assert.Regexp(t, `^1 pod is still there after \ds: evict pod \S+/fails: The disruption budget fails needs 1 healthy pods and has 1 currently$`, err.Error())
		assert.True(t, node.FailsJob(err))
		assert.Equal(t, []string{"fails"}, w.pods(name))
	})
	t.Run("delete", func(t *testing.T) {
		w, name := make(t, "deleted")
		begin := time.Now()
		outcome, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 1500 * time.Millisecond, Policy: slurmconf.EvictDelete})
		require.NoError(t, err)
		assert.Equal(t, 2, outcome.Evicted)
		assert.Empty(t, w.pods(name))
		assert.GreaterOrEqual(t, time.Since(begin), 1500*time.Millisecond, "the budget had its time")
	})
	t.Run("ignore", func(t *testing.T) {
		w, name := make(t, "ignored")
		outcome, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 1500 * time.Millisecond, Policy: slurmconf.EvictIgnore})
		require.NoError(t, err)
		assert.Equal(t, node.Outcome{Evicted: 1, Ignored: 1}, outcome)
		assert.Equal(t, []string{"ignored"}, w.pods(name))
	})
}

// The API server answers 500, however often it is asked.
func TestWhatAnAdmissionPolicyRefusesIsAskedAgainAsABudget(t *testing.T) {
	policies := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}
	bindings := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"}
	for _, reason := range []string{"Invalid", "Forbidden"} { // HTTP 422, 403
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			name := w.newNode()
			w.kubelet(name, 0)
			w.newPod(name, "guarded")
			w.create(policies, "", map[string]any{
				"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": name},
				"spec": map[string]any{
					"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{
						"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"pods/eviction"},
					}}},
					"validations": []any{map[string]any{"expression": "false", "message": "not before the backup", "reason": reason}},
				},
			})
			w.create(bindings, "", map[string]any{
				"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": map[string]any{"name": name},
				"spec": map[string]any{
					"policyName": name, "validationActions": []any{"Deny"},
					"matchResources": map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": w.namespace}}},
				},
			})
			lift := func() { _ = w.admin.Resource(bindings).Delete(context.Background(), name, metav1.DeleteOptions{}) }
			t.Cleanup(lift)
			eviction := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "policy/v1", "kind": "Eviction",
				"metadata": map[string]any{"name": "guarded", "namespace": w.namespace}}}
			eventually.True(t, "the policy refuses evictions", func() bool {
				_, err := w.admin.Resource(podsGVR).Namespace(w.namespace).Create(t.Context(), eviction, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}, "eviction")
				return err != nil && strings.Contains(err.Error(), "not before the backup")
			})

			_, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 2 * time.Second, Policy: slurmconf.EvictFail})
			require.Error(t, err)
			assert.Regexp(t, `^1 pod is still there after \ds: evict pod \S+/guarded: .*not before the backup`, err.Error())
			assert.True(t, node.FailsJob(err))

			taken := make(chan error, 1)
			go func() {
				_, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 5 * time.Minute, Policy: slurmconf.EvictFail})
				taken <- err
			}()
			lift()
			require.NoError(t, <-taken)
			assert.Empty(t, w.pods(name))
		})
	}
}

func TestTwoBudgetsForOnePod(t *testing.T) {
	for policy, gone := range map[string]bool{slurmconf.EvictFail: false, slurmconf.EvictDelete: true, slurmconf.EvictIgnore: false} {
		timeout := 5 * time.Minute // to wait would not help
		if policy == slurmconf.EvictIgnore {
			timeout = 3 * time.Second
		}
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t)
			name := w.newNode()
			w.kubelet(name, 0)
			w.newPod(name, "both", labelled("app", "both"))
			w.budget("one", "both", 0)
			w.budget("two", "both", 0)
			_, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: timeout, Policy: policy})
			if policy == slurmconf.EvictFail {
				require.ErrorContains(t, err, "more than one PodDisruptionBudget")
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, gone, len(w.pods(name)) == 0)
		})
	}
}

// A controller makes a new pod elsewhere for each that goes, and it takes a moment to
// be ready.
func TestABudgetOfOneAtATimeIsNeverBroken(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, 100*time.Millisecond)
	const replicas, least = 5, 4
	for i := range replicas {
		w.newPod(name, fmt.Sprint("web-", i), labelled("app", "web"))
	}
	elsewhere := w.newNode()
	w.budget("web", "web", least)
	ctx, cancel := context.WithCancel(t.Context())
	var lowest int64 = replicas
	var group sync.WaitGroup
	group.Go(func() {
		for n := replicas; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			ready := w.ready(ctx, "web")
			if ready < 0 {
				return
			}
			lowest = min(lowest, ready)
			if ready < replicas {
				time.Sleep(100 * time.Millisecond)
				w.newPod(elsewhere, fmt.Sprint("web-", n), labelled("app", "web"))
				n++
			}
			w.count("web", "web", least)
		}
	})
	outcome, err := w.take(name, settings(), node.Terms{Grace: time.Second, Timeout: 60 * time.Second, Policy: slurmconf.EvictFail})
	cancel()
	group.Wait()
	require.NoError(t, err)
	assert.Equal(t, replicas, outcome.Evicted)
	assert.GreaterOrEqual(t, lowest, int64(least))
}

// A pod that was bound after the node was listed, by a scheduler that did not know yet.
func TestAPodThatComesLate(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, 0)
	cfg := settings()
	cfg.Settle = slurmconf.Duration(3 * time.Second)
	bound := make(chan error, 1)
	go func() {
		for !w.cordoned(name) {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		pod := map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "late", "namespace": w.namespace},
			"spec": map[string]any{"containers": []any{map[string]any{"name": "main", "image": "registry.invalid/main"}}},
		}
		ownedBy("apps/v1", "ReplicaSet")(pod)
		_, err := w.admin.Resource(podsGVR).Namespace(w.namespace).Create(t.Context(), &unstructured.Unstructured{Object: pod}, metav1.CreateOptions{})
		if err == nil {
			_, err = w.admin.Resource(podsGVR).Namespace(w.namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": "late", "namespace": w.namespace},
				"target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": name},
			}}, metav1.CreateOptions{}, "binding")
		}
		bound <- err
	}()
	outcome, err := w.take(name, cfg, terms())
	require.NoError(t, err)
	require.NoError(t, <-bound)
	assert.Equal(t, node.Outcome{Evicted: 1}, outcome)
	assert.Empty(t, w.pods(name))
}

// A StatefulSet's pod has the name of the one before it.
func TestAPodMadeAnewUnderItsName(t *testing.T) {
	w := newWorld(t)
	name, elsewhere := w.newNode(), w.newNode()
	w.kubelet(name, 200*time.Millisecond)
	w.newPod(name, "db-0", ownedBy("apps/v1", "StatefulSet"))
	made := make(chan types.UID, 1)
	go func() {
		for slices.Contains(w.pods(name), "db-0") {
			time.Sleep(10 * time.Millisecond)
		}
		made <- w.newPod(elsewhere, "db-0", ownedBy("apps/v1", "StatefulSet")).GetUID()
	}()
	outcome, err := w.take(name, settings(), terms())
	require.NoError(t, err)
	assert.Equal(t, 1, outcome.Evicted)
	uid := <-made
	u, err := w.admin.Resource(podsGVR).Namespace(w.namespace).Get(t.Context(), "db-0", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, uid, u.GetUID())
	assert.Nil(t, u.GetDeletionTimestamp())
}

// Creating an eviction there is refused (403): its pods go by themselves.
func TestATerminatingNamespace(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, 0)
	w.newPod(name, "doomed")
	require.NoError(t, w.admin.Resource(apiserver.Namespaces).Delete(t.Context(), w.namespace, metav1.DeleteOptions{}))
	go func() { // what the namespace controller does, some time later
		time.Sleep(time.Second)
		_ = w.admin.Resource(podsGVR).Namespace(w.namespace).Delete(context.Background(), "doomed", metav1.DeleteOptions{})
	}()
	outcome, err := w.take(name, settings(), terms())
	require.NoError(t, err)
	assert.Equal(t, 1, outcome.Evicted)
}

func TestEventsSayWhichJobItWas(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, 0)
	pod := w.newPod(name, "web")
	_, err := w.take(name, settings(), terms())
	require.NoError(t, err)
	said := func(namespace, uid string) string {
		list, err := w.admin.Resource(kube.EventsGVR).Namespace(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + uid})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		return list.Items[0].Object["message"].(string)
	}
	assert.Equal(t, "evicted: Slurm job 12 of cluster alps reclaims node "+name, said(w.namespace, string(pod.GetUID())))
	assert.Equal(t, "closed to new pods: reclaimed by Slurm job 12 of cluster alps", said("default", name))
}
