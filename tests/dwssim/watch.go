package dwssim

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// follower tells of all objects of a resource, in all namespaces.
type follower struct {
	resource dynamic.ResourceInterface
	what     string // in errors
	logf     func(format string, args ...any)
	// replace gets all objects that exist, at first and after each gap.
	replace func(items []unstructured.Unstructured)
	learn   func(*unstructured.Unstructured)
	forget  func(*unstructured.Unstructured)
}

// run lists, watches from there, and begins again when the watch breaks or is too old, until ctx
// ends.
func (f follower) run(ctx context.Context) {
	backoff := retryFirst
	for ctx.Err() == nil {
		started := time.Now()
		err := f.listAndWatch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > retryMax {
			backoff = retryFirst
		}
		f.logf("watch: %v; listing again", err)
		wait(ctx, backoff)
		backoff = min(2*backoff, retryMax)
	}
}

func (f follower) listAndWatch(ctx context.Context) error {
	listContext, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	list, err := f.resource.List(listContext, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", f.what, err)
	}
	f.replace(list.Items)
	version := list.GetResourceVersion()
	for {
		// The server ends a watch after this time, without harm.
		seconds := int64(5 * 60)
		watcher, err := f.resource.Watch(ctx, metav1.ListOptions{
			ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.what, err)
		}
		seen, err := f.follow(watcher)
		watcher.Stop()
		if err != nil {
			return err
		}
		if seen == "" {
			// A watch that ended without one event may be a server on its way down.
			return fmt.Errorf("watch %s: it ended", f.what)
		}
		version = seen
	}
}

// follow takes events until the watch ends, and returns the last resource version.
func (f follower) follow(watcher watch.Interface) (string, error) {
	version := ""
	for event := range watcher.ResultChan() {
		if event.Type == watch.Error {
			return version, fmt.Errorf("watch %s: %w", f.what, apierrors.FromObject(event.Object))
		}
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return version, fmt.Errorf("watch %s: unexpected %T", f.what, event.Object)
		}
		version = object.GetResourceVersion()
		switch event.Type {
		case watch.Added, watch.Modified:
			f.learn(object)
		case watch.Deleted:
			f.forget(object)
		}
	}
	return version, nil
}
