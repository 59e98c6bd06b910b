// Package status tells what the bridge holds in Kubernetes, for one job or for the
// cluster. It only reads.
package status

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Object is one thing that is held for a job.
type Object struct {
	Name  string `json:"object"` // "service jobs/jupyter"
	State string `json:"state"`
	Error string `json:"error,omitempty"` // what DWS or its driver says is wrong
	// AgeSeconds is since the object was made; nil for a node, which was there before.
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
	looks := []func(context.Context) error{c.workflows}
	if len(o.Config.Services.Allow) > 0 {
		looks = append(looks, c.services)
	}
	if o.Config.Nodes.Reclaims() {
		looks = append(looks, c.nodes)
	}
	var failed []error
	for _, look := range looks {
		if err := look(ctx); err != nil {
			failed = append(failed, err)
			c.note("%v", err)
		}
	}
	if len(failed) == len(looks) {
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

func (c *collector) add(id uint32, user string, object Object) {
	if c.o.Job != 0 && c.o.Job != id {
		return
	}
	job := c.jobs[id]
	if job == nil {
		job = &Job{ID: id, Slurm: Unknown}
		c.jobs[id] = job
	}
	job.User = cmp.Or(job.User, user)
	job.Objects = append(job.Objects, object)
}

// list returns the objects of this cluster's jobs.
func (c *collector) list(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]unstructured.Unstructured, error) {
	selector := job.ClusterSelector(c.o.Config.Cluster)
	if c.o.Job != 0 {
		selector = job.Job{Cluster: c.o.Config.Cluster, ID: c.o.Job}.Selector()
	}
	return c.o.Kube.Objects(gvr, namespace).List(ctx, kube.Selection{Labels: selector})
}

// object describes one with what all have.
func (c *collector) object(u *unstructured.Unstructured, state, wrong string) {
	job, ours := job.Of(u, c.o.Config.Cluster)
	if !ours {
		return
	}
	if u.GetDeletionTimestamp() != nil {
		state += ", being deleted"
	}
	age := int64(max(0, c.o.Now.Sub(u.GetCreationTimestamp().Time)) / time.Second)
	c.add(job.ID, job.User, Object{
		Name:       strings.ToLower(u.GetKind()) + " " + u.GetNamespace() + "/" + u.GetName(),
		State:      state,
		Error:      wrong,
		AgeSeconds: &age,
	})
}

func (c *collector) workflows(ctx context.Context) error {
	const group = "dataworkflowservices.github.io"
	version, err := c.o.Kube.PreferredVersion(ctx, group)
	if kube.Is(err, kube.Unserved) {
		return nil // a site without DWS
	}
	if err != nil {
		return err
	}
	all, err := c.list(ctx, version.WithResource("workflows"), c.o.Config.Workflows.Namespace)
	for i := range all {
		state, wrong := workflowState(&all[i])
		c.object(&all[i], state, wrong)
	}
	return err
}

func (c *collector) services(ctx context.Context) error {
	cfg := &c.o.Config.Services
	namespaces := policy.Literal(cfg)
	if policy.Patterns(cfg) {
		namespaces = []string{""}
	}
	for _, namespace := range namespaces {
		for _, kind := range []struct {
			gvr   schema.GroupVersionResource
			state func(*unstructured.Unstructured, time.Time) string
		}{{service.Services, serviceState}, {service.EndpointSlices, endpointState}, {job.Leases, leaseState}} {
			all, err := c.list(ctx, kind.gvr, namespace)
			if err != nil {
				return err
			}
			for i := range all {
				c.object(&all[i], kind.state(&all[i], c.o.Now), "")
			}
		}
	}
	return nil
}

// nodes are those that jobs hold, where the credential may see them.
func (c *collector) nodes(ctx context.Context) error {
	held, err := node.New(c.o.Kube, &c.o.Config.Nodes, c.o.Config.Cluster, c.o.Log).Held(ctx)
	if kube.Is(err, kube.Denied) {
		c.note("nodes that jobs hold are not shown: this credential may not list nodes; kubectl get nodes -l %s=%s does", node.LabelHeldBy, c.o.Config.Cluster)
		return nil
	}
	for _, h := range held {
		for _, holder := range h.Holders {
			c.add(holder.JobID, "", Object{Name: "node " + h.Name, State: string(holder.Mode)})
		}
	}
	return err
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
