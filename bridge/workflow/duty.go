package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/hostfile"
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
	rights := []duty.Rights{
		{Role: "slurmk8s-controller", Namespace: namespace, When: duty.BurstBuffer, Optional: []string{"events"}},
		{Role: "slurmk8s-storage", When: duty.BurstBuffer, Optional: []string{duty.Everything}},
		{Role: "slurmk8s-storage-workflows", Namespace: namespace, When: duty.BurstBuffer, Optional: []string{duty.Everything}},
		{Role: "slurmk8s-node-workflows", Namespace: namespace, OnNodes: true, When: duty.NodesRead},
	}
	if cfg.Workflows.Token == slurmconf.TokenJob {
		rights = append(rights, duty.Rights{Role: "slurmk8s-storage-token", Namespace: namespace, When: duty.BurstBuffer})
	}
	return rights
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
	away, awayErr := files.JobsAway()
	for _, f := range away {
		if h.Job == 0 || h.Job == f.ID {
			objects = append(objects, duty.Object{Name: fmt.Sprintf("what job %d is kept away from, in %s", f.ID, files), JobID: f.ID, Made: f.Made,
				Remove: func(context.Context) error { return files.RemoveAway(f.ID) }})
		}
	}
	return objects, errors.Join(failed, err, awayErr)
}

// Kubeconfig is the credential of compute nodes.
func (Duty) Kubeconfig(cfg *slurmconf.Config) string { return cfg.Services.Kubeconfig }

// ListHere returns what this node keeps for jobs: what their epilogs did not remove.
func (Duty) ListHere(_ context.Context, h duty.Host) ([]duty.Object, error) {
	files := NodeFiles(h.Config.Services.RunDir)
	jobs, err := files.Jobs()
	var objects []duty.Object
	for _, j := range jobs {
		objects = append(objects, duty.Object{Name: fmt.Sprintf("storage files of job %d on node %s", j.ID, h.Node), JobID: j.ID, Made: j.Made,
			Allocation: true, Node: h.Node, Remove: func(context.Context) error { return files.Remove(j.ID) }})
	}
	held, heldErr := hostfile.Jobs(string(files), heldPrefix)
	for _, j := range held {
		objects = append(objects, duty.Object{Name: fmt.Sprintf("drain of node %s for the mounts of job %d", h.Node, j.ID), JobID: j.ID, Made: j.Made,
			Allocation: true, Node: h.Node, Remove: func(ctx context.Context) error { return files.release(ctx, h.Slurm(), h.Node, j.ID) }})
	}
	return objects, errors.Join(err, heldErr)
}

func workflows(ctx context.Context, h duty.Host, files Files) ([]duty.Object, error) {
	driver, err := New(ctx, h.Config, h.Kube, h.Log)
	if err != nil {
		return nil, err
	}
	items, err := driver.workflows.List(ctx, kube.Selection{Labels: h.Selector(), Trim: kube.Lean})
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
	held := o.held() && !h.Force
	if held {
		object.Detail += ", kept until its data is copied"
	}
	cannotRun := object.Finished && o.failedBeforeRun(d.cfg.Workflows.TransientGrace.Std())
	object.Remove = func(ctx context.Context) error {
		o := o
		if held {
			var err error
			if o, err = d.copyHeld(ctx, o); err != nil {
				return err
			}
		}
		notDestroyed, err := d.dispose(ctx, o, false)
		d.disposed(ctx, o, object.JobID, notDestroyed, err)
		if err == nil {
			err = files.RemoveJob(object.JobID)
		}
		if err != nil || !cannotRun {
			return err
		}
		if away, err := files.Away(object.JobID); err != nil || away != nil && len(away.Pending) > 0 {
			return err // other nodes may do better
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

// Tend does what the servers of a provider need from time to time: DWS waits again for nodes
// that live again, waiting jobs may have nodes again that are well, nodes are drained or lose a
// feature as workflows.health says, and Slurm's pool follows what is free. Where storage has no servers,
// or the credential may not see them, there is nothing to do.
func (Duty) Tend(ctx context.Context, h duty.Host) error {
	driver, err := New(ctx, h.Config, h.Kube, h.Log)
	if errors.Is(err, duty.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	topology, err := driver.topology(ctx)
	if kube.Is(err, kube.Denied) {
		h.Log.Debug(err)
		return nil
	}
	if err != nil || topology == nil {
		return err
	}
	files := Files(h.Config.StateDir)
	failed := []error{driver.EnableLiving(ctx), driver.readmit(ctx, topology, files)}
	taken, err := files.taken()
	failed = append(failed, err)
	if w := &h.Config.Workflows; err == nil && (w.UnmountTimeout > 0 || w.Health != slurmconf.HealthReport || len(taken) > 0) {
		failed = append(failed, driver.tendNodes(ctx, topology, files, taken)...)
	}
	if pool := h.Config.Workflows.Pool; pool != "" {
		failed = append(failed, files.WritePools(pool, topology.Rooms()))
	}
	return errors.Join(slices.DeleteFunc(failed, func(err error) bool {
		denied := kube.Is(err, kube.Denied) // doctor compares the rights
		if denied {
			h.Log.Warn(err)
		}
		return denied
	})...)
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
