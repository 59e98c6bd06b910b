package workflow

import (
	"context"

	"k8s.io/apimachinery/pkg/fields"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// follower yields a Workflow's changes.
type follower struct{ *kube.Watch }

// follow begins behind the version that was read.
func (d *Driver) follow(o *object) follower {
	return follower{d.workflows.Watch(fields.OneTermEqualSelector("metadata.name", o.Name).String(), o.ResourceVersion)}
}

// next blocks until the Workflow may have changed and returns it, or nil when it
// is gone. The error is ctx's, or one of the API that trying again will not fix.
func (f follower) next(ctx context.Context) (*object, error) {
	change, err := f.Next(ctx)
	switch {
	case err != nil:
		return nil, err
	case change.Listed && len(change.All) > 0:
		return parse(&change.All[0]), nil
	case change.Object != nil && !change.Gone:
		return parse(change.Object), nil
	}
	return nil, nil
}
