package node

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// pageSize bounds one answer to a list.
const pageSize = 500

// news is what there is to know of a node's pods: all of them, or one that came,
// changed or went, or an error that trying again will not mend.
type news struct {
	all  []pod // if isAll
	one  pod
	gone bool // one is

	isAll bool
	err   error
}

// podWatch tells the pods of one node: a list, and one watch from there, and again a
// list whenever the watch ends.
type podWatch struct {
	b       *Bridge
	node    string
	version string
	out     chan<- news
}

// follow tells what becomes of the node's pods until ctx ends.
func (b *Bridge) follow(ctx context.Context, node string) <-chan news {
	out := make(chan news)
	w := &podWatch{b: b, node: node, out: out}
	go func() {
		defer close(out)
		if err := safely.Do(func() error { return w.run(ctx) }); err != nil {
			w.tell(ctx, news{err: err})
		}
	}()
	return out
}

// run lists and watches until ctx ends; the error is another one.
func (w *podWatch) run(ctx context.Context) error {
	var pauses kube.Pauses
	for {
		all, err := w.list(ctx)
		if err != nil {
			return err
		}
		if !w.tell(ctx, news{isAll: true, all: all}) {
			return nil
		}
		begun := time.Now()
		if err := w.watch(ctx); err != nil {
			return err
		}
		w.b.Kube.NoteWatchEnd(begun)
		if time.Since(begun) > steady {
			pauses.Reset()
		}
		if pauses.Wait(ctx) != nil {
			return nil
		}
	}
}

// steady is how long a watch has to last for the next pause to be short again.
const steady = 5 * time.Second

// tell reports false when nobody listens any more.
func (w *podWatch) tell(ctx context.Context, n news) bool {
	select {
	case w.out <- n:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *podWatch) selector() string {
	return fields.OneTermEqualSelector("spec.nodeName", w.node).String()
}

// list reads all pods of the node as they are now, not as a cache has them: a pod
// that was bound just before the node was closed has to be in it.
func (w *podWatch) list(ctx context.Context) ([]pod, error) {
	all := []pod{}
	options := metav1.ListOptions{FieldSelector: w.selector(), Limit: pageSize}
	for {
		var page *unstructured.UnstructuredList
		err := w.b.Kube.Do(ctx, "list pods of node "+w.node, func(ctx context.Context) (err error) {
			page, err = w.b.Kube.Dynamic.Resource(Pods).List(ctx, options)
			if options.Continue != "" && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) {
				page, err = nil, nil // the rest of the list is too old
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if page == nil {
			all, options.Continue = all[:0], ""
			continue
		}
		for i := range page.Items {
			all = append(all, readPod(&page.Items[i], w.b.Cfg))
		}
		w.version = page.GetResourceVersion()
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// watch tells changes until the watch ends for whatever reason. The error is one that
// another watch will meet too.
func (w *podWatch) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.open(ctx)
	if stream == nil {
		return err
	}
	defer stream.Stop()
	over := time.NewTimer(kube.WatchLife + 5*time.Second)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over.C:
			return nil
		case event, ok := <-stream.ResultChan():
			u, isObject := event.Object.(*unstructured.Unstructured)
			if !ok || !isObject || event.Type == watch.Error {
				return nil
			}
			if event.Type == watch.Bookmark {
				continue
			}
			if !w.tell(ctx, news{one: readPod(u, w.b.Cfg), gone: event.Type == watch.Deleted}) {
				return nil
			}
		}
	}
}

// open begins a watch behind the list; nil when the server did not take it within a
// request's time, with an error when it never will.
func (w *podWatch) open(ctx context.Context) (watch.Interface, error) {
	seconds := int64(kube.WatchLife / time.Second)
	type begun struct {
		stream watch.Interface
		err    error
	}
	// The context of a watch lives as long as the watch: it cannot bound its beginning.
	answer := make(chan begun, 1)
	go func() {
		var got begun
		got.err = safely.Do(func() (err error) {
			got.stream, err = w.b.Kube.Dynamic.Resource(Pods).Watch(ctx, metav1.ListOptions{
				FieldSelector: w.selector(), ResourceVersion: w.version, TimeoutSeconds: &seconds, AllowWatchBookmarks: true,
			})
			return err
		})
		answer <- got
	}()
	late := time.NewTimer(w.b.Kube.RequestTimeout())
	defer late.Stop()
	what := "watch pods of node " + w.node
	select {
	case got := <-answer:
		if got.err == nil {
			return got.stream, nil
		}
		if class := kube.Classify(got.err); class == kube.Denied && !w.b.Kube.Starting() || class == kube.Final {
			return nil, &kube.RequestError{What: what, Tries: 1, Err: got.err}
		}
		w.b.Log.Warnf("%s: %s", what, kube.Reason(got.err))
	case <-late.C:
		w.b.Log.Warnf("%s: no answer in time", what)
	case <-ctx.Done():
	}
	return nil, nil
}
