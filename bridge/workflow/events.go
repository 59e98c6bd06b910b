package workflow

import (
	"context"
	"errors"
	"fmt"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// What "kubectl describe workflow" shows of the bridge: why a hook failed on the
// Workflow, and that something else than the job's own hooks removed it. A hook that
// works tells nothing: it has no request to spare.
const (
	eventDriverFailed = "DriverFailed" // DWS or one of its drivers failed
	eventTimedOut     = "TimedOut"     // a state, or the hook, ran out of time
	eventRemoved      = "Removed"
)

func (d *Driver) tell(ctx context.Context, o *object, eventType, reason, text string) {
	d.events.Tell(ctx, kube.Object{
		APIVersion: d.version.String(), Kind: "Workflow", Namespace: o.Namespace, Name: o.Name, UID: o.UID,
	}, eventType, reason, text)
}

// TellFailure creates an Event on the Workflow if a hook failed because of it: a fatal
// error of a driver, or a state that was not reached in time. It takes no longer than an
// Event may.
func (d *Driver) TellFailure(ctx context.Context, hook string, err error) {
	var failed *DriverError
	var timeout *timeoutError
	var wait *waitError
	switch {
	case errors.As(err, &failed):
		d.tell(ctx, failed.about, kube.EventWarning, eventDriverFailed, hook+": "+err.Error())
	case errors.As(err, &timeout):
		d.tell(ctx, timeout.about, kube.EventWarning, eventTimedOut, hook+": "+err.Error())
	case errors.As(err, &wait):
		d.tell(ctx, wait.about, kube.EventWarning, eventTimedOut, hook+": "+err.Error())
	}
}

// disposed tells what became of a Workflow whose job is over.
func (d *Driver) disposed(ctx context.Context, o *object, job uint32, notDestroyed string, err error) {
	if err != nil {
		d.TellFailure(ctx, "slurmk8s", err)
		return
	}
	did := fmt.Sprintf("tore it down (it was in %s) and deleted it", o.Desired)
	if o.destroysBeforeRun() {
		did = fmt.Sprintf("deleted it without Teardown (it was in %s), so that the persistent instance stays", o.Desired)
	}
	if notDestroyed != "" {
		did = "deleted it, and the persistent instance stays: " + notDestroyed
	}
	d.tell(ctx, o, kube.EventNormal, eventRemoved,
		fmt.Sprintf("left by Slurm job %d of cluster %s: slurmk8s %s", job, d.cfg.Cluster, did))
}
