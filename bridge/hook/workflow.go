package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	bundles "slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// directives reads the #DW lines of the job script, as DWS wants them.
func (c *call) directives() ([]string, error) {
	if err := c.need(wire.KeyScript); err != nil {
		return nil, err
	}
	// O_NONBLOCK: a FIFO must not hold the hook.
	f, err := os.OpenFile(c.job.ScriptPath, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the job script: %w", err)
	}
	defer f.Close()
	script, err := io.ReadAll(io.LimitReader(f, workflow.MaxScriptBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the job script: %w", err)
	}
	c.script = script
	lines, err := workflow.Directives(script, c.cfg.Workflows.Directive)
	var wrong *workflow.DirectiveError
	if errors.As(err, &wrong) {
		return nil, &job.Refused{Text: err.Error(), Err: err}
	}
	return workflow.Expand(lines, c.cfg.Workflows.Presets), err
}

// admitStorage judges directives by [[workflows.allow]]. In slurm_bb_job_process the caller
// says who the user is, except in Slurm 22.05: there slurm_bb_setup judges.
func (c *call) admitStorage(ctx context.Context, directives []string, facts func(context.Context) (bundle.Facts, error)) error {
	if len(c.cfg.Workflows.Allow) == 0 || len(directives) == 0 || c.request[wire.KeyUID] == "" {
		return nil
	}
	f, err := facts(ctx)
	if err != nil {
		return fmt.Errorf("whose job it is: %w", err)
	}
	rules, err := policy.StorageFor(ctx, &c.cfg.Workflows, c.subject(ctx, f))
	if err != nil {
		return fmt.Errorf("rules for user %s: %w", f.User, err)
	}
	return rules.Admit(directives)
}

func setup(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyJobID, wire.KeyUID, wire.KeyGID); err != nil {
		return err
	}
	if err := c.findScript(ctx); err != nil {
		return err
	}
	p, err := c.plan()
	if err != nil {
		return err
	}
	if len(p.bundles) > 0 {
		if err := c.setupBundles(ctx, p.bundles); err != nil {
			return err
		}
	}
	if len(p.storage) == 0 {
		return nil
	}
	if err := c.admitStorage(ctx, p.storage, c.askedFacts); err != nil {
		return err
	}
	d, err := c.driver(ctx, false)
	if err != nil {
		return err
	}
	env, err := d.Setup(ctx, c.job, p.storage)
	if err != nil {
		return err
	}
	if err := c.keepEnv(env); err != nil {
		return err
	}
	c.keepSize(ctx, d)
	return nil
}

// stageIn is data_in: storage, then the bundles that are staged. Where Slurm polls, the
// first poll begins with the bundles.
func stageIn(ctx context.Context, c *call) error {
	p, err := c.planLater(ctx)
	if err != nil {
		return err
	}
	if len(p.storage) > 0 {
		if err := copying(workflow.DataIn)(ctx, c); err != nil {
			return err
		}
	}
	if c.job.Polls {
		return nil
	}
	return c.stageBundles(ctx, p.bundles)
}

// pollIn answers BUSY until storage and bundles are done.
func pollIn(ctx context.Context, c *call) error {
	p, err := c.planLater(ctx)
	if err != nil {
		return err
	}
	if len(p.storage) > 0 {
		if err := poll(workflow.DataIn)(ctx, c); err != nil {
			return err
		}
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Workflows.BusyWait.Std()+c.cfg.Kubernetes.RequestTimeout.Std())
	defer cancel()
	if err = c.stageBundles(asking, p.bundles); passes(ctx, err) {
		c.log.Infof("asked again later: %v", err)
		return workflow.ErrBusy
	}
	return err
}

// passes tells whether a later poll may do better: the bundle has time left, or Kubernetes or
// Slurm did not answer. A bundle whose own time is over has failed, though its error is one of
// a deadline too.
func passes(ctx context.Context, err error) bool {
	var late *bundles.LateError
	var command *slurm.CommandError
	if errors.As(err, &late) {
		return !late.Final
	}
	return err != nil && ctx.Err() == nil &&
		(errors.Is(err, context.DeadlineExceeded) || errors.As(err, &command) || kube.Is(err, kube.Transient))
}

// ifStorage is for the hooks that bundles have no part in: a job that has nothing else has
// no Workflow.
func ifStorage(hook func(context.Context, *call) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		p, err := c.planLater(ctx)
		if err != nil || len(p.storage) == 0 {
			return err
		}
		return hook(ctx, c)
	}
}

// copying begins or does a stage. Where Slurm polls (24.05 and later) it only asks
// for the state, so that no process waits during a long copy.
func copying(target workflow.State) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		d, err := c.jobDriver(ctx)
		if err != nil {
			return err
		}
		if c.job.Polls {
			return d.Request(ctx, c.job, target)
		}
		env, err := d.Await(ctx, c.job, target)
		if err != nil {
			return err
		}
		return c.keepEnv(env)
	}
}

// poll answers BUSY after a short wait. An API server that is away for a while is
// no failure either, since Slurm asks again.
func poll(target workflow.State) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		asking, cancel := context.WithTimeout(ctx, c.cfg.Workflows.BusyWait.Std()+c.cfg.Kubernetes.RequestTimeout.Std())
		defer cancel()
		var env workflow.Env
		d, err := c.jobDriver(asking)
		if err == nil {
			env, err = d.Poll(asking, c.job, target)
		}
		if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || kube.Is(err, kube.Transient)) {
			return workflow.ErrBusy
		}
		if err != nil {
			return err
		}
		if err := c.keepEnv(env); err != nil {
			return err
		}
		if target == workflow.DataIn {
			c.keepSize(ctx, d)
		}
		return nil
	}
}

func preRun(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyJobID); err != nil {
		return err
	}
	p, err := c.planLater(ctx)
	if err != nil {
		return err
	}
	if len(c.job.Nodes) == 0 { // Slurm 22.05 does not tell
		if c.job.Nodes, err = c.commands().Nodes(ctx, c.job.ID); err != nil {
			return err
		}
	}
	if err := c.startBundles(ctx, p.bundles); err != nil || len(p.storage) == 0 {
		return err
	}
	d, err := c.jobDriver(ctx)
	if err != nil {
		return err
	}
	env, err := d.PreRun(ctx, c.job)
	if err != nil {
		c.avoid(ctx, d, err)
		return err
	}
	// Too late for slurm_bb_paths, which Slurm runs first; there for who looks.
	return c.keepEnv(env)
}

func postRun(ctx context.Context, c *call) error {
	d, err := c.jobDriver(ctx)
	if err != nil {
		return err
	}
	return d.PostRun(ctx, c.job)
}

func teardown(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyJobID); err != nil {
		return err
	}
	p, err := c.planLater(ctx)
	if err != nil {
		c.log.Warn(err) // what is left is removed all the same
		p = plan{storage: []string{""}}
	}
	left := c.endBundles(ctx, p)
	result, err := c.teardownStorage(ctx, p)
	if err := errors.Join(left, err); err != nil {
		return err
	}
	if err := c.local.RemoveJob(c.job.ID); err != nil {
		c.log.Warn(err)
	}
	c.removePaths()
	if result.Held {
		text := "slurmk8s: the data that was not copied in time is kept: reconcile goes on copying it and then removes the storage"
		if err := c.commands().Comment(ctx, c.job.ID, text); err != nil {
			c.log.Warn(err)
		}
	}
	if result.NotDestroyed != "" {
		if err := c.commands().Comment(ctx, c.job.ID, wire.Line("slurmk8s: the persistent storage was not destroyed: "+result.NotDestroyed)); err != nil {
			c.log.Warn(err)
		}
	}
	away, err := c.keepAway(ctx)
	if err != nil {
		c.log.Warnf("the job may get the same nodes again: %v", err)
	}
	if result.FailedBeforeRun && !away {
		if err := c.cancelAfterwards(); err != nil {
			c.log.Errorf("the job can never run and stays held: %v", err)
		}
	}
	return nil
}

// avoid keeps for the teardown which nodes the job had better not get again.
func (c *call) avoid(ctx context.Context, d *workflow.Driver, cause error) {
	nodes := d.Avoid(ctx, cause)
	if len(nodes) == 0 {
		return
	}
	err := c.local.ChangeAway(ctx, c.job.ID, func(away *workflow.Away) {
		away.Failures++
		away.Pending, away.Why = nodes, wire.OneLine(cause.Error())
	})
	if err != nil {
		c.log.Warn(err)
	}
}

// keepAway reports whether a job has gone back into the queue because of its nodes, and keeps
// it from these. After workflows.max_requeues of these the job is held, so that it does not go
// round for ever.
func (c *call) keepAway(ctx context.Context) (bool, error) {
	away, err := c.local.Away(c.job.ID)
	if err != nil || away == nil || len(away.Pending) == 0 {
		return false, err
	}
	if most := c.cfg.Workflows.MaxRequeues; away.Failures > most {
		text := fmt.Sprintf("slurmk8s: held after %d tries (workflows.max_requeues): %s; then: scontrol release %d", away.Failures, away.Why, c.job.ID)
		err = errors.Join(c.commands().Hold(ctx, c.job.ID), c.commands().Comment(ctx, c.job.ID, wire.Line(text)))
	}
	// Kept before Slurm is asked: what is excluded and not kept would be the user's.
	failed := c.commands().Exclude(ctx, c.job.ID, func(added []string) error {
		c.log.Infof("the job is kept away from %v: %s", added, away.Why)
		return c.local.ChangeAway(ctx, c.job.ID, func(away *workflow.Away) {
			away.Excluded = append(away.Excluded, added...)
			slices.Sort(away.Excluded)
			away.Excluded = slices.Compact(away.Excluded)
		})
	}, away.Pending...)
	if failed == nil {
		failed = c.local.ChangeAway(ctx, c.job.ID, func(away *workflow.Away) { away.Pending = nil })
	}
	return true, errors.Join(err, failed)
}

// teardownStorage ends the job's Workflow. Where DWS is not installed a job whose script is
// gone may be one that had only bundles.
func (c *call) teardownStorage(ctx context.Context, p plan) (workflow.TeardownResult, error) {
	if len(p.storage) == 0 {
		return workflow.TeardownResult{}, nil
	}
	d, err := c.jobDriver(ctx)
	if errors.Is(err, duty.ErrAbsent) && p.storage[0] == "" && len(c.cfg.Bundles.Allow) > 0 {
		return workflow.TeardownResult{}, nil
	}
	if err != nil {
		return workflow.TeardownResult{}, err
	}
	return d.Teardown(ctx, c.job)
}

func getStatus(ctx context.Context, c *call) error {
	what := c.request.Arg(1)
	if what != "workflow" && what != "bundle" || c.request.Arg(2) == "" || c.request.Arg(3) != "" {
		return errors.New("usage: scontrol show bbstat workflow JOBID, or bundle JOBID")
	}
	id, err := strconv.ParseUint(c.request.Arg(2), 10, 32)
	if err != nil || id == 0 {
		return fmt.Errorf("%q is not a job id: usage: scontrol show bbstat workflow JOBID", c.request.Arg(2))
	}
	c.job.ID = uint32(id)
	breaker := c.breaker()
	if breaker.Tripped() {
		return errors.New("the API server did not answer a moment ago: try again later")
	}
	asker := int64(workflow.NoUID)
	if c.request[wire.KeyUID] != "" {
		asker = int64(c.job.UID)
	}
	text, err := c.statusOf(ctx, what, asker)
	if ctx.Err() != nil {
		breaker.Trip()
	}
	c.reply[wire.KeyText] = text
	return err
}

func (c *call) statusOf(ctx context.Context, what string, asker int64) (string, error) {
	if what == "bundle" {
		return c.bundleStatus(ctx, asker, c.privileged(ctx, asker))
	}
	d, err := c.driver(ctx, true)
	if err != nil {
		return "", err
	}
	return d.Status(ctx, c.job, asker, c.privileged(ctx, asker))
}

// privileged: root, SlurmUser (which hooks run as) and the configured operators.
func (c *call) privileged(ctx context.Context, asker int64) bool {
	if asker == 0 || asker == int64(os.Geteuid()) {
		return true
	}
	if asker == workflow.NoUID || len(c.cfg.Workflows.Operators) == 0 {
		return false
	}
	name, err := users.Name(ctx, uint32(asker))
	return err == nil && slices.Contains(c.cfg.Workflows.Operators, name)
}

// jobDriver is driver for the hooks that work on an existing job.
func (c *call) jobDriver(ctx context.Context) (*workflow.Driver, error) {
	if err := c.need(wire.KeyJobID); err != nil {
		return nil, err
	}
	return c.driver(ctx, false)
}

// keepEnv leaves the environment that DWS wants for slurm_bb_paths, which may
// only read a local file. Without it the job would run without its variables.
func (c *call) keepEnv(env workflow.Env) error {
	skipped, err := c.local.WriteEnv(c.job.ID, env)
	for _, name := range skipped {
		c.log.Warnf("variable %q of DWS is not valid in an environment: skipped", name)
	}
	return err
}

// keepSize leaves for slurm_bb_real_size what the job's storage takes, where Slurm's pool has
// what is there (workflows.pool). Without it Slurm counts what the directives ask for.
func (c *call) keepSize(ctx context.Context, d *workflow.Driver) {
	if c.cfg.Workflows.Pool == "" {
		return
	}
	bytes, err := d.Size(ctx, c.job, func() (int, error) {
		wish, err := c.commands().WishOf(ctx, c.job.ID)
		return wish.Nodes, err
	})
	if err == nil && bytes > 0 {
		err = c.local.WriteSize(c.job.ID, bytes)
	}
	if err != nil {
		c.log.Warnf("Slurm counts what the directives ask for: %v", err)
	}
}
