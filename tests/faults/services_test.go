package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
)

const (
	serviceName = "web"

	runDir      = "run"
	otherRunDir = "run-c2" // of the job's other node

	// renewInterval is the shortest that can be configured; the first renewal comes
	// in its second half.
	renewInterval = 5 * time.Second
)

// portOf is the job's port on its node: jobs share one address.
func portOf(c *Job) int { return 20000 + c.JobID%10000 }

// deadJob is a job that Slurm does not know any more.
func deadJob(c *Job) int { return c.JobID + 500000 }

// serviceSituation is a registration in one of its moments.
type serviceSituation struct {
	name string
	spec string // --k8s-register
	step string // "": batch
	// before is what is there already.
	before func(context.Context, *world, *Job) error
	// act is the moment that is disturbed.
	act func(*action) (*Outcome, error)
	// hook is what is disturbed where it is no step program.
	hook func(*world, *Job) Command
	// next is what follows; nil: act again.
	next     func(*world, *Job) Command
	deadline time.Duration
	// variant is one of another situation's: only what differs there is tried.
	variant bool
	tells   int      // Events of the moment that is disturbed
	want    []string // parts of the end state's objects, one each; nil: nothing is left
}

// What users ask for; PORT is portOf.
const (
	withProbe = "name=web,port=80:PORT"
	plain     = withProbe + ",ready=none"
	both      = plain + ",endpoints=both"
	allNodes  = plain + ",host=all"
	ofArray   = plain + ",host=array"
	twoOfThem = plain + ";name=db,port=5432:PORT,host=all,ready=none"
)

func specOf(c *Job, spec string) string {
	return strings.ReplaceAll(spec, "PORT", strconv.Itoa(portOf(c)))
}

func (w *world) serviceScenarios() []Scenario {
	var all []Scenario
	for _, s := range []serviceSituation{
		{name: "register", tells: 1, spec: withProbe, act: register, want: one("false")},
		{name: "register, then the epilog", variant: true, tells: 1, spec: withProbe, act: register, next: epilog},
		{name: "register, a dead job has the name", variant: true, tells: 2, spec: withProbe, before: left(both), act: register,
			want: append(one("false"), "Lease slurm-CLUSTER-DEAD ")},
		{name: "register, second node of host=all", variant: true, tells: 1, spec: withProbe + ",host=all", before: registered("c2", withProbe+",host=all"), act: register,
			want: append(one("false"), slice("c2", "true"))},
		{name: "register, endpoints=both", variant: true, tells: 1, spec: withProbe + ",endpoints=both", act: register, want: append(one("false"), "Endpoints web of slurm-CLUSTER-JOB ")},
		{name: "register, srun in a job that has it", variant: true, spec: plain, step: "0", before: registered("c1", plain), act: register, want: one("true")},
		{name: "ready", tells: 1, spec: withProbe, act: becomeReady, want: one("true")},
		{name: "renew", spec: plain, act: renew, deadline: 2 * renewInterval, want: one("true")},
		{name: "renew, somebody removed all", variant: true, tells: 1, spec: both, act: restore, deadline: 2 * renewInterval,
			want: append(one("true"), "Endpoints web of slurm-CLUSTER-JOB ")},
		{name: "deregister", spec: plain, act: deregister, next: epilog},
		{name: "deregister two services", variant: true, spec: twoOfThem, act: deregister, next: epilog},
		{name: "epilog of a killed step program", spec: both, act: afterKill, hook: epilog, next: reconcileNode},
		{name: "epilog, another node serves", variant: true, spec: allNodes, before: registered("c2", allNodes), act: afterKill, hook: epilog, next: reconcileNode,
			want: []string{slice("c2", "true"), "Lease slurm-CLUSTER-JOB ", "Service web of slurm-CLUSTER-JOB "}},
		{name: "register, another task shares it", variant: true, tells: 1, spec: withProbe + ",host=array", before: left(withProbe + ",host=array"), act: register,
			want: append(otherTask("of slurm-CLUSTER-DEAD of slurm-CLUSTER-JOB "), slice("c1", "false"), "Lease slurm-CLUSTER-JOB ")},
		{name: "deregister, another task shares it", variant: true, spec: ofArray, before: left(ofArray), act: deregister, next: epilog, want: otherTask("of slurm-CLUSTER-DEAD ")},
		{name: "epilog of a killed task, another one shares it", variant: true, spec: ofArray, before: left(ofArray), act: afterKill, hook: epilog, next: reconcileNode,
			want: otherTask("of slurm-CLUSTER-DEAD ")},
		{name: "reconcile on a node", variant: true, spec: plain, act: afterKill, hook: reconcileNode, next: reconcileNode, deadline: reconcileDeadline},
		{name: "reconcile on the controller", variant: true, before: left(both), hook: reconcileAll, next: reconcileAll, deadline: reconcileDeadline},
	} {
		all = append(all, w.serviceScenario(s))
	}
	return all
}

// one is a service of node c1.
func one(ready string) []string {
	return []string{slice("c1", ready), "Lease slurm-CLUSTER-JOB ", "Service web of slurm-CLUSTER-JOB "}
}

// otherTask is what a task of the same array has on node c2, and the Service.
func otherTask(owners string) []string {
	return []string{"EndpointSlice web.CLUSTER.DEAD.c2 of slurm-CLUSTER-DEAD ready=true ", "Lease slurm-CLUSTER-DEAD ", "Service web " + owners}
}

// slice is how the slice of a node begins. It is of the Lease that is there.
func slice(node, ready string) string {
	return "EndpointSlice web.CLUSTER.JOB." + node + " of slurm-CLUSTER-JOB ready=" + ready + " "
}

func (w *world) serviceScenario(s serviceSituation) Scenario {
	if s.deadline == 0 {
		s.deadline = hookDeadline
	}
	if s.step == "" {
		s.step = "batch"
	}
	scenario := Scenario{
		Name: s.name, Deadline: s.deadline, Waits: s.deadline > renewInterval,
		Setup: func(ctx context.Context, c *Job) error {
			if err := w.configureServices(c); err != nil {
				return err
			}
			if err := w.addNeighbours(ctx, c); err != nil || s.before == nil {
				return err
			}
			return s.before(ctx, w, c)
		},
		State: w.serviceEnd,
		Verify: func(_ *Job, _ *Outcome, end any) error {
			return wanted(s.want, end.(serviceEnd))
		},
		Foreign: w.foreignServices,
		Finally: func(ctx context.Context, c *Job) error { return w.endJob(ctx, c) },
		Cleanup: w.clearServices,
	}
	if s.variant {
		scenario.Only = telling
	}
	if s.hook != nil {
		scenario.Command = func(c *Job) Command { return s.hook(w, c) }
	}
	if s.act != nil {
		scenario.Perform = func(ctx context.Context, c *Job, p *process, begin func()) (*Outcome, error) {
			return s.act(&action{ctx: ctx, w: w, s: s, c: c, p: p, begin: begin})
		}
	}
	if s.next != nil {
		scenario.Next = func(c *Job) Command { return s.next(w, c) }
	}
	return scenario
}

// wanted compares what the objects begin with, in any order.
func wanted(want []string, end serviceEnd) error {
	if len(end.Objects) != len(want) {
		return fmt.Errorf("%d objects, want %d", len(end.Objects), len(want))
	}
	for _, text := range want {
		if !slices.ContainsFunc(end.Objects, func(o string) bool { return strings.HasPrefix(o, text) }) {
			return fmt.Errorf("no %s", text)
		}
	}
	if len(want) == 0 && len(end.Marks) > 0 {
		return fmt.Errorf("a mark is left")
	}
	return nil
}

// configureServices writes the files of each node of the job, and the controller's.
func (w *world) configureServices(c *Job) error {
	if err := configure(c); err != nil {
		return err
	}
	controller, err := os.ReadFile(c.Path("slurmk8s.toml"))
	if err != nil {
		return err
	}
	services := func(kubeconfig, dir string) string {
		return fmt.Sprintf(`
[services]
kubeconfig = %q
run_dir = %q
address = "subnet:%s/32"
renew_interval = %q
[[services.allow]]
users = ['*']
namespaces = [%q]
`, kubeconfig, c.Path(dir), w.address, renewInterval, c.Namespace)
	}
	none := c.Path("no.kubeconfig")
	node := strings.Replace(string(controller), c.Kubeconfig, none, 1)
	return errors.Join(
		c.Write("slurmk8s.toml", string(controller)+services(none, runDir)),
		c.Write("c1.toml", node+services(c.Kubeconfig, runDir)),
		c.Write("c2.toml", node+services(c.Kubeconfig, otherRunDir)),
	)
}

// registrar makes services as another node or job did before, past the proxy.
func (w *world) registrar(c *Job, id int, node string) *service.Registrar {
	return &service.Registrar{
		Kube: w.kube, Job: job.Job{Cluster: c.Cluster, ID: uint32(id), UID: 0, User: "root"},
		Array: uint32(c.JobID), Step: "batch", Node: node, Address: w.address, LeaseDuration: 3 * renewInterval,
		Alive: func(context.Context, service.Claim) (bool, error) { return false, nil },
		Log:   quiet(),
	}
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

func (w *world) registerNow(ctx context.Context, c *Job, job int, node, spec string) error {
	specs, err := service.Parse(specOf(c, spec), nil)
	if err != nil {
		return err
	}
	for i := range specs {
		specs[i].Namespace = c.Namespace
	}
	r := w.registrar(c, job, node)
	regs, err := r.Register(ctx, specs)
	for _, reg := range regs {
		if err == nil {
			err = r.Ready(ctx, reg)
		}
	}
	return err
}

// left is what a job that is over left behind on another node.
func left(spec string) func(context.Context, *world, *Job) error {
	return func(ctx context.Context, w *world, c *Job) error {
		return w.registerNow(ctx, c, deadJob(c), "c2", spec)
	}
}

// registered is the job's batch step, whose program lives.
func registered(node, spec string) func(context.Context, *world, *Job) error {
	return func(ctx context.Context, w *world, c *Job) error {
		records := service.Records(c.Path(map[string]string{"c1": runDir, "c2": otherRunDir}[node]))
		err := records.Add(context.Background(), uint32(c.JobID), "batch", []string{c.Namespace + "/" + serviceName}, func([]string) error { return nil })
		if err != nil {
			return err
		}
		return w.registerNow(ctx, c, c.JobID, node, spec)
	}
}

// epilog, reconcileNode and reconcileAll are what Slurm and an administrator run.
func epilog(w *world, c *Job) Command { return epilogOn(w, c, "c1") }

func epilogOn(w *world, c *Job, node string) Command {
	return Command{Argv: []string{w.program, "hook", "-0", "k8s_job_epilog"}, Fields: map[string]string{
		"CONFIG": c.Path(node + ".toml"), "JOB_ID": strconv.Itoa(c.JobID), "UID": "0", "GID": "0", "NODE": node,
		"RESTART_COUNT": "0", "DEADLINE_MS": strconv.FormatInt(hookDeadline.Milliseconds(), 10)}}
}

func reconcileNode(w *world, c *Job) Command {
	return Command{ForPeople: true, Env: []string{"PATH=/usr/bin:/bin", "SLURMD_NODENAME=c1"},
		Argv: []string{w.program, "reconcile", "--config", c.Path("c1.toml"), "--limit", reconcileLimit.String()}}
}

func reconcileAll(w *world, c *Job) Command {
	return Command{ForPeople: true, Lines: 2, Argv: []string{w.program, "reconcile", "--config", c.Path("slurmk8s.toml"), "--limit", reconcileLimit.String()}}
}

// endJob runs the epilogs of all nodes; then nothing may be left.
func (w *world) endJob(ctx context.Context, c *Job) error {
	for _, node := range []string{"c1", "c2"} {
		o, err := (&process{}).Run(ctx, epilogOn(w, c, node), hookDeadline)
		if err != nil {
			return err
		}
		if o.Code != CodeOK || len(o.Stdout) > 0 {
			return fmt.Errorf("epilog of %s: exit status %d: %q", node, o.Code, o.Stdout)
		}
	}
	end, err := w.serviceEnd(ctx, c)
	if err != nil {
		return err
	}
	left := end.(serviceEnd)
	if len(left.Marks) == 0 && !slices.ContainsFunc(left.Objects, func(o string) bool { return strings.Contains(o, "-JOB ") || strings.Contains(o, ".JOB.") }) {
		return nil // what is of a dead job is reconcile's
	}
	return fmt.Errorf("after the epilog is left: %v", left)
}
