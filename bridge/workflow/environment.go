package workflow

import (
	"context"
	"maps"
)

// Environment is what DWS tells a job that runs: the variables of its Workflow's
// status.env, the paths of its storage (DW_JOB_NAME) among them. DWS fills in the last
// of them at the end of PreRun, after Slurm has asked for the job's variables, so that
// the job's nodes ask for themselves. It is empty for a job that has no Workflow.
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
