package stage

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

var (
	podsGVR   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	slicesGVR = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

// lookAgain is how often what is known is judged again without news: a pod's trouble
// becomes fatal by time alone.
const lookAgain = 5 * time.Second

// view is what is known of a bundle's objects while a phase is waited for.
type view struct {
	known  map[schema.GroupVersionResource]map[string]*unstructured.Unstructured
	missed map[schema.GroupVersionResource]bool // not listed yet
}

// judgedBy are the objects besides itself that tell whether an object is ready, or why it is not.
func (i item) judgedBy() (more schema.GroupVersionResource, needed bool) {
	switch {
	case bundle.PodTemplates[i.Kind]:
		return podsGVR, true
	case i.Kind == "Service" && i.Wait == bundle.WaitEndpoints:
		return slicesGVR, true
	}
	return more, false
}

type news struct {
	kube.Change
	of  schema.GroupVersionResource
	err error
}

// await returns when each object of a phase is ready, by one watch for each kind, for
// their pods, and for their endpoints if they are asked for. how says what was missing.
func (d *Driver) await(ctx context.Context, l *lease, items []item) (how string, err error) {
	v := view{known: map[schema.GroupVersionResource]map[string]*unstructured.Unstructured{}, missed: map[schema.GroupVersionResource]bool{}}
	for _, i := range items {
		if i.Wait == bundle.WaitNone || i.known().readyAtOnce {
			continue
		}
		v.missed[i.gvr()] = true
		if more, needed := i.judgedBy(); needed {
			v.missed[more] = true
		}
	}
	if len(v.missed) == 0 {
		return "", nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan news)
	for gvr := range v.missed {
		go d.follow(ctx, l, gvr, changes)
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	how = "waiting"
	for {
		select {
		case <-ctx.Done():
			return how, ctx.Err()
		case n := <-changes:
			if n.err != nil {
				return how, n.err
			}
			v.take(n)
		case <-again.C:
		}
		if len(v.missed) > 0 {
			continue
		}
		var p progress
		if p = v.judge(items, time.Now()); p.verdict == ready {
			return "", nil
		}
		how = p.text
		if p.verdict == failed {
			return how, &FailedError{Bundle: l.Set.String(), Text: "phase " + items[0].Phase + ": " + how}
		}
	}
}

// follow tells what becomes of the bundle's objects of one kind until ctx ends.
func (d *Driver) follow(ctx context.Context, l *lease, gvr schema.GroupVersionResource, out chan<- news) {
	selector := d.selector(l)
	changes := d.Kube.Objects(gvr, l.Namespace).Watch(kube.Selection{Labels: selector}, "")
	defer changes.Stop()
	for {
		n := news{of: gvr}
		n.err = safely.Do(func() (err error) {
			n.Change, err = changes.Next(ctx)
			return err
		})
		if ctx.Err() != nil {
			return
		}
		if kube.Is(n.err, kube.Denied) && gvr == podsGVR { // they are only looked at for their reason
			d.Log.Warnf("why a pod waits cannot be told: %v", n.err)
			n.Change, n.err = kube.Change{Listed: true}, nil
			select {
			case out <- n:
			case <-ctx.Done():
			}
			return
		}
		select {
		case out <- n:
		case <-ctx.Done():
			return
		}
		if n.err != nil {
			return
		}
	}
}

func (v view) take(n news) {
	switch {
	case n.Listed:
		delete(v.missed, n.of)
		v.known[n.of] = map[string]*unstructured.Unstructured{}
		for i := range n.All {
			v.known[n.of][n.All[i].GetName()] = &n.All[i]
		}
	case n.Gone:
		delete(v.known[n.of], n.Object.GetName())
	default:
		v.known[n.of][n.Object.GetName()] = n.Object
	}
}

// judge is the worst of the phase's objects, with all that is waited for in its text.
func (v view) judge(items []item, now time.Time) progress {
	worst := progress{verdict: ready}
	var texts []string
	for _, i := range items {
		if i.Wait == bundle.WaitNone || i.known().readyAtOnce {
			continue
		}
		p := v.of(i, now)
		if p.verdict == ready {
			continue
		}
		text := i.text(p)
		if p.verdict == failed {
			return progress{failed, text}
		}
		worst.verdict = waiting
		texts = append(texts, text)
	}
	worst.text = strings.Join(texts, "; ")
	return worst
}

// of judges one object, with the reason of its pods.
func (v view) of(i item, now time.Time) progress {
	u := v.known[i.gvr()][i.Name]
	p := readiness(u, i.Wait)
	if p.verdict == ready && i.Kind == "Service" && i.Wait == bundle.WaitEndpoints && !v.answers(i.Name) {
		p = progress{waiting, "no endpoint is ready"}
	}
	if p.verdict == waiting && u != nil {
		p = v.withPods(p, u, now)
	}
	return p
}

// text is what a person reads of an object: "deployment s: 1 of 2 available".
func (i item) text(p progress) string { return join(strings.ToLower(i.Kind)+" "+i.Name, p.text) }

// withPods adds why the pods of a workload are not ready.
func (v view) withPods(p progress, u *unstructured.Unstructured, now time.Time) progress {
	if u.GetKind() == "Pod" {
		if why, fatal := trouble(u, now); fatal {
			return progress{failed, strings.TrimPrefix(why, "pod "+u.GetName()+": ")}
		} else if why != "" {
			return progress{waiting, strings.TrimPrefix(why, "pod "+u.GetName()+": ")}
		}
		return p
	}
	reason := ""
	for _, pod := range v.known[podsGVR] {
		if !madeBy(pod, u) || pod.GetDeletionTimestamp() != nil {
			continue
		}
		why, fatal := trouble(pod, now)
		if fatal {
			return progress{failed, join(p.text, why)}
		}
		if why != "" && (reason == "" || why < reason) {
			reason = why
		}
	}
	p.text = join(p.text, reason)
	return p
}

// answers tells whether a Service has an endpoint that is ready.
func (v view) answers(service string) bool {
	for _, slice := range v.known[slicesGVR] {
		if slice.GetLabels()["kubernetes.io/service-name"] != service {
			continue
		}
		endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, e := range endpoints {
			e, _ := e.(map[string]any)
			// Nothing told counts as ready (discovery.k8s.io/v1).
			if is, told, _ := unstructured.NestedBool(e, "conditions", "ready"); is || !told {
				return true
			}
		}
	}
	return false
}
