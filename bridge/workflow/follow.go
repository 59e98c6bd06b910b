package workflow

import (
	"context"
	"strconv"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// follower yields a Workflow's changes.
type follower struct {
	*kube.Watch
	name   string
	uid    types.UID
	from   uint64 // changes that are older than this version are no news
	shared bool   // by several waits: it outlives each
}

// follow begins behind the version that was read.
func (d *Driver) follow(o *object) *follower {
	f := d.watch
	if f == nil {
		f = &follower{}
	}
	if f.name != o.Name || f.uid != o.UID {
		f.end()
		f.Watch = d.workflows.Watch(kube.Selection{Fields: fields.OneTermEqualSelector("metadata.name", o.Name).String()}, o.ResourceVersion)
		f.name, f.uid = o.Name, o.UID
	}
	f.from = o.version()
	return f
}

// version is the resourceVersion as the number that it is for all that is kept in etcd;
// Kubernetes 1.35 promises that they can be compared (KEP-5504). One that is none is 0.
func (o *object) version() uint64 {
	n, _ := strconv.ParseUint(o.ResourceVersion, 10, 64)
	return n
}

// withOneWatch returns a driver whose waits for a Workflow share one watch, and what ends it.
func (d *Driver) withOneWatch() (sharing *Driver, end func()) {
	copied := *d
	copied.watch = &follower{shared: true}
	return &copied, copied.watch.end
}

// release is the end of one wait.
func (f *follower) release() {
	if !f.shared {
		f.end()
	}
}

func (f *follower) end() {
	if f.Watch != nil {
		f.Stop()
	}
}

// next blocks until the Workflow may have changed and returns it, or nil when it
// is gone. The error is ctx's, or one of the API that trying again will not fix.
//
// A watch that is shared has yet to tell what led to a change that a hook made, or to what it
// read, between two waits; that is passed over.
func (f *follower) next(ctx context.Context) (*object, error) {
	for {
		change, err := f.Next(ctx)
		switch {
		case err != nil:
			return nil, err
		case change.Listed && len(change.All) > 0:
			return parse(&change.All[0]), nil
		case change.Listed, change.Gone && change.Object.GetUID() == f.uid:
			return nil, nil
		case change.Gone:
			continue
		}
		if o := parse(change.Object); o.version() >= f.from {
			return o, nil
		}
	}
}
