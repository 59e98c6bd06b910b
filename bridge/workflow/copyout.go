package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// When a hook of the stage-out fails, Slurm tears the job's storage down (Flags=TeardownFailure),
// and data that was not copied goes with it. A copy that only takes long is another matter than
// one that failed: with workflows.data_out_timeout_action = "hold" the hook marks the Workflow,
// Teardown leaves it, and reconcile goes on with it where the hooks left off.

// annotationHeld is when a Workflow was marked so.
const annotationHeld = "slurmk8s.io/data-held"

// held reports that a Workflow is kept for data that is still to be copied.
func (o *object) held() bool {
	return o.Annotations[annotationHeld] != "" && o.Desired.before(Teardown) && !o.reached(DataOut)
}

// copiesOut reports whether DWS has data to copy after the job.
func (o *object) copiesOut() bool {
	return slices.ContainsFunc(o.Directives, func(directive string) bool { return command(directive) == "copy_out" })
}

// hold marks the Workflow of a job that has run if err says that PostRun or DataOut was not done in
// time, and returns err with what becomes of the data.
func (d *Driver) hold(ctx context.Context, err error) error {
	var timeout *timeoutError
	var wait *waitError
	var o *object
	switch {
	case errors.As(err, &timeout):
		o = timeout.about
	case errors.As(err, &wait) && errors.Is(err, context.DeadlineExceeded):
		o = wait.about
	}
	if o == nil || d.cfg.Workflows.DataOutTimeoutAction != slurmconf.DataOutHold || !o.copiesOut() ||
		o.Desired.before(PostRun) || !o.Desired.before(Teardown) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second/2)
	defer cancel()
	_, failed := d.merge(ctx, o, map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationHeld: now()}}})
	if failed != nil {
		return fmt.Errorf("%w; the data cannot be kept: %v", err, failed)
	}
	return fmt.Errorf("%w; the data is kept until it is copied", err)
}

// copyHeld goes on with a Workflow that was held. It returns the Workflow when there is nothing to
// copy any more, or when copying failed for good.
func (d *Driver) copyHeld(ctx context.Context, o *object) (*object, error) {
	done, err := d.advance(ctx, o, DataOut)
	var failed *DriverError
	if errors.As(err, &failed) {
		d.log.Errorf("%s: %v", o, err)
		return failed.about, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kept until its data is copied: %w", err)
	}
	return done, nil
}
