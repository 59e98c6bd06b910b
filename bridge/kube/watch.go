package kube

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/safely"
)

const (
	// watchLife bounds one watch, so that one whose server died silently is noticed.
	watchLife = 60 * time.Second
	// steady is how long a watch has to last for the next pause to be short again, and for
	// the next watch to begin where it ended.
	steady = 5 * time.Second
)

// Watch follows the objects that a selection chooses. It never polls: it lists,
// watches from there, and resumes after the last change when a watch ends. It lists again
// when a watch failed, did not start, or is too far behind (410). For use by a single
// goroutine.
type Watch struct {
	objects *Objects
	chosen  Selection // its selectors
	version string    // behind which the next watch begins; "": a list comes first
	stream  watch.Interface
	opened  time.Time // when stream was
	failed  bool      // a pause comes first
	pauses  Pauses
}

// Watch starts after a version that was read; "" starts with a list. It sends nothing.
func (o *Objects) Watch(s Selection, version string) *Watch {
	return &Watch{objects: o, chosen: Selection{Labels: s.Labels, Fields: s.Fields}, version: version}
}

// Change is one object that came, changed or went, or all objects as they are now.
type Change struct {
	Object *unstructured.Unstructured
	Gone   bool // Object is

	Listed bool
	All    []unstructured.Unstructured // if Listed
}

// Next blocks until there is a change. The error is ctx's, or an API error that a retry
// will not fix.
func (w *Watch) Next(ctx context.Context) (Change, error) {
	for {
		if w.failed {
			if err := w.pauses.Wait(ctx); err != nil {
				return Change{}, err
			}
			w.failed = false
		}
		switch {
		case w.stream != nil:
			change, err := w.receive(ctx)
			if err != nil || change.Object != nil {
				return change, err
			}
		case w.version == "":
			return w.list(ctx)
		default:
			if err := w.open(ctx); err != nil {
				return Change{}, err
			}
		}
	}
}

// Stop ends the watch.
func (w *Watch) Stop() {
	if w.stream != nil {
		w.stream.Stop()
		w.stream = nil
	}
}

func (w *Watch) list(ctx context.Context) (Change, error) {
	all, version, err := w.objects.list(ctx, w.chosen)
	switch {
	case ctx.Err() != nil:
		return Change{}, ctx.Err()
	case err != nil:
		return Change{}, err
	}
	w.version = version
	return Change{Listed: true, All: all}, nil
}

// receive waits for a change. It returns none when the watch ended.
func (w *Watch) receive(ctx context.Context) (Change, error) {
	over := time.NewTimer(time.Until(w.opened.Add(watchLife + 5*time.Second)))
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return Change{}, ctx.Err()
		case <-over.C:
			w.end(false)
			return Change{}, nil
		case event, ok := <-w.stream.ResultChan():
			object, isObject := event.Object.(*unstructured.Unstructured)
			if !ok || !isObject || event.Type == watch.Error {
				w.objects.client.noteWatchEnd(w.opened)
				// Without an error it was cut, or ended by its time limit.
				w.end(!ok && time.Since(w.opened) > steady)
				return Change{}, nil
			}
			w.version = object.GetResourceVersion()
			if event.Type == watch.Bookmark {
				continue
			}
			w.pauses.Reset()
			return Change{Object: object, Gone: event.Type == watch.Deleted}, nil
		}
	}
}

// end is the end of one watch. If the next one is to begin with a list, a server that
// ends every watch at once is asked all the same what became of the objects.
func (w *Watch) end(resume bool) {
	if time.Since(w.opened) > steady {
		w.pauses.Reset()
	}
	w.Stop()
	w.failed = true
	if !resume {
		w.version = ""
	}
}

// open starts a watch behind the version that was seen last. The error is one that
// another watch will meet too.
func (w *Watch) open(ctx context.Context) error {
	what := "watch " + w.objects.named(w.chosen)
	seconds := int64(watchLife / time.Second)
	type begun struct {
		stream watch.Interface
		err    error
	}
	answer := make(chan begun, 1)
	// The context of a watch lives as long as the watch. It is neither the time-out for
	// its beginning nor ctx, which is one Next's patience: Stop ends it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		var got begun
		got.err = safely.Do(func() (err error) {
			got.stream, err = w.objects.api.Watch(life, metav1.ListOptions{
				LabelSelector: w.chosen.Labels, FieldSelector: w.chosen.Fields, ResourceVersion: w.version, TimeoutSeconds: &seconds, AllowWatchBookmarks: true,
			})
			return err
		})
		answer <- got
	}()
	late := time.NewTimer(w.objects.client.requestTimeout)
	defer late.Stop()
	w.opened = time.Now()
	select {
	case got := <-answer:
		if got.err == nil {
			w.stream = &cancelled{got.stream, cancel}
			return nil
		}
		class := Classify(got.err)
		if class == Denied && !w.objects.client.starting() || class == Final {
			cancel()
			return &RequestError{What: what, Group: w.objects.group, Tries: 1, Err: got.err}
		}
		w.objects.client.log.Warnf("%s: %s", what, Reason(got.err))
	case <-late.C:
		w.objects.client.log.Warnf("%s: no answer in time", what)
	case <-ctx.Done():
		cancel()
		return ctx.Err()
	}
	cancel()
	w.end(false)
	return nil
}

// cancelled is a watch that ends its own context with itself.
type cancelled struct {
	watch.Interface
	cancel context.CancelFunc
}

func (c *cancelled) Stop() {
	c.cancel()
	c.Interface.Stop()
}
