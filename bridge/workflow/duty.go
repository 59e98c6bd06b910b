package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duty is what is kept for #DW lines: Workflows, and files on the controller.
type Duty struct{}

// Used is always true: nothing in slurmk8s.toml turns it off.
func (Duty) Used(*slurmconf.Config) bool { return true }

// Rights are those of the controller, and of nodes that tell jobs where their storage is.
func (Duty) Rights(cfg *slurmconf.Config) []duty.Rights {
	namespace := cfg.Workflows.Namespace
	return []duty.Rights{
		{Role: "slurmk8s-controller", Namespace: namespace, When: duty.BurstBuffer, Optional: []string{"events"}},
		{Role: "slurmk8s-node-workflows", Namespace: namespace, OnNodes: true, When: duty.NodesRead},
	}
}

// List returns the Workflows, those that DWS is done with first and those that it is
// slow to end last, and the files of jobs without one.
func (Duty) List(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	files := Files(h.Config.StateDir)
	objects, failed := workflows(ctx, h, files)
	left, err := files.Jobs()
	for _, f := range left {
		of := func(o duty.Object) bool { return o.JobID == f.ID }
		if (h.Job == 0 || h.Job == f.ID) && !slices.ContainsFunc(objects, of) && (failed == nil || errors.Is(failed, duty.ErrAbsent)) {
			objects = append(objects, duty.Object{Name: fmt.Sprintf("files of job %d in %s", f.ID, files), JobID: f.ID, Made: f.Made,
				Remove: func(context.Context) error { return files.RemoveJob(f.ID) }})
		}
	}
	return objects, errors.Join(failed, err)
}

func workflows(ctx context.Context, h duty.Host, files Files) ([]duty.Object, error) {
	driver, err := New(ctx, h.Config, h.Kube, h.Log)
	if err != nil {
		return nil, err
	}
	items, err := driver.workflows.List(ctx, kube.Selection{Labels: h.Selector()})
	if err != nil {
		return nil, err
	}
	var objects []duty.Object
	for i := range items {
		u := &items[i]
		object, ours := duty.FromKubernetes(u, h.Config.Cluster, "")
		if !ours || u.GetName() != (&Job{Job: job.Job{ID: object.JobID}}).Name() {
			h.Log.Warnf("%s has the labels of slurmk8s but not the name of a job: not changed", object.Name)
			continue
		}
		objects = append(objects, driver.kept(u, object, h, files))
	}
	slices.SortStableFunc(objects, func(a, b duty.Object) int { return slowness(a) - slowness(b) })
	return objects, nil
}

func slowness(o duty.Object) int {
	switch {
	case o.Finished:
		return 0
	case o.State != string(Teardown):
		return 1
	}
	return 2
}

// kept is what the duty knows of a Workflow.
func (d *Driver) kept(u *unstructured.Unstructured, object duty.Object, h duty.Host, files Files) duty.Object {
	o := parse(u)
	detail, wrong := o.detail()
	object.State, object.Detail, object.Wrong = string(o.Desired), detail+object.Detail, wrong
	object.Finished = o.reached(Teardown)
	cannotRun := object.Finished && o.failedBeforeRun(d.cfg.Workflows.TransientGrace.Std())
	object.Remove = func(ctx context.Context) error {
		err := d.dispose(ctx, o, false)
		d.disposed(ctx, o, object.JobID, err)
		if err == nil {
			err = files.RemoveJob(object.JobID)
		}
		if err != nil || !cannotRun {
			return err
		}
		// Slurm gave up the teardown that would have ended the job, and keeps it pending.
		jobs, err := h.Slurm().Lookup(ctx, object.JobID)
		if err != nil || !jobs[object.JobID].Waiting() {
			return err
		}
		return h.Slurm().Cancel(ctx, object.JobID)
	}
	return object
}

// detail is "PreRun, ready" or "DataIn, DriverWait"; wrong is the message of a driver's
// error.
func (o *object) detail() (detail, wrong string) {
	switch {
	case o.State == "":
		return string(o.Desired) + ", not started by DWS", ""
	case o.Desired != o.State:
		return fmt.Sprintf("%s, asked for %s", o.State, o.Desired), ""
	case o.Status == statusError || o.Status == statusTransient:
		return fmt.Sprintf("%s, %s", o.State, o.Status), o.Message
	case o.Ready:
		return string(o.State) + ", ready", ""
	}
	return fmt.Sprintf("%s, %s", o.State, o.Status), ""
}
