// Package status tells what the bridge holds in Kubernetes, for one job or for the
// cluster. It only reads.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Object is one thing that is held for a job.
type Object struct {
	Name  string `json:"object"` // "service jobs/jupyter"
	State string `json:"state"`
	Error string `json:"error,omitempty"` // what DWS or its driver says is wrong
	// AgeSeconds is since the object was made or last renewed; nil where nothing tells.
	AgeSeconds *int64 `json:"age_seconds,omitempty"`
}

// Job is what is held for one job.
type Job struct {
	ID      uint32   `json:"id"`
	User    string   `json:"user,omitempty"`
	Slurm   string   `json:"slurm"`   // its state there; Unknown: Slurm does not know it any more
	Objects []Object `json:"objects"` // empty: there are none; nil (null): they were not asked for
}

// Unknown is the state of a job that Slurm has forgotten.
const Unknown = "unknown"

// Report is what is held for all jobs that were asked for.
type Report struct {
	Cluster string `json:"cluster"`
	Jobs    []Job  `json:"jobs"`
	// Notes are what could not be seen, and what is wrong beyond one job.
	Notes []string `json:"notes,omitempty"`
}

// Options say what to look at.
type Options struct {
	Config *slurmconf.Config
	Duties []duty.Duty
	Kube   *kube.Client
	Slurm  slurm.Commands
	Job    uint32 // 0: all
	Now    time.Time
	Log    *logrus.Entry
}

// Collect asks Kubernetes and Slurm. What one of them does not tell is noted; an
// error says that Kubernetes told nothing.
func Collect(ctx context.Context, o Options) (*Report, error) {
	c := &collector{o: o, jobs: map[uint32]*Job{}}
	host := duty.Host{Config: o.Config, Kube: o.Kube, Job: o.Job, Log: o.Log}
	var failed []error
	for _, d := range o.Duties {
		objects, err := d.List(ctx, host)
		switch {
		case errors.Is(err, duty.ErrHidden):
			c.note("%v", err)
		case err != nil && !errors.Is(err, duty.ErrAbsent):
			failed = append(failed, err)
			c.note("%v", err)
		}
		for _, object := range objects {
			c.add(object)
		}
		if d, has := d.(duty.Noted); has && o.Job == 0 && err == nil {
			notes, err := d.Notes(ctx, host)
			if err != nil {
				c.note("%v", err)
			}
			c.notes = append(c.notes, notes...)
		}
	}
	if len(failed) > 0 && len(failed) == len(o.Duties) {
		return nil, failed[0]
	}
	c.slurm(ctx)
	if open := workflow.Files(o.Config.StateDir).Breaker(o.Config.Workflows.Breaker.Std()); open.Tripped() {
		c.note("the API server did not answer a moment ago: only the syntax of new directives is checked for now (workflows.breaker)")
	}
	return c.report(), nil
}

type collector struct {
	o     Options
	jobs  map[uint32]*Job
	notes []string
}

func (c *collector) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *collector) add(object duty.Object) {
	id := object.JobID
	if c.o.Job != 0 && c.o.Job != id {
		return
	}
	job := c.jobs[id]
	if job == nil {
		job = &Job{ID: id, Slurm: Unknown}
		c.jobs[id] = job
	}
	job.User = cmp.Or(job.User, object.User)
	shown := Object{Name: object.Name, State: object.Detail, Error: object.Wrong}
	if !object.Made.IsZero() {
		age := int64(max(0, c.o.Now.Sub(object.Made)) / time.Second)
		shown.AgeSeconds = &age
	}
	job.Objects = append(job.Objects, shown)
}

// slurm says what Slurm knows of the jobs. The job that was asked for is reported
// also when nothing is held for it.
func (c *collector) slurm(ctx context.Context) {
	jobs, err := c.o.Slurm.Jobs(ctx, nil)
	if err != nil {
		c.note("states in Slurm are not known: %v", err)
		return
	}
	if c.o.Job != 0 && c.jobs[c.o.Job] == nil {
		c.jobs[c.o.Job] = &Job{ID: c.o.Job, Slurm: Unknown}
	}
	for id, job := range c.jobs {
		if known, ok := jobs[id]; ok {
			job.Slurm, job.User = known.State, cmp.Or(job.User, known.User)
		}
		if known, ok := jobs[id]; len(job.Objects) > 0 && (!ok || known.Over()) {
			c.note("job %d is over but holds objects: reconcile removes them, or \"slurmk8s cleanup %d\" now", id, id)
		}
	}
}

func (c *collector) report() *Report {
	for _, job := range c.jobs {
		if job.Objects == nil {
			job.Objects = []Object{}
		}
	}
	return &Report{Cluster: c.o.Config.Cluster, Jobs: c.sorted(), Notes: c.notes}
}

// sorted are the jobs by id.
func (c *collector) sorted() []Job {
	jobs := []Job{}
	for _, job := range c.jobs {
		jobs = append(jobs, *job)
	}
	slices.SortFunc(jobs, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return jobs
}
