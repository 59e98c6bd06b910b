package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/node"
)

// podLog knows when each pod that a job would evict was on which node.
type podLog struct {
	mu   sync.Mutex
	pods map[types.UID]*stay
}

// stay is the time of a pod on its node: from when we heard of it until its last container ended, as
// its kubelet says, for we may hear of that later than the job's hook.
type stay struct {
	pod, node   string
	came, ended time.Time // ended is zero while it is there
}

// watchPods begins to look, until the test ends.
func watchPods(t *testing.T) *podLog {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w, err := cluster.Kube.Resource(node.Pods).Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	l := &podLog{pods: map[types.UID]*stay{}}
	go func() {
		for event := range w.ResultChan() {
			if pod, ok := event.Object.(*unstructured.Unstructured); ok {
				l.see(pod, event.Type == watch.Deleted, time.Now())
			}
		}
		if ctx.Err() == nil {
			t.Error("the watch of the pods ended")
		}
	}()
	return l
}

func (l *podLog) see(pod *unstructured.Unstructured, deleted bool, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	here := !deleted && isEvictable(pod)
	known := l.pods[pod.GetUID()]
	name, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
	switch {
	case known == nil && here && name != "":
		l.pods[pod.GetUID()] = &stay{pod: pod.GetNamespace() + "/" + pod.GetName(), node: name, came: at}
	case known != nil && !here && known.ended.IsZero():
		known.ended = at
		if ended := lastEnd(pod); !ended.IsZero() {
			known.ended = ended
		}
	}
}

// lastEnd is when the last of a pod's containers ended, to the second; zero if one has not.
func lastEnd(pod *unstructured.Unstructured) (last time.Time) {
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	for _, s := range statuses {
		text, _, _ := unstructured.NestedString(s.(map[string]any), "state", "terminated", "finishedAt")
		ended, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return time.Time{}
		}
		if ended.After(last) {
			last = ended
		}
	}
	return last
}

// between are the pods that were on a node at any instant from one time to another.
func (l *podLog) between(name string, from, to time.Time) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.pods {
		if s.node == name && s.came.Before(to) && (s.ended.IsZero() || s.ended.After(from)) {
			found = append(found, fmt.Sprintf("%s from %s to %s", s.pod, s.came.Format(clock), s.ended.Format(clock)))
		}
	}
	return found
}

const clock = "15:04:05.000"

// left counts the pods that left a node in that time; kubelets tell theirs to the second.
func (l *podLog) left(name string, from, to time.Time) (count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.pods {
		if s.node == name && !s.ended.Before(from.Truncate(time.Second)) && s.ended.Before(to) {
			count++
		}
	}
	return count
}
