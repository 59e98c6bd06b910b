package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// observer watches all Workflows, independently of whoever drives them, and notes when it
// sees what.
type observer struct {
	stop func()

	mu      sync.Mutex
	changed chan struct{} // closed and made again at each event
	seen    map[string]*history
	err     error
}

// history is what was seen of one Workflow.
type history struct {
	states map[string]*span // by desired state
	delete span
	gone   bool
}

// span is a time in which DWS works: asked for until done. done is 0 until then.
type span struct {
	asked, done time.Duration
	entered     bool // DWS has taken it up
	stamp       time.Time
}

func observe(ctx context.Context, workflows dynamic.ResourceInterface) (*observer, error) {
	list, err := workflows.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	watcher, err := workflows.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		cancel()
		return nil, err
	}
	o := &observer{changed: make(chan struct{}), seen: map[string]*history{}}
	o.stop = func() {
		cancel()
		watcher.Stop()
	}
	go o.follow(ctx, watcher)
	return o, nil
}

// follow ends with the watch. The server ends one after half an hour or more, which is longer
// than a run.
func (o *observer) follow(ctx context.Context, watcher watch.Interface) {
	for event := range watcher.ResultChan() {
		at := monotonic()
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		w, err := dwssim.FromUnstructured(object)
		o.mu.Lock()
		if err != nil {
			o.err = err
		} else {
			o.note(at, event.Type, w)
		}
		close(o.changed)
		o.changed = make(chan struct{})
		o.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if ctx.Err() == nil {
		o.err = fmt.Errorf("the observer's watch ended")
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observer) note(at time.Duration, kind watch.EventType, w *dwssim.Workflow) {
	h := o.seen[w.Name]
	if h == nil {
		h = &history{states: map[string]*span{}}
		o.seen[w.Name] = h
	}
	if kind == watch.Deleted {
		h.delete.done, h.gone = at, true
		return
	}
	if w.DeletionTimestamp != nil && h.delete.asked == 0 {
		h.delete.asked = at
	}
	state := h.states[w.Spec.DesiredState]
	if state == nil {
		state = &span{asked: at}
		h.states[w.Spec.DesiredState] = state
	}
	state.entered = state.entered || w.Status.State == w.Spec.DesiredState
	if state.done == 0 && dwssim.Ready(w.Spec.DesiredState)(w) {
		state.done = at
		if w.Status.ReadyChange != nil {
			state.stamp = w.Status.ReadyChange.Time
		}
	}
}

// work returns the spans in which DWS worked on a Workflow that is gone. They do not overlap,
// since a state is asked for when the one before is done.
func (o *observer) work(ctx context.Context, name string) ([]span, error) {
	h, err := o.await(ctx, name, func(h *history) bool { return h.gone })
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var spans []span
	if h.delete.asked != 0 { // else it had no finalizer, and was gone at once
		spans = append(spans, h.delete)
	}
	for state, s := range h.states {
		if s.done == 0 {
			return nil, fmt.Errorf("workflow %s: %s was asked for and not seen ready", name, state)
		}
		spans = append(spans, *s)
	}
	return spans, nil
}

// busy is how much of the time from begin to end lies in the spans.
func busy(spans []span, begin, end time.Duration) time.Duration {
	var sum time.Duration
	for _, s := range spans {
		sum += max(0, min(end, s.done)-max(begin, s.asked))
	}
	return sum
}

// entered waits until DWS has taken a state up.
func (o *observer) entered(ctx context.Context, name, state string) error {
	_, err := o.await(ctx, name, func(h *history) bool { return h.states[state] != nil && h.states[state].entered })
	return err
}

// ready waits until a state is done, and says when that was seen.
func (o *observer) ready(ctx context.Context, name, state string) (span, error) {
	h, err := o.await(ctx, name, func(h *history) bool { return h.states[state] != nil && h.states[state].done != 0 })
	if err != nil {
		return span{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return *h.states[state], nil
}

// patience bounds each wait of the bench: whatever takes longer cannot be measured.
const patience = 30 * time.Second

func (o *observer) await(ctx context.Context, name string, holds func(*history) bool) (*history, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		o.mu.Lock()
		h, changed, err := o.seen[name], o.changed, o.err
		met := h != nil && holds(h)
		o.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if met {
			return h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("workflow %s: what the bench waits for does not happen: %w", name, ctx.Err())
		}
	}
}
