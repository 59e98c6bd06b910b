package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Env has the variables that DWS has set for the job so far.
type Env map[string]string

// Setup creates the job's Workflow if it is absent and brings it to Setup
// (slurm_bb_setup). A Workflow that an earlier run of the job, or an earlier job
// of the same id, left behind is torn down first.
func (d *Driver) Setup(ctx context.Context, job *Job, directives []string) (Env, error) {
	o, err := d.ensure(ctx, job, directives)
	if err != nil {
		return nil, err
	}
	if o, err = d.advance(ctx, o, Setup); err != nil {
		return nil, err
	}
	return o.Env, nil
}

func (d *Driver) ensure(ctx context.Context, job *Job, directives []string) (*object, error) {
	var pauses kube.Pauses
	for {
		o, err := d.get(ctx, job.Name())
		switch {
		case err != nil:
			return nil, err
		case o == nil:
			o, err := d.create(ctx, job, directives)
			if !kube.Is(err, kube.Exists) && !kube.Is(err, kube.Conflict) {
				return o, err
			}
			// Our own create whose answer was lost, or somebody else's: look again.
			if err := pauses.Wait(ctx); err != nil {
				return nil, err
			}
		case !d.ours(o):
			return nil, d.foreign(o)
		case !o.Deleting && o.Desired.index() >= 0 && o.Desired.before(DataIn) &&
			o.worst() != statusError && madeFor(o, job, directives):
			return o, nil
		default:
			d.log.Infof("%s is left from an earlier run (in %s): tearing it down first", o, o.Desired)
			if err := d.dispose(ctx, o, true); err != nil {
				return nil, fmt.Errorf("%s is left from an earlier run and cannot be removed: %w", o, err)
			}
		}
	}
}

// madeFor reports whether a Workflow is of this run of this job, by all that
// Slurm tells about it.
func madeFor(o *object, of *Job, directives []string) bool {
	told := of.Annotations()
	same := func(annotation string) bool {
		value, had := told[annotation], o.Annotations[annotation]
		return value == nil || had == "" || had == value
	}
	return o.OwnerUID == int64(of.UID) && slices.Equal(o.Directives, directives) &&
		same(job.AnnotationRestart) && same(job.AnnotationSubmitTime)
}

// Check asks DWS's admission about the directives in a dry run (slurm_bb_job_process).
func (d *Driver) Check(ctx context.Context, job *Job, directives []string) error {
	err := judged(d.workflows.Check(ctx, d.wanted(job, directives)), directives)
	if kube.Is(err, kube.Exists) {
		return nil // admission comes before the name is looked at
	}
	return err
}

// Create makes the Workflow at submission. Slurm calls no hook for a job that is
// cancelled while it is pending; reconcile then removes the Workflow.
func (d *Driver) Create(ctx context.Context, job *Job, directives []string) error {
	_, err := d.ensure(ctx, job, directives)
	return err
}

func (d *Driver) create(ctx context.Context, job *Job, directives []string) (*object, error) {
	u, err := d.workflows.Create(ctx, d.wanted(job, directives))
	if err != nil {
		return nil, judged(err, directives)
	}
	return parse(u), nil
}

// judged is the error of a create, in words for the user if DWS refused the directives.
func judged(err error, directives []string) error {
	var request *kube.RequestError
	if errors.As(err, &request) && kube.Classify(err) == kube.Refusal {
		return &job.Refused{Text: refusal(kube.Reason(request.Err), directives)}
	}
	return err
}

// Request asks for a state and returns at once (slurm_bb_data_in and
// slurm_bb_data_out where Slurm polls).
func (d *Driver) Request(ctx context.Context, job *Job, target State) error {
	o, err := d.find(ctx, job.Name())
	if err == nil {
		_, err = d.request(ctx, o, target, false)
	}
	return err
}

// Await brings the job's Workflow to a state and waits until DWS is done with it.
func (d *Driver) Await(ctx context.Context, job *Job, target State) (Env, error) {
	o, err := d.find(ctx, job.Name())
	if err == nil {
		o, err = d.advance(ctx, o, target)
	}
	if err != nil {
		return nil, err
	}
	return o.Env, nil
}

// Poll is Await for at most the configured busy wait, once the Workflow could be
// read (slurm_bb_test_data_in, slurm_bb_test_data_out).
func (d *Driver) Poll(ctx context.Context, job *Job, target State) (Env, error) {
	o, err := d.find(ctx, job.Name())
	if err == nil {
		o, err = d.request(ctx, o, target, false)
	}
	if err == nil && o.Desired == target {
		short, cancel := context.WithTimeout(ctx, d.cfg.Workflows.BusyWait.Std())
		defer cancel()
		o, err = d.await(short, o)
	}
	if err != nil {
		return nil, err
	}
	return o.Env, nil
}

// PreRun tells DWS the job's nodes and makes the storage ready on them
// (slurm_bb_pre_run).
func (d *Driver) PreRun(ctx context.Context, job *Job) (Env, error) {
	o, err := d.find(ctx, job.Name())
	if err == nil {
		o, err = d.advance(ctx, o, DataIn)
	}
	if err == nil && o.Desired.before(PreRun) {
		err = d.fillComputes(ctx, o, job.Nodes)
	}
	if err == nil {
		o, err = d.advance(ctx, o, PreRun)
	}
	if err != nil {
		return nil, err
	}
	return o.Env, nil
}

// fillComputes names the allocated nodes in the Computes object that DWS made
// beside the Workflow. DWS mounts storage on those and no others.
func (d *Driver) fillComputes(ctx context.Context, o *object, nodes []string) error {
	if len(nodes) == 0 {
		return fmt.Errorf("%s: Slurm does not say which nodes the job has", o)
	}
	if o.ComputesName == "" {
		return fmt.Errorf("%s has no Computes to list the job's nodes in: DWS would make the storage ready on no node", o)
	}
	data := make([]map[string]string, len(nodes))
	for i, node := range nodes {
		data[i] = map[string]string{"name": node}
	}
	body, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return err
	}
	var pauses kube.Pauses
	for {
		_, err := d.computes.Patch(ctx, o.ComputesName, body)
		if !kube.Is(err, kube.Conflict) || pauses.Wait(ctx) != nil {
			return err
		}
	}
}
