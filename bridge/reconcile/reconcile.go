// Package reconcile repairs what a lost hook left behind: it compares the
// objects that the bridge made in Kubernetes with Slurm's jobs.
package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/state"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// Options say what to compare.
type Options struct {
	Driver *workflow.Driver
	Slurm  slurm.Commands
	Local  state.Dir
	Limit  time.Duration // how long asking may take, and then each Workflow's Teardown
	DryRun bool          // only report
	Log    *logrus.Entry
}

// Result is what became of one object.
type Result struct {
	Object string // "workflow slurm/bb12"
	JobID  uint32
	State  string // what it was in
	Err    error  // why it is still there; nil: it is gone, or would be
}

// Workflows ends the Workflows whose job is over: the job was cancelled before
// Slurm had a teardown to call, the API server was down during it, or it failed
// three times. It errs on the side of keeping: when Slurm does not answer,
// nothing is known of the jobs and nothing is touched.
func Workflows(ctx context.Context, o Options) ([]Result, error) {
	// First the Workflows, then the jobs: a job is there before its Workflow, so
	// one that is not in the later list is over.
	asking, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	all, err := o.Driver.List(asking)
	if err != nil {
		return nil, err
	}
	keptFiles, err := o.Local.Jobs()
	if err != nil {
		o.Log.Warn(err)
	}
	if len(all) == 0 && len(keptFiles) == 0 {
		return nil, nil
	}
	live, err := o.Slurm.LiveJobs(asking)
	if err != nil {
		return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
	}
	var over []workflow.Left
	var results []Result
	for _, l := range all {
		if !live[l.JobID] {
			over = append(over, l)
			results = append(results, Result{Object: l.Name(), JobID: l.JobID, State: l.State})
		}
	}
	if o.DryRun {
		return results, nil
	}
	for i, err := range o.Driver.Dispose(ctx, over, o.Limit) {
		results[i].Err = err
	}
	for _, id := range keptFiles {
		if !live[id] {
			if err := o.Local.RemoveJob(id); err != nil {
				o.Log.Warn(err)
			}
		}
	}
	return results, nil
}
