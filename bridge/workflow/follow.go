package workflow

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// follower yields a Workflow's changes. It never polls: it watches, and reads
// the object again when a watch ended, failed or never began.
type follower struct {
	d       *Driver
	name    string
	version string // behind which the next watch begins
	w       watch.Interface
	opened  time.Time // when w was
	pauses  kube.Pauses
}

func (d *Driver) follow(o *object) *follower {
	return &follower{d: d, name: o.Name, version: o.ResourceVersion}
}

func (f *follower) stop() {
	if f.w != nil {
		f.w.Stop()
		f.w = nil
	}
}

// next blocks until the Workflow may have changed and returns it, or nil when it
// is gone. The error is ctx's, or one of the API that trying again will not mend.
func (f *follower) next(ctx context.Context) (*object, error) {
	if f.w == nil {
		if opened, err := f.open(ctx); err != nil {
			return nil, err
		} else if !opened {
			return f.reread(ctx)
		}
	}
	over := time.NewTimer(kube.WatchLife + 5*time.Second)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			f.stop()
			return f.reread(ctx)
		case event, ok := <-f.w.ResultChan():
			u, isObject := event.Object.(*unstructured.Unstructured)
			switch {
			case ok && event.Type == watch.Deleted:
				return nil, nil
			case ok && isObject && (event.Type == watch.Added || event.Type == watch.Modified):
				f.pauses.Reset()
				o := parse(u)
				f.version = o.ResourceVersion
				return o, nil
			case ok && event.Type == watch.Bookmark:
				continue
			}
			// Ended by the server's time limit, cut, or an error such as 410 Gone.
			f.d.kube.NoteWatchEnd(f.opened)
			f.stop()
			return f.reread(ctx)
		}
	}
}

// open starts a watch behind the version that was seen last. It reports false
// when the server did not take it within a request's time, and an error when it
// never will.
func (f *follower) open(ctx context.Context) (bool, error) {
	seconds := int64(kube.WatchLife / time.Second)
	begun, failed := make(chan watch.Interface, 1), make(chan error, 1)
	// The context of a watch lives as long as the watch. It is neither the time-out
	// for its beginning nor ctx, which is one next's patience: stop ends it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		var w watch.Interface
		err := safely.Do(func() (err error) {
			w, err = f.d.workflows.Watch(life, metav1.ListOptions{
				FieldSelector:       f.selector(),
				ResourceVersion:     f.version,
				TimeoutSeconds:      &seconds,
				AllowWatchBookmarks: true,
			})
			return err
		})
		if err != nil {
			failed <- err
			return
		}
		begun <- w
	}()
	late := time.NewTimer(f.d.cfg.Kubernetes.RequestTimeout.Std())
	defer late.Stop()
	select {
	case w := <-begun:
		f.w, f.opened = &cancelled{w, cancel}, time.Now()
		return true, nil
	case err := <-failed:
		if class := kube.Classify(err); class == kube.Denied && !f.d.kube.Starting() || class == kube.Final {
			cancel()
			return false, &kube.RequestError{What: "watch workflow " + f.d.path(f.name), Tries: 1, Err: err}
		}
		f.d.log.Warnf("watch workflow %s: %s", f.d.path(f.name), kube.Reason(err))
	case <-late.C:
		f.d.log.Warnf("watch workflow %s: no answer in time", f.d.path(f.name))
	case <-ctx.Done():
	}
	cancel()
	return false, nil
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

// steady is how long a watch has to last for the next pause to be short again.
const steady = 5 * time.Second

// reread pauses, ever longer when a server ends every watch at once, and reads
// the Workflow. It lists: only a list has a version that is new, behind which a
// watch can begin. The Workflow's own is as old as its last change, and the server
// answers 410 to that after some minutes.
func (f *follower) reread(ctx context.Context) (*object, error) {
	if !f.opened.IsZero() && time.Since(f.opened) > steady {
		f.pauses.Reset()
	}
	f.opened = time.Time{}
	if err := f.pauses.Wait(ctx); err != nil {
		return nil, err
	}
	var list *unstructured.UnstructuredList
	err := f.d.kube.Do(ctx, "list workflow "+f.d.path(f.name), func(ctx context.Context) (err error) {
		list, err = f.d.workflows.List(ctx, metav1.ListOptions{FieldSelector: f.selector()})
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	f.version = list.GetResourceVersion()
	if len(list.Items) == 0 {
		return nil, nil
	}
	return parse(&list.Items[0]), nil
}

func (f *follower) selector() string {
	return fields.OneTermEqualSelector("metadata.name", f.name).String()
}
