package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
)

// jobTimeout bounds one job beyond its deadlines: setup, settling, cleanup.
const jobTimeout = 60 * time.Second

// Runner runs scenarios' jobs, as many at once as it has sites.
type Runner struct {
	upstream *rest.Config
	faults   []Fault
	// everyLasting tries each fault in mode always, not only those with Lasting.
	everyLasting bool
	// everyVariant tries each fault in variants too: Scenario.Only does not count.
	everyVariant bool
	// Runs that mostly wait and runs that mostly work have sites of their own:
	// many of the first fit beside few of the second, and a machine that is
	// overrun would make hooks miss deadlines that they keep.
	waiting, working chan Site
	jobID            atomic.Int64
	machine          machine
	// planned and done count jobs of all scenarios.
	planned, done atomic.Int64
}

// Progress says how far the runner is.
func (r *Runner) Progress() string {
	return fmt.Sprintf("%d of %d jobs", r.done.Load(), r.planned.Load())
}

// tries is how often a job that failed is tried on a machine that was too slow
// meanwhile to prove anything.
const tries = 5

// NewRunner makes a runner. Scenarios may be run on it in parallel: they share
// its sites.
func NewRunner(upstream *rest.Config, selected []Fault, waiting, working []Site) *Runner {
	r := &Runner{upstream: upstream, faults: selected, waiting: pool(waiting), working: pool(working)}
	r.jobID.Store(1000)
	return r
}

// Watch lets the runner notice that the machine, or the API server behind the
// proxies, is overrun: jobs that fail meanwhile are tried again. probe is an
// undisturbed request. It returns when ctx ends.
func (r *Runner) Watch(ctx context.Context, probe func(context.Context) error) {
	r.machine.watch(ctx, probe)
}

func pool(sites []Site) chan Site {
	c := make(chan Site, len(sites))
	for _, p := range sites {
		c <- p
	}
	return c
}

// Run runs the scenario undisturbed, to learn its requests and its end state,
// and then with every fault at every request. The error is of the undisturbed
// run or of the machinery; failed jobs are in the report.
func (r *Runner) Run(ctx context.Context, s Scenario) (*Report, error) {
	report := &Report{Scenario: s.Name}
	reference, requests, err := r.reference(ctx, s)
	if err != nil {
		return report, fmt.Errorf("%s: undisturbed run: %w", s.Name, err)
	}
	report.Requests, report.EndState = requests, reference
	plans := r.plans(s, requests)
	report.Results = make([]Result, len(plans))
	r.planned.Add(int64(len(plans)))
	var jobs sync.WaitGroup
	for i, plan := range plans {
		jobs.Go(func() {
			sites := r.working
			if plan.waits() || s.Waits {
				sites = r.waiting
			}
			site := <-sites
			defer func() { sites <- site }()
			defer r.done.Add(1)
			for range tries {
				r.machine.awaitIdle(ctx)
				begun := time.Now()
				result := r.job(ctx, s, plan, site, reference)
				result.Voided = report.Results[i].Voided
				report.Results[i] = result
				if len(result.Problems) == 0 || !r.machine.overloaded(begun) {
					return
				}
				report.Results[i].Voided++
			}
		})
	}
	jobs.Wait()
	return report, nil
}

// plans is every fault at every request where it is possible.
func (r *Runner) plans(s Scenario, requests []Request) []Plan {
	var plans []Plan
	for _, f := range r.faults {
		if s.Only != nil && !r.everyVariant && !slices.Contains(s.Only, f.Name) {
			continue
		}
		for _, q := range requests {
			if !f.Applies(q) {
				continue
			}
			plans = append(plans, Plan{Fault: f, At: q.Number})
			if !f.Kills && (f.Lasting || r.everyLasting) {
				plans = append(plans, Plan{Fault: f, At: q.Number, Mode: Always})
			}
		}
	}
	return plans
}

// reference runs the scenario twice without a fault: a scenario whose end state
// differs by itself cannot tell a defect. The longer list of requests counts,
// since how many reads a wait takes depends on who is faster.
func (r *Runner) reference(ctx context.Context, s Scenario) (string, []Request, error) {
	site := <-r.working
	defer func() { r.working <- site }()
	var states []string
	var longest []Request
	for range 2 {
		var state string
		var requests []Request
		var err error
		for range 2 * tries {
			r.machine.awaitIdle(ctx)
			begun := time.Now()
			if state, requests, err = r.undisturbed(ctx, s, site); err == nil || !r.machine.overloaded(begun) {
				break
			}
		}
		if err != nil {
			return "", nil, err
		}
		states = append(states, state)
		if len(requests) > len(longest) {
			longest = requests
		}
	}
	if states[0] != states[1] {
		return "", nil, fmt.Errorf("end state differs from run to run:\n%s\n%s", states[0], states[1])
	}
	if len(longest) == 0 {
		return "", nil, fmt.Errorf("the hook sent no request")
	}
	return states[0], longest, nil
}

func (r *Runner) undisturbed(ctx context.Context, s Scenario, site Site) (state string, requests []Request, err error) {
	t, err := r.open(ctx, s, Plan{}, site)
	if err != nil {
		return "", nil, err
	}
	defer t.close(&err)
	o, err := t.run()
	if err != nil {
		return "", nil, err
	}
	if wrong := o.insane(t.command, s.Deadline, readLog(t.job.LogFile())); len(wrong) > 0 {
		return "", nil, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	if o.Code != CodeOK {
		return "", nil, fmt.Errorf("exit status %d: %s", o.Code, o.message(t.command))
	}
	requests = t.proxy.Requests()
	if s.Next != nil {
		wrong, err := t.runNext()
		if err == nil && len(wrong) > 0 {
			err = errors.New(strings.Join(wrong, "; "))
		}
		if err != nil {
			return "", nil, fmt.Errorf("what follows it: %w", err)
		}
	}
	end, state, err := t.end()
	if err != nil {
		return "", nil, err
	}
	if s.Verify != nil {
		if err := s.Verify(t.job, o, end); err != nil {
			return "", nil, fmt.Errorf("%w; end state %s", err, state)
		}
	}
	foreign, err := s.Foreign(t.ctx, t.job)
	if err == nil && foreign != t.foreign {
		err = fmt.Errorf("changed a foreign object: %s", difference(t.foreign, foreign))
	}
	if err == nil && s.Finally != nil {
		err = s.Finally(t.ctx, t.job)
	}
	return state, requests, err
}

// job runs the hook with the fault, then again without, and judges both.
func (r *Runner) job(ctx context.Context, s Scenario, plan Plan, site Site, reference string) (result Result) {
	result = Result{Plan: plan}
	var err error
	defer func() {
		if err != nil {
			result.fail("test machinery: %v", err)
		}
	}()
	t, err := r.open(ctx, s, plan, site)
	if err != nil {
		return result
	}
	defer t.close(&err)

	o, err := t.run()
	if err != nil {
		return result
	}
	result.Struck = t.proxy.Struck()
	result.Took, result.Code, result.Message = o.Took, o.Code, o.message(t.command)
	for _, wrong := range o.insane(t.command, s.Deadline, readLog(t.job.LogFile())) {
		result.fail("%s", wrong)
	}
	result.judgeCode(s, o)
	t.proxy.Disarm()
	if s.Again != nil {
		if err = s.Again(t.job); err != nil {
			return result
		}
	}
	wrong, err := t.runNext()
	if err != nil {
		return result
	}
	for _, wrong := range wrong {
		result.fail("run again: %s", wrong)
	}
	_, state, err := t.end()
	if err != nil {
		return result
	}
	if state != reference {
		result.fail("run again: not the end state of an undisturbed run: %s", difference(reference, state))
	}
	foreign, err := s.Foreign(t.ctx, t.job)
	if err == nil && foreign != t.foreign {
		result.fail("changed a foreign object: %s", difference(t.foreign, foreign))
	}
	if err == nil && s.Finally != nil {
		if left := s.Finally(t.ctx, t.job); left != nil {
			result.fail("at the end: %v", left)
		}
	}
	if err == nil {
		err = t.proxy.Err()
	}
	return result
}

// trial is a job that is set up, and its proxy.
type trial struct {
	ctx     context.Context
	cancel  context.CancelFunc
	s       Scenario
	job     *Job
	command Command
	proxy   *Proxy
	process *process
	foreign string
}

func (r *Runner) open(ctx context.Context, s Scenario, plan Plan, site Site) (_ *trial, err error) {
	dir, err := os.MkdirTemp("", "slurmk8s-faults-")
	if err != nil {
		return nil, err
	}
	t := &trial{s: s, process: &process{}, job: &Job{Site: site, JobID: int(r.jobID.Add(1)), Dir: dir, Plan: plan, Deadline: s.Deadline}}
	t.ctx, t.cancel = context.WithTimeout(ctx, 2*s.Deadline+jobTimeout)
	defer func() {
		if err != nil {
			t.close(&err)
		}
	}()
	if t.proxy, err = Start(r.upstream, Options{Plan: plan, Kill: t.process.Kill}); err != nil {
		return nil, err
	}
	t.job.Kubeconfig = t.job.Path("kubeconfig")
	if err = t.proxy.WriteKubeconfig(t.job.Kubeconfig, site.Namespace); err != nil {
		return nil, err
	}
	if err = s.Setup(t.ctx, t.job); err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	if t.foreign, err = s.Foreign(t.ctx, t.job); err != nil {
		return nil, fmt.Errorf("foreign objects: %w", err)
	}
	if s.Command != nil {
		t.command = s.Command(t.job)
	}
	return t, nil
}

func (t *trial) run() (*Outcome, error) {
	if t.s.Perform != nil {
		return t.s.Perform(t.ctx, t.job, t.process, t.proxy.Begin)
	}
	t.proxy.Begin()
	return t.process.Run(t.ctx, t.command, t.s.Deadline)
}

// runNext runs what repairs a disturbed run, and lists what was wrong with it.
func (t *trial) runNext() (wrong []string, err error) {
	command := t.command
	var o *Outcome
	if t.s.Next != nil {
		command = t.s.Next(t.job)
		o, err = t.process.Run(t.ctx, command, t.s.Deadline)
	} else {
		o, err = t.run()
	}
	if err != nil {
		return nil, err
	}
	if o.Code != CodeOK {
		wrong = append(wrong, fmt.Sprintf("exit status %d: %s", o.Code, o.message(command)))
	}
	return append(wrong, o.insane(command, t.s.Deadline, readLog(t.job.LogFile()))...), nil
}

func (t *trial) end() (any, string, error) {
	if t.s.Await != nil {
		if err := t.s.Await(t.ctx, t.job); err != nil {
			return nil, "", fmt.Errorf("settle: %w", err)
		}
	}
	end, err := t.s.State(t.ctx, t.job)
	if err != nil {
		return nil, "", fmt.Errorf("end state: %w", err)
	}
	text, err := canonical(end)
	return end, text, err
}

// close cleans up; a cleanup that failed is an error unless there is one already.
func (t *trial) close(err *error) {
	if t.proxy != nil {
		t.proxy.Close()
	}
	if t.s.Cleanup != nil {
		if cleanup := t.s.Cleanup(t.ctx, t.job); cleanup != nil && *err == nil {
			*err = fmt.Errorf("cleanup: %w", cleanup)
		}
	}
	t.cancel()
	_ = os.RemoveAll(t.job.Dir)
}

// difference shows where two texts part.
func difference(before, after string) string {
	i := 0
	for i < len(before) && i < len(after) && before[i] == after[i] {
		i++
	}
	from := max(0, i-60)
	return fmt.Sprintf("...%s became ...%s", clip(before[from:], 200), clip(after[from:], 200))
}
