package workflow

import (
	"context"
	"maps"
)

// Environment returns the variables of status.env of a running job's Workflow, among them
// the paths of its storage (DW_JOB_NAME). DWS sets the last of them at the end of PreRun,
// after Slurm has asked for the job's variables, so the job's nodes ask again. It is empty
// for a job without a Workflow.
func (d *Driver) Environment(ctx context.Context, job *Job) (map[string]string, error) {
	o, err := d.get(ctx, job.Name())
	if err != nil {
		return nil, err
	}
	// Ids repeat: what an earlier job left tells this one nothing.
	if o == nil || !d.ours(o) || o.OwnerUID != int64(job.UID) {
		return map[string]string{}, nil
	}
	return maps.Clone(o.Env), nil
}
