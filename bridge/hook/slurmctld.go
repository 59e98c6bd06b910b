package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// openSlurmctld is for PrologSlurmctld and EpilogSlurmctld, on the controller as
// SlurmUser, of a site that need not have burst buffers.
func openSlurmctld(name string, request wire.Fields) (*call, error) {
	c, err := open(name, request, stateDir)
	if err != nil {
		return nil, err
	}
	err = c.need(wire.KeyJobID)
	if list := request[wire.KeyNodeList]; err == nil && list != "" && list != "(null)" {
		c.job.Nodes, err = slurmconf.ExpandHostlist(list)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// prologSlurmctldLimit is that of a job's terms, and of undoing what was done.
func prologSlurmctldLimit(c *call) time.Duration {
	plan, _ := node.PlanFor(&c.cfg.Nodes, askOf(c.request)) // what it refuses has the defaults
	return 2*c.cfg.Nodes.APITimeout.Std() + plan.Terms.Timeout + plan.Terms.Grace + node.EndMargin
}

// prologSlurmctld takes all nodes of a job from Kubernetes. Slurm requeues a batch job
// and ends an interactive one for any code but wire.OK.
func prologSlurmctld(ctx context.Context, c *call) error {
	plan, err := node.PlanFor(&c.cfg.Nodes, askOf(c.request))
	if err != nil {
		return c.refuseAll(ctx, nil, err)
	}
	if plan.Mode == node.Keep || len(c.job.Nodes) == 0 { // none: a job of a persistent burst buffer
		c.idle = true
		return nil
	}
	driver, err := c.controllersNodes()
	if err != nil {
		return c.refuseAll(ctx, nil, err)
	}
	work, cancel := context.WithTimeout(ctx, prologSlurmctldLimit(c)-c.cfg.Nodes.APITimeout.Std())
	defer cancel()
	claim := node.Claim{Cluster: c.cfg.Cluster, JobID: c.job.ID, Restarts: c.restarts(0), Mode: plan.Mode}
	outcome, err := driver.TakeAll(work, c.job.Nodes, claim, plan.Terms)
	if err != nil {
		return c.refuseAll(ctx, driver, err)
	}
	c.log.WithField("evicted", outcome.Evicted).WithField("kept", outcome.Kept).WithField("ignored", outcome.Ignored).
		Infof("%d nodes: ready (%s)", len(c.job.Nodes), plan.Mode)
	return nil
}

// controllersNodes reaches all nodes with the controller's credential.
func (c *call) controllersNodes() (*node.Driver, error) {
	client, err := kube.For(c.cfg, c.cfg.Kubernetes.Kubeconfig, fmt.Sprintf("job %d; nodes", c.job.ID), c.log)
	if err != nil {
		return nil, err
	}
	return node.New(client, &c.cfg.Nodes, c.cfg.Cluster, c.log), nil
}

// refuseAll does what the policy says about nodes that cannot be taken; nil: the job
// goes on.
func (c *call) refuseAll(ctx context.Context, driver *node.Driver, cause error) error {
	policy := c.onNodeError(cause)
	if policy == slurmconf.OnErrorProceed {
		return nil
	}
	// Slurm may have ended this process's time: undoing has some of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Nodes.APITimeout.Std())
	defer cancel()
	if driver != nil {
		if err := driver.GiveBackAll(ctx, c.job.Nodes, c.job.ID, c.restarts(0)); err != nil {
			c.log.Warnf("left to reconcile: %v", err)
		}
	}
	commands := c.commands()
	if err := commands.Comment(ctx, c.job.ID, wire.Line("slurmk8s: nodes could not be reclaimed from Kubernetes: "+cause.Error())); err != nil {
		c.log.Warn(err)
	}
	if policy == slurmconf.OnErrorFail { // Slurm itself would requeue it
		if err := commands.Cancel(ctx, c.job.ID); err != nil {
			c.log.Warn(err)
		}
		return cause
	}
	var stuck *node.StuckError
	if !errors.As(cause, &stuck) {
		return cause
	}
	// Slurm would requeue it too, but then choose the node that stays occupied again, and it
	// takes a list of nodes to avoid only of a job that pends. A job that is pending when
	// PrologSlurmctld fails is cancelled (prep_prolog_slurmctld_callback() of prep_slurmctld.c),
	// so this hook succeeds once the job is requeued.
	if err := commands.RequeueRun(ctx, c.job.ID, c.restarts(0), ""); err != nil {
		c.log.Warnf("left to Slurm: %v", err)
		return cause
	}
	if err := commands.Exclude(ctx, c.job.ID, nil, stuck.Node); err != nil {
		c.log.Warnf("the job may get node %s again: %v", stuck.Node, err)
	}
	c.log.Errorf("requeued: %v", cause)
	return nil
}

// epilogSlurmctldLimit is how long EpilogSlurmctld waits for the job's end on its nodes:
// longer than KillWait usually is. The job is completing for Slurm meanwhile, but its
// nodes are free for others one by one, and squeue tells which (seen on 22.05.8).
func epilogSlurmctldLimit(*call) time.Duration { return time.Minute }

// epilogSlurmctld gives back each node as soon as Slurm has it back: Slurm runs it before
// the job's processes are dead.
func epilogSlurmctld(ctx context.Context, c *call) error {
	if plan, err := node.PlanFor(&c.cfg.Nodes, askOf(c.request)); err != nil || plan.Mode == node.Keep || len(c.job.Nodes) == 0 {
		c.idle = true
		return nil // its prolog took none
	}
	driver, err := c.controllersNodes()
	if err != nil {
		return err
	}
	var pauses kube.Pauses
	waiting := c.job.Nodes
	for {
		busy, err := c.commands().NodesOf(ctx, c.job.ID)
		if err != nil {
			return fmt.Errorf("%d nodes are left to reconcile: %w", len(waiting), err)
		}
		var free, still []string
		for _, name := range waiting {
			if slices.Contains(busy, name) {
				still = append(still, name)
			} else {
				free = append(free, name)
			}
		}
		giving, cancel := context.WithTimeout(ctx, c.cfg.Nodes.APITimeout.Std())
		err = driver.GiveBackAll(giving, free, c.job.ID, c.restarts(0))
		cancel()
		if err != nil {
			return fmt.Errorf("left to reconcile: %w", err)
		}
		if waiting = still; len(waiting) == 0 {
			return nil
		}
		if err := pauses.Wait(ctx); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			c.log.Infof("%d nodes still have processes of the job: left to reconcile", len(waiting))
			return nil
		}
	}
}
