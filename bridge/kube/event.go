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

// EventComponent is who tells: the admission policy of packaging/manifests/node.yaml
// lets a node's credential speak for nobody else.
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

// Events tell whoever looks at an object in Kubernetes ("kubectl describe") what the
// bridge did with it, as far as the credential may. Nothing depends on one: an Event that
// cannot be made is a line of the log for who debugs. A nil *Events tells nothing.
type Events struct {
	client   *Client
	instance string   // the host that tells, as Slurm or Kubernetes calls it
	denied   sync.Map // namespaces that took none: they are not asked again
	beside   chan struct{}
}

// NewEvents makes a teller. It sends nothing.
func NewEvents(client *Client, instance string) *Events {
	return &Events{client: client, instance: instance, beside: make(chan struct{}, eventsBeside)}
}

// Tell makes one Event and returns within a second. It does so too when ctx is over, then
// within eventGrace. The text may hold words of a user or of another program, but neither
// a secret nor anything of a job's environment: all who may read Events read it.
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

// TellBeside is Tell for who has something better to do than to wait. When too many are
// on their way already, this one is not told.
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
