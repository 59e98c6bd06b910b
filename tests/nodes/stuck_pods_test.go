package nodes

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// finalizer is one that nobody takes away.
func finalizer(pod map[string]any) {
	pod["metadata"].(map[string]any)["finalizers"] = []any{"example.org/never"}
}

// release lets a pod with a finalizer go, at the latest at the test's end.
func (w *world) release(pod string) {
	w.t.Cleanup(func() {
		_, _ = w.admin.Resource(podsGVR).Namespace(w.namespace).Patch(context.Background(), pod, "application/merge-patch+json",
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
}

// The longest grace period that Kubernetes takes is no longer than the job's limit, and
// no shorter either.
func TestAnEndlessGracePeriodIsCutToTheLimit(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, time.Hour)
	w.newPod(name, "endless", grace(math.MaxInt64))
	begin := time.Now()
	outcome, err := w.take(name, settings(), node.Terms{Grace: 4 * time.Second, Timeout: time.Minute, Policy: slurmconf.EvictFail})
	require.NoError(t, err)
	assert.Equal(t, 1, outcome.Evicted)
	assert.GreaterOrEqual(t, time.Since(begin), 2500*time.Millisecond, "it had the limit's time")
}

// A pod that is never deleted: the job fails in its time, whatever the policy, and its node
// is given back. One whose containers have ended harms nobody.
func TestAPodWithAFinalizerHoldsNoNode(t *testing.T) {
	for _, policy := range []string{slurmconf.EvictFail, slurmconf.EvictDelete} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t)
			h := w.newHost(fmt.Sprintf("evict_policy = %q", policy), `evict_timeout = "1s"`, `on_error = "fail"`)
			w.kubelet(h.node, 0)
			w.newPod(h.node, "stays", finalizer)
			w.release("stays")
			before := w.state(h.node)
			assert.Regexp(t, `^3 MESSAGE=1 pod is still there after [5-8]s: pod \S+/stays is still terminating`, h.prolog(12, "DEADLINE_MS=8000"))
			assert.Equal(t, "0 ", h.epilog(12))
			assert.Equal(t, before, w.state(h.node))
			assert.Empty(t, h.files())

			w.setPhase("stays", "Failed") // by the kubelet, when its containers have ended
			assert.Equal(t, "0 ", h.prolog(13, "DEADLINE_MS=60000"))
			assert.Equal(t, "0 ", h.epilog(13))
			assert.Equal(t, before, w.state(h.node))
		})
	}
}

// Somebody binds new pods to the node, by its name, again and again: cordons are for the
// scheduler only. The job does not wait for ever, and the node is given back.
func TestPodsThatAreBoundAgainAndAgainHoldNoNode(t *testing.T) {
	w := newWorld(t)
	h := w.newHost(`evict_timeout = "2s"`, `on_error = "fail"`, `evict_grace = "3s"`)
	w.kubelet(h.node, time.Hour) // each has its three seconds, so that there is always one
	before := w.state(h.node)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; n++ {
			pod := map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": fmt.Sprintf("again-%d", n), "namespace": w.namespace},
				"spec": map[string]any{"nodeName": h.node, "terminationGracePeriodSeconds": int64(3),
					"containers": []any{map[string]any{"name": "main", "image": "registry.invalid/main"}}},
			}
			ownedBy("apps/v1", "ReplicaSet")(pod)
			_, _ = w.admin.Resource(podsGVR).Namespace(w.namespace).Create(ctx, &unstructured.Unstructured{Object: pod}, metav1.CreateOptions{})
			if n == 0 {
				close(begun)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	<-begun
	answer := h.prolog(12, "DEADLINE_MS=15000")
	cancel()
	<-ended
	assert.Regexp(t, `^3 MESSAGE=.* still there after \d+s`, answer)
	assert.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, before, w.state(h.node))
	assert.Equal(t, []string{}, h.files())
}
