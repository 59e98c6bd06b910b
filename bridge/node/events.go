package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

var eventsGVR = schema.GroupVersionResource{Version: "v1", Resource: "events"}

// eventTimeout bounds an Event: it is a courtesy, and nobody waits for it long.
const eventTimeout = time.Second

// events tell the owners of pods and the administrators of nodes which job it was,
// as far as the credential may.
type events struct {
	b      *Bridge
	node   string
	holder Holder
	denied atomic.Bool
}

func (b *Bridge) events(node string, h Holder) *events { return &events{b: b, node: node, holder: h} }

func (e *events) job() string {
	return fmt.Sprintf("Slurm job %d of cluster %s", e.holder.JobID, e.holder.Cluster)
}

func (e *events) evicted(ctx context.Context, p pod) {
	e.emit(ctx, p.Namespace, "Pod", p.Name, string(p.UID), "ReclaimedBySlurm",
		fmt.Sprintf("evicted: %s takes node %s", e.job(), e.node))
}

func (e *events) taken(ctx context.Context) {
	// As the kubelet does it: a Node is in no namespace, and its own name is its UID.
	e.emit(ctx, metav1.NamespaceDefault, "Node", e.node, e.node, "ReclaimedBySlurm", "closed to new pods: taken by "+e.job())
}

func (e *events) emit(ctx context.Context, namespace, kind, name, uid, reason, text string) {
	if e.denied.Load() {
		return
	}
	// The wait for the pods may end first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
	defer cancel()
	now := time.Now().UTC()
	involved := map[string]any{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}
	if kind == "Pod" {
		involved["namespace"] = namespace
	}
	event := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event",
		// Unique and short enough, whatever the pod is called.
		"metadata":       map[string]any{"generateName": fmt.Sprintf("%.200s.slurmk8s-", name), "namespace": namespace},
		"involvedObject": involved, "reason": reason, "message": text, "type": "Normal",
		"firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339), "count": int64(1),
		"source":             map[string]any{"component": "slurmk8s", "host": e.node},
		"reportingComponent": "slurmk8s.io/slurmk8s", "reportingInstance": e.node,
	}}
	_, err := e.b.Kube.Dynamic.Resource(eventsGVR).Namespace(namespace).Create(ctx, event, metav1.CreateOptions{FieldManager: kube.FieldManager})
	if err != nil {
		e.denied.Store(kube.Classify(err) == kube.Denied)
		e.b.Log.Debugf("event on %s %s: %s", kind, name, kube.Reason(err))
	}
}
