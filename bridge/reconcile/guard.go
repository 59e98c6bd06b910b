package reconcile

import (
	"context"
	"fmt"
	"time"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// Guard decides whether a job still needs what is kept for it. A job counts as over
// only on positive evidence: Slurm lists it in a state without need, or does not know
// it although its counter of job ids has passed it; and says so twice.
type Guard struct {
	Slurm slurm.Commands
	// MinAge is how long slurmctld must have been up, and an object must have
	// existed, before anything is removed.
	MinAge time.Duration
}

// confirmAfter is how long after its first answer Slurm is asked again.
const confirmAfter = time.Second

// Verdict is the guard's about one object.
type Verdict struct {
	Over bool
	// Why says why not: "job 12 is RUNNING".
	Why string
	// Stuck tells that waiting will not change it.
	Stuck bool
}

// Judge judges each object. An error means that nothing may be removed. The objects
// must have been listed before: a job exists before the first object that is made for
// it, so that a later list of jobs has the job if it lives.
func (g Guard) Judge(ctx context.Context, objects []duty.Object) ([]Verdict, error) {
	verdicts := make([]Verdict, len(objects))
	for i := range verdicts {
		verdicts[i].Over = true
	}
	var jobs map[uint32]slurm.Job
	for round := range 2 {
		ids := jobsOf(undecided(objects, verdicts))
		if len(ids) == 0 {
			return verdicts, nil
		}
		if round > 0 {
			if err := kube.Sleep(ctx, confirmAfter); err != nil {
				return nil, fmt.Errorf("nothing was touched: %w", err)
			}
		}
		var err error
		if jobs, err = g.Slurm.Lookup(ctx, ids...); err != nil {
			return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
		}
		for i, o := range objects {
			if job, known := jobs[o.JobID]; known && verdicts[i].Over && o.Needed(job) {
				verdicts[i] = Verdict{Why: fmt.Sprintf("job %d is %s", o.JobID, job.State)}
			}
		}
	}
	if len(undecided(objects, verdicts)) == 0 {
		return verdicts, nil
	}
	controller, err := g.Slurm.Controller(ctx)
	if err != nil {
		return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
	}
	return verdicts, g.check(controller, jobs, objects, verdicts)
}

// check takes back what slurmctld itself makes doubtful.
func (g Guard) check(controller slurm.Controller, jobs map[uint32]slurm.Job, objects []duty.Object, verdicts []Verdict) error {
	for i, o := range objects {
		_, known := jobs[o.JobID]
		switch {
		case !verdicts[i].Over:
		case !known && !controller.SameOrigin(o.JobID):
			verdicts[i] = Verdict{Stuck: true, Why: fmt.Sprintf("job %d was submitted to another cluster of the federation, "+
				"and Slurm no longer lists it; if it is over: \"slurmk8s cleanup --force %d\"", o.JobID, o.JobID)}
		case !known && !controller.Passed(o.JobID):
			return fmt.Errorf("nothing was touched: there is %s of job %d, but Slurm's next job id (NEXT_JOB_ID of \"scontrol show config\") is %d: "+
				"slurmctld lost its state, slurm_conf is that of another cluster, or job ids began again after MaxJobId; "+
				"if job %d is over, \"slurmk8s cleanup --force %d\" removes what it left", o.Name, o.JobID, controller.NextJob, o.JobID, o.JobID)
		case time.Since(controller.Started) < g.MinAge:
			verdicts[i] = Verdict{Why: fmt.Sprintf("slurmctld was started less than %s ago", g.MinAge)}
		case time.Since(o.Made) < g.MinAge: // without a time, slurmctld's own age must do
			verdicts[i] = Verdict{Why: fmt.Sprintf("%s is younger than %s", o.Name, g.MinAge)}
		}
	}
	return nil
}

// undecided are the objects that nothing speaks for so far.
func undecided(objects []duty.Object, verdicts []Verdict) []duty.Object {
	var rest []duty.Object
	for i, o := range objects {
		if verdicts[i].Over {
			rest = append(rest, o)
		}
	}
	return rest
}
