package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/state"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// CleanupOptions say where one job's objects are looked for. A duty that is not
// there is nil.
type CleanupOptions struct {
	Driver     *workflow.Driver
	Sweeper    *service.Sweeper
	Namespaces []string // of services; "" is all
	Bridge     *node.Bridge
	Local      state.Dir
	Limit      time.Duration // for the Workflow's Teardown
	DryRun     bool          // only report
}

// ErrNodesHidden says that the credential may not see which nodes the job holds.
var ErrNodesHidden = errors.New("nodes are not looked at, since this credential may not list them: each gives itself back by \"slurmk8s reconcile\" there")

// Cleanup removes all that is held for one job, whatever Slurm says of it: the caller
// asked. One duty's error does not keep the others from being done.
func Cleanup(ctx context.Context, o CleanupOptions, id uint32) (results []Result, failed []error) {
	for _, duty := range []func(context.Context, uint32) ([]Result, error){o.workflow, o.services, o.nodes} {
		some, err := duty(ctx, id)
		results = append(results, some...)
		if err != nil {
			failed = append(failed, err)
		}
	}
	if !o.DryRun {
		if err := o.Local.RemoveJob(id); err != nil {
			failed = append(failed, fmt.Errorf("local files of job %d: %w", id, err))
		}
	}
	return results, failed
}

func (o CleanupOptions) workflow(ctx context.Context, id uint32) ([]Result, error) {
	if o.Driver == nil {
		return nil, nil
	}
	all, err := o.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.JobID != id {
			continue
		}
		result := Result{Object: l.Name(), JobID: id, State: l.State}
		if !o.DryRun {
			result.Err = o.Driver.Dispose(ctx, []workflow.Left{l}, o.Limit)[0]
		}
		return []Result{result}, nil
	}
	return nil, nil
}

func (o CleanupOptions) services(ctx context.Context, id uint32) (results []Result, err error) {
	if o.Sweeper == nil {
		return nil, nil
	}
	for _, namespace := range o.Namespaces {
		all, err := o.Sweeper.List(ctx, namespace)
		if err != nil {
			return results, err
		}
		for _, l := range all { // in the order in which they are to go
			if l.ID != id {
				continue
			}
			result := Result{Object: l.Object(), JobID: id}
			if !o.DryRun {
				result.Err = o.Sweeper.Remove(ctx, l)
			}
			results = append(results, result)
		}
	}
	return results, nil
}

func (o CleanupOptions) nodes(ctx context.Context, id uint32) (results []Result, err error) {
	if o.Bridge == nil {
		return nil, nil
	}
	held, err := o.Bridge.Held(ctx)
	if kube.Is(err, kube.Denied) {
		return nil, ErrNodesHidden
	}
	if err != nil {
		return nil, err
	}
	for _, h := range held {
		for _, holder := range h.Holders {
			if holder.JobID != id {
				continue
			}
			result := Result{Object: "hold of node " + h.Name, JobID: id}
			if !o.DryRun {
				result.Err = o.Bridge.Drop(ctx, h.Name, func(other node.Holder) bool { return other == holder })
			}
			results = append(results, result)
		}
	}
	return results, nil
}
