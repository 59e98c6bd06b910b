package reconcile

import (
	"context"
	"fmt"
	"slices"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// Workflows is the duty of #DW lines.
type Workflows struct {
	// Open makes the driver; nil where Kubernetes has no DWS.
	Open  func(context.Context) (*workflow.Driver, error)
	Slurm slurm.Commands
	Local workflow.Files
}

// List returns the Workflows, those that DWS is done with first and those that it is
// slow to end last, and the files of jobs without one.
func (w Workflows) List(ctx context.Context) ([]Object, error) {
	driver, err := w.Open(ctx)
	if err != nil {
		return nil, err
	}
	var objects []Object
	seen := map[uint32]bool{}
	if driver != nil {
		all, err := driver.List(ctx)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(all, func(a, b workflow.Left) int { return rank(a) - rank(b) })
		for _, l := range all {
			seen[l.JobID] = true
			objects = append(objects, Object{Name: l.Name(), JobID: l.JobID, State: l.State, Made: l.Made, Finished: l.TornDown,
				Remove: func(ctx context.Context) error { return w.remove(ctx, driver, l) }})
		}
	}
	files, err := w.Local.Jobs()
	for _, f := range files {
		if !seen[f.ID] {
			objects = append(objects, Object{Name: fmt.Sprintf("files of job %d in %s", f.ID, w.Local), JobID: f.ID, Made: f.Made,
				Remove: func(context.Context) error { return w.Local.RemoveJob(f.ID) }})
		}
	}
	return objects, err
}

func rank(l workflow.Left) int {
	switch {
	case l.TornDown:
		return 0
	case l.State != string(workflow.Teardown):
		return 1
	}
	return 2
}

func (w Workflows) remove(ctx context.Context, driver *workflow.Driver, l workflow.Left) error {
	if err := driver.Dispose(ctx, l); err != nil {
		return err
	}
	if err := w.Local.RemoveJob(l.JobID); err != nil {
		return err
	}
	if !l.CannotRun {
		return nil
	}
	// Slurm gave up the teardown that would have ended the job, and keeps it pending.
	jobs, err := w.Slurm.Lookup(ctx, l.JobID)
	if err != nil || !jobs[l.JobID].Waiting() {
		return err
	}
	return w.Slurm.Cancel(ctx, l.JobID)
}
