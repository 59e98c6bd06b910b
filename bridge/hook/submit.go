package hook

import (
	"context"
	"errors"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func (c *call) breaker() workflow.Breaker {
	return c.local.Breaker(c.cfg.Workflows.Breaker.Std())
}

// jobProcess judges a submission while slurmctld stands still: syntax and rules here, the
// rest by Kubernetes's and DWS's admission in a dry run. Its caller kills it at its deadline.
func jobProcess(ctx context.Context, c *call) error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	if err := c.admitStorage(ctx, p.storage, c.facts); err != nil {
		return err
	}
	rendered, facts, err := c.bundlesAtSubmit(ctx, p.bundles)
	if err != nil || len(p.storage)+len(rendered) == 0 || c.cfg.Workflows.Submit == slurmconf.SubmitLocal {
		return err
	}
	breaker := c.breaker()
	if breaker.Open() {
		return c.unjudged(p, errors.New("the API server did not answer a moment ago"))
	}
	breaker.Begin()
	if len(rendered) > 0 {
		err = c.checkBundles(ctx, rendered, facts)
	}
	if err == nil && len(p.storage) > 0 {
		err = c.judge(ctx, p.storage)
	}
	if err != nil && (ctx.Err() != nil || kube.Is(err, kube.Transient)) {
		breaker.Trip()
		return c.unjudged(p, err)
	}
	breaker.Reset()
	if err == nil && c.job.ID != 0 {
		if err := c.local.WriteJudged(c.job.ID, c.script); err != nil {
			c.log.Warn(err)
		}
	}
	return err
}

func (c *call) judge(ctx context.Context, lines []string) error {
	d, err := c.driver(ctx, true)
	if err != nil {
		return err
	}
	if c.cfg.Workflows.Submit == slurmconf.SubmitCreate {
		if err := c.need(wire.KeyJobID, wire.KeyUID, wire.KeyGID); err != nil {
			return err
		}
		return d.Create(ctx, c.job, lines)
	}
	return d.Check(ctx, c.job, lines)
}

// unjudged decides by configuration about a job that Kubernetes could not be asked
// about. An accepted one is judged again by slurm_bb_setup.
func (c *call) unjudged(p plan, cause error) error {
	if c.cfg.Workflows.OnUnreachable == slurmconf.OnUnreachableAccept {
		c.log.Warnf("accepted without asking Kubernetes: %v", cause)
		return nil
	}
	what := "storage"
	if len(p.bundles) > 0 {
		what = "bundles"
	}
	return job.Refusef("%s cannot be checked now, try again later: %v", what, cause)
}
