package workflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// find reads the job's Workflow, which has to be there and ours.
func (d *Driver) find(ctx context.Context, name string) (*object, error) {
	o, err := d.get(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case o == nil:
		return nil, &goneError{d.path(name)}
	case !d.ours(o):
		return nil, d.foreign(o)
	}
	return o, nil
}

// advance brings the Workflow to the target state, by way of the states between,
// and waits until DWS is done with it. A Workflow that is already past the target
// is left where it is: the hook is being run again.
func (d *Driver) advance(ctx context.Context, o *object, target State) (*object, error) {
	o, err := d.request(ctx, o, target, false)
	if err != nil || o.Desired != target {
		return o, err
	}
	return d.await(ctx, o)
}

// request asks for the target state and does not wait for it, only for the
// states before it. It goes by o as it was read, and reads it again where that
// turns out to be out of date.
func (d *Driver) request(ctx context.Context, o *object, target State, hurry bool) (*object, error) {
	for {
		step := target
		switch {
		case o.Desired == target && (!hurry || o.Hurry):
			return o, nil
		case o.Desired.index() < 0:
			return nil, fmt.Errorf("%s: unknown state %q", o, o.Desired)
		case target.before(o.Desired):
			return o, overtaken(o, target)
		case target != Teardown:
			done, err := d.await(ctx, o)
			if err != nil {
				return nil, err
			}
			faster := done.Desired != o.Desired // another hook was
			if o = done; faster {
				continue
			}
			step = o.Desired.next()
		}
		d.log.Infof("%s: %s -> %s", o, o.Desired, step)
		next, err := d.patch(ctx, o, step, hurry && step == Teardown)
		if kube.Is(err, kube.Conflict) || kube.Is(err, kube.NotFound) {
			next, err = d.reread(ctx, o)
		}
		if err != nil {
			return nil, err
		}
		o = next
	}
}

// reread reads a Workflow again. One that was recreated under the same name is
// another run's: this one is gone.
func (d *Driver) reread(ctx context.Context, o *object) (*object, error) {
	next, err := d.find(ctx, o.Name)
	if err == nil && next.UID != o.UID {
		return nil, &goneError{d.path(o.Name)}
	}
	return next, err
}

// overtaken judges a Workflow that is past the state that a hook wants. A hook
// that Slurm runs again after a restart finds that; Teardown is the end.
func overtaken(o *object, target State) error {
	if o.Desired == Teardown && target != Teardown {
		return fmt.Errorf("%s is in Teardown and cannot go to %s: somebody ended it", o, target)
	}
	return nil
}

func (d *Driver) foreign(o *object) error {
	return fmt.Errorf("%s exists and was not made by slurmk8s for cluster %s; it was left alone: delete it, or configure another workflows.namespace",
		o, d.cfg.Cluster)
}

// await blocks until DWS is done with the state that o is asked to be in. The error is a
// *placement.Refusal if the provider has no room, and no other place has room now.
func (d *Driver) await(ctx context.Context, o *object) (*object, error) {
	target, uid := o.Desired, o.UID
	var looked time.Time // for dead nodes
	began := time.Now()
	f := d.follow(o)
	defer f.release()
	for {
		switch {
		case o.UID != uid:
			return nil, fmt.Errorf("%s was deleted and created again by somebody else", o)
		case o.reached(target):
			return o, nil
		case o.Desired != target:
			return o, overtaken(o, target)
		}
		until, timeout := d.limit(ctx, o, target)
		late := !time.Now().Before(until)
		if o.worst() == statusError || o.withoutRoom() != "" {
			switch again, err := d.placedElsewhere(ctx, o); {
			case err != nil && !(late && noRoom(err)):
				return nil, err
			case !again:
				return nil, &DriverError{o.failure(), o}
			}
		}
		if late {
			return nil, timeout
		}
		if o.waitsForNodes(target) {
			look := earlier(stamp(o, annotationStateSince), began).Add(deadAfter)
			if !looked.IsZero() {
				look = looked.Add(deadAfter)
			}
			if !time.Now().Before(look) {
				d.leaveOutDead(ctx, o, target)
				looked = time.Now()
				look = looked.Add(deadAfter)
			}
			until = earlier(until, look)
		}
		patience, cancel := context.WithDeadline(ctx, until)
		next, err := f.next(patience)
		cancel()
		switch {
		case err == nil && next == nil:
			return nil, &goneError{d.path(o.Name)}
		case err == nil:
			o = next
		case ctx.Err() != nil:
			return nil, &waitError{waited(o, target, "when the hook's deadline passed"), o, ctx.Err()}
		case !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// setupPatience is how long the servers of a provider may take to make storage, if they say
// neither that they have no room nor why else it takes so long. It takes seconds, or for ever.
const setupPatience = 10 * time.Minute

// forever is later than any hook's deadline.
const forever = 100 * 24 * time.Hour

// limit is until when the state may go on as it is, and the error when that is
// over: by the state's configured timeout, or by the grace that a driver's
// TransientCondition has to recover.
func (d *Driver) limit(ctx context.Context, o *object, target State) (time.Time, error) {
	until, err := time.Now().Add(forever), error(nil)
	limit := d.timeout(target)
	if limit == 0 && target == Setup && len(o.Breakdowns) > 0 && o.worst() != statusError && o.withoutRoom() == "" {
		limit = setupPatience
	}
	if limit > 0 {
		until = stamp(o, annotationStateSince).Add(limit)
		err = &timeoutError{waited(o, target, "after "+limit.String()), o}
	}
	if o.worst() != statusTransient {
		if o.Annotations[annotationTransientSince] != "" && o.State == target {
			d.note(ctx, o, nil)
		}
		return until, err
	}
	if o.Annotations[annotationTransientSince] == "" {
		d.note(ctx, o, now())
	}
	grace := d.cfg.Workflows.TransientGrace.Std()
	if end := stamp(o, annotationTransientSince).Add(grace); end.Before(until) {
		until, err = end, &DriverError{o.failure(), o}
	}
	return until, err
}

// note keeps since when a condition lasts, or forgets it. Best effort: without
// it the grace begins again in the next hook.
func (d *Driver) note(ctx context.Context, o *object, since any) {
	if _, err := d.merge(ctx, o, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{annotationTransientSince: since}},
	}); err != nil {
		d.log.Warn(err)
	}
	annotations := map[string]string{}
	for k, v := range o.Annotations {
		annotations[k] = v
	}
	if since, ok := since.(string); ok {
		annotations[annotationTransientSince] = since
	} else {
		delete(annotations, annotationTransientSince)
	}
	o.Annotations = annotations
}

// stamp reads a time from an annotation. One that is missing or damaged counts
// as now: the limit begins when we first look.
func stamp(o *object, annotation string) time.Time {
	t, err := time.Parse(time.RFC3339, o.Annotations[annotation])
	if err != nil {
		return time.Now()
	}
	return t
}

func (d *Driver) timeout(s State) time.Duration {
	t := d.cfg.Workflows.Timeouts
	return map[State]slurmconf.Duration{
		Proposal: t.Proposal, Setup: t.Setup, DataIn: t.DataIn, PreRun: t.PreRun,
		PostRun: t.PostRun, DataOut: t.DataOut, Teardown: t.Teardown,
	}[s].Std()
}

// waited says what was waited for in vain, and what DWS says of it.
func waited(o *object, target State, when string) string {
	text := fmt.Sprintf("%s not done %s: ", target, when)
	switch {
	case o.State != target:
		return text + fmt.Sprintf("DWS has not started it (%s still in %s: is the DWS controller running?)", o, o.State)
	case o.Message != "":
		text += withError(o.Message, o.waitsFor())
		if target == Setup && len(o.Breakdowns) > 0 {
			text += ": look at \"slurmk8s storage\" and at the provider's controllers on its rabbits"
		}
		return text
	}
	for _, driver := range o.Drivers {
		if driver.Watch != target || driver.Status == "Completed" {
			continue
		}
		if driver.Directive >= 0 && driver.Directive < int64(len(o.Directives)) {
			return text + "DWS is still working on " + shorten(o.Directives[driver.Directive], 200)
		}
	}
	return text + cmp.Or(o.Status, "DWS gives no reason")
}
