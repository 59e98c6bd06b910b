package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/safely"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// EventsGVR is the resource of Events.
var EventsGVR = schema.GroupVersionResource{Version: "v1", Resource: "events"}

// EventComponent is the source of our Events. The admission policy of
// packaging/manifests/node.yaml allows a node's credential no other.
const EventComponent = "slurmk8s.io/slurmk8s"

// The types of Events.
const (
	EventNormal  = "Normal"
	EventWarning = "Warning"
)

const (
	// eventTimeout bounds an Event: it is a courtesy, and nobody waits for it long.
	eventTimeout = time.Second
	// eventGrace is what an Event gets whose teller is out of time: a hook may end one
	// second after its deadline.
	eventGrace = 300 * time.Millisecond
	// maxEventText is what Kubernetes takes at most.
	maxEventText = 1024
	// eventsBeside is how many may be on their way while nobody waits for them.
	eventsBeside = 8
)

// Object is what an Event is about.
type Object struct {
	APIVersion, Kind, Namespace, Name string // Namespace is "" for one that is in none
	UID                               types.UID
}

// Events creates Events about what slurmk8s did with an object ("kubectl describe"), if
// the credential may. Nothing depends on an Event: if one cannot be created, that is
// logged. A nil *Events creates none.
type Events struct {
	client   *Client
	instance string   // the host that tells, as Slurm or Kubernetes calls it
	denied   sync.Map // namespaces that took none: they are not asked again
	beside   chan struct{}
}

// NewEvents returns Events for one instance. It sends nothing.
func NewEvents(client *Client, instance string) *Events {
	return &Events{client: client, instance: instance, beside: make(chan struct{}, eventsBeside)}
}

// Tell creates one Event and returns within a second, or within eventGrace if ctx has
// ended. The text may quote a user or another program, but must have no secret and
// nothing of a job's environment: everyone who may read Events can read it.
func (e *Events) Tell(ctx context.Context, about Object, eventType, reason, text string) {
	if e == nil {
		return
	}
	// As the kubelet does it: what is in no namespace has its Events in the default one.
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	if _, denied := e.denied.Load(namespace); denied {
		return
	}
	limit := eventTimeout
	if end, bounded := ctx.Deadline(); bounded {
		limit = min(limit, max(time.Until(end), eventGrace))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_, err := e.client.Dynamic.Resource(EventsGVR).Namespace(namespace).
		Create(ctx, e.event(namespace, about, eventType, reason, text), metav1.CreateOptions{FieldManager: FieldManager})
	if err == nil {
		return
	}
	if class := Classify(err); class == Denied || class == Refusal {
		e.denied.Store(namespace, nil)
	}
	e.client.log.Debugf("event %s on %s %s: %s", reason, about.Kind, about.Name, Reason(err))
}

// TellBeside is Tell in the background. If too many are under way already, the Event is
// dropped.
func (e *Events) TellBeside(about Object, eventType, reason, text string) {
	if e == nil {
		return
	}
	select {
	case e.beside <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-e.beside }()
		if err := safely.Do(func() error { e.Tell(context.Background(), about, eventType, reason, text); return nil }); err != nil {
			e.client.log.Errorf("event %s on %s %s: %v", reason, about.Kind, about.Name, err)
		}
	}()
}

func (e *Events) event(namespace string, about Object, eventType, reason, text string) *unstructured.Unstructured {
	now := time.Now().UTC().Format(time.RFC3339)
	involved := map[string]any{"apiVersion": about.APIVersion, "kind": about.Kind, "name": about.Name, "uid": string(about.UID)}
	if about.Namespace != "" {
		involved["namespace"] = about.Namespace
	}
	text = wire.OneLine(text)
	if len(text) > maxEventText {
		text = strings.ToValidUTF8(text[:maxEventText-3], "") + "..."
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event",
		// Unique and short enough, whatever the object is called. It has no label of a
		// job: what has one is gone when the job is, and an Event stays for an hour.
		"metadata":       map[string]any{"generateName": fmt.Sprintf("%.200s.slurmk8s-", about.Name), "namespace": namespace},
		"involvedObject": involved, "reason": reason, "message": text, "type": eventType,
		"firstTimestamp": now, "lastTimestamp": now, "count": int64(1),
		"source":             map[string]any{"component": "slurmk8s", "host": e.instance},
		"reportingComponent": EventComponent, "reportingInstance": e.instance,
	}}
}
