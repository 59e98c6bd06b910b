package workflow

import (
	"context"
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// TeardownResult says what was found when a job's Workflow was torn down.
type TeardownResult struct {
	// FailedBeforeRun: a driver failed for good in a state before the job could
	// start, so the job can never run.
	FailedBeforeRun bool
	// NotDestroyed says why a persistent instance that the job was to destroy stays; "": it
	// does not.
	NotDestroyed string
	// Held: the Workflow stays, since the job's data is not copied yet.
	Held bool
}

// Teardown tears the job's Workflow down from any state and deletes it when DWS is done
// (slurm_bb_job_teardown). A missing Workflow is success. A Workflow that slurmk8s did
// not make is left alone, and so is one that is held for its data.
func (d *Driver) Teardown(ctx context.Context, job *Job) (TeardownResult, error) {
	o, err := d.goOn(ctx, job, Teardown)
	if err == nil && o == nil {
		o, err = d.get(ctx, job.Name())
	}
	if err != nil || o == nil {
		return TeardownResult{}, err
	}
	if !d.ours(o) {
		d.log.Warn(d.foreign(o))
		return TeardownResult{}, nil
	}
	if o.held() {
		d.log.Warnf("%s: kept until its data is copied; reconcile goes on with it", o)
		return TeardownResult{Held: true}, nil
	}
	result := TeardownResult{FailedBeforeRun: o.failedBeforeRun(d.cfg.Workflows.TransientGrace.Std())}
	result.NotDestroyed, err = d.dispose(ctx, o, job.Hurry)
	return result, err
}

// dispose brings a Workflow to Teardown, deletes it only after that, and waits until
// it is gone. One that would destroy a persistent instance for a job that has not run
// is deleted as it is; so is one whose provider refuses to destroy the instance, which is
// another user's or in use: no Teardown of it ends. notDestroyed is what the provider said.
// A right to the token that cannot be revoked goes with the Workflow, its owner.
func (d *Driver) dispose(ctx context.Context, o *object, hurry bool) (notDestroyed string, err error) {
	if err := d.revokeToken(ctx, o); err != nil {
		d.log.Warnf("the job's nodes may read its token until its workflow is gone: %v", err)
	}
	d, end := d.withOneWatch()
	defer end()
	for !o.Deleting {
		notDestroyed, err = "", nil
		if o.destroysBeforeRun() {
			d.log.Warnf("%s: its job has not run: deleting it without Teardown, so that the persistent instance stays", o)
		} else {
			o, err = d.tearDown(ctx, o, hurry)
		}
		var failed *DriverError
		if errors.As(err, &failed) && failed.about.destroys() && failed.about.worst() == statusError {
			o, notDestroyed, err = failed.about, failed.Text, nil
			d.log.Warnf("%s: the persistent instance stays: %s", o, notDestroyed)
		}
		var next *object
		if err == nil {
			next, err = d.remove(ctx, o)
		}
		var gone *goneError
		if errors.As(err, &gone) { // or replaced by another run's Workflow
			return notDestroyed, nil
		}
		if err != nil {
			return notDestroyed, err
		}
		if next == nil {
			break
		}
		o = next
	}
	return notDestroyed, d.awaitGone(ctx, o)
}

// destroysBeforeRun reports that Teardown would destroy a persistent instance though the
// job has not run. Providers destroy it in Teardown whatever happened before, even if they
// refused the directive in Proposal. The job has run if PostRun was asked for; where
// Teardown was asked for already, it is decided.
func (o *object) destroysBeforeRun() bool { return o.Desired.before(PostRun) && o.destroys() }

// destroys reports whether a directive destroys a persistent instance.
func (o *object) destroys() bool {
	return slices.ContainsFunc(o.Directives, func(directive string) bool { return command(directive) == "destroy_persistent" })
}

// tearDown returns when DWS is done with the Workflow's Teardown. Until DWS takes a
// Teardown up it accepts another state in its place; then Teardown is asked for again.
func (d *Driver) tearDown(ctx context.Context, o *object, hurry bool) (*object, error) {
	var pauses kube.Pauses
	for {
		next, err := d.request(ctx, o, Teardown, hurry)
		if err == nil {
			next, err = d.await(ctx, next)
		}
		if err != nil || next.reached(Teardown) {
			return next, err
		}
		d.log.Warnf("%s: Teardown was replaced by %s before DWS started it: requesting it again", next, next.Desired)
		if err := pauses.Wait(ctx); err != nil {
			return nil, err
		}
		o = next
	}
}

// remove deletes this Workflow and no other of its name. That it is not there, or
// is another run's by now, is success. One that is deleted before its Teardown is deleted
// only as it was read: if it has changed, it is returned as it is now.
func (d *Driver) remove(ctx context.Context, o *object) (*object, error) {
	d.log.Infof("%s: delete", o)
	only := metav1.Preconditions{UID: &o.UID}
	if !o.reached(Teardown) {
		only.ResourceVersion = &o.ResourceVersion
	}
	var pauses kube.Pauses
	for {
		if err := d.workflows.Delete(ctx, o.Name, only); !kube.Is(err, kube.Conflict) {
			return nil, err
		}
		// The uid is another one's, it has changed, or the server lost a race against a change.
		now, err := d.get(ctx, o.Name)
		if err != nil || now == nil || now.UID != o.UID {
			return nil, err
		}
		if only.ResourceVersion != nil {
			return now, nil
		}
		if err := pauses.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// awaitGone waits for the finalizers of DWS and its drivers.
func (d *Driver) awaitGone(ctx context.Context, o *object) error {
	f := d.follow(o)
	defer f.release()
	for {
		next, err := f.next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return &waitError{o.String() + " is deleted but not gone: a finalizer holds it (is the DWS controller running?)", o, ctx.Err()}
		case err != nil:
			return err
		case next == nil || next.UID != o.UID:
			return nil
		}
	}
}
