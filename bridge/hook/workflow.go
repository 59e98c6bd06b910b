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

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
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
	return lines, err
}

func setup(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyJobID, wire.KeyUID, wire.KeyGID); err != nil {
		return err
	}
	if err := c.findScript(ctx); err != nil {
		return err
	}
	lines, err := c.directives()
	if err != nil || len(lines) == 0 {
		return err
	}
	d, err := c.driver(ctx, false)
	if err != nil {
		return err
	}
	env, err := d.Setup(ctx, c.job, lines)
	if err != nil {
		return err
	}
	return c.keepEnv(env)
}

// stage begins or does a stage. Where Slurm polls (24.05 and later) it only asks
// for the state, so that no process waits during a long copy.
func stage(target workflow.State) func(context.Context, *call) error {
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
		return c.keepEnv(env)
	}
}

func preRun(ctx context.Context, c *call) error {
	d, err := c.jobDriver(ctx)
	if err != nil {
		return err
	}
	if len(c.job.Nodes) == 0 { // Slurm 22.05 does not tell
		if c.job.Nodes, err = c.commands().Nodes(ctx, c.job.ID); err != nil {
			return err
		}
	}
	env, err := d.PreRun(ctx, c.job)
	if err != nil {
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
	_, err = d.Await(ctx, c.job, workflow.PostRun)
	return err
}

func teardown(ctx context.Context, c *call) error {
	d, err := c.jobDriver(ctx)
	if err != nil {
		return err
	}
	result, err := d.Teardown(ctx, c.job)
	if err != nil {
		return err
	}
	if err := c.local.RemoveJob(c.job.ID); err != nil {
		c.log.Warn(err)
	}
	c.removePaths()
	if result.FailedBeforeRun {
		if err := c.cancelAfterwards(); err != nil {
			c.log.Errorf("the job can never run and stays held: %v", err)
		}
	}
	return nil
}

func getStatus(ctx context.Context, c *call) error {
	if c.request.Arg(1) != "workflow" || c.request.Arg(2) == "" || c.request.Arg(3) != "" {
		return errors.New("usage: scontrol show bbstat workflow JOBID")
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
	d, err := c.driver(ctx, true)
	if err != nil {
		return err
	}
	asker := int64(workflow.NoUID)
	if c.request[wire.KeyUID] != "" {
		asker = int64(c.job.UID)
	}
	text, err := d.Status(ctx, c.job, asker, c.privileged(ctx, asker))
	if ctx.Err() != nil {
		breaker.Trip()
	}
	c.reply[wire.KeyText] = text
	return err
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
