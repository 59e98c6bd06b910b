package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func askOf(request wire.Fields) node.Ask {
	return node.Ask{
		Nodes: request[wire.KeyNodesOption], Grace: request[wire.KeyEvictGrace], Timeout: request[wire.KeyEvictTimeout],
		Partition: request[wire.KeyPartition], Constraints: request[wire.KeyConstraints],
	}
}

// undoMargin is what the prolog leaves of its time to undo what it did and to tell
// Slurm why the job does not run.
const undoMargin = 5 * time.Second

// prologLimit is that of a job's terms.
func prologLimit(c *call) time.Duration {
	plan, _ := node.PlanFor(&c.cfg.Nodes, askOf(c.request)) // what it refuses has the defaults
	return PrologLimit(&c.cfg.Nodes, plan.Terms)
}

// PrologLimit is how long the prolog may take with these policies, one after the other.
func PrologLimit(cfg *slurmconf.NodeSettings, terms node.Terms) time.Duration {
	return cfg.APITimeout.Std() + terms.Timeout + terms.Grace + node.EndMargin + cfg.UnitsTimeout.Std() + undoMargin
}

// jobProlog takes this node from Kubernetes, if the job is one of those that do. Any
// code but wire.OK means that the job must not run here: then its mark is written, and Slurm
// has been asked for what the policy says.
func jobProlog(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyJobID, wire.KeyNode); err != nil {
		return err
	}
	cfg := &c.cfg.Nodes
	plan, err := node.PlanFor(cfg, askOf(c.request))
	if err != nil {
		return c.refuse(ctx, nil, err)
	}
	if plan.Mode == node.Keep {
		c.idle = true
		return nil
	}
	driver, err := c.nodeDriver()
	if cfg.Kubeconfig == slurmconf.KubeletKubeconfig && errors.Is(err, fs.ErrNotExist) {
		if seen := node.KubeletHere(); seen != "" {
			text := fmt.Sprintf("a kubelet runs on this host (%s), but its credential is in none of the usual places: the job runs next to its pods; set nodes.kubeconfig in slurmk8s.toml", seen)
			c.log.Warn(text)
			c.reply[wire.KeyMessage] = wire.Line(text)
			return nil
		}
		c.log.Infof("this host has no %s and no kubelet, so it is not a Kubernetes node: nothing to reclaim", cfg.Kubeconfig)
		return nil
	}
	if err != nil {
		return c.refuse(ctx, nil, err)
	}
	work, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok {
		work, cancel = context.WithDeadline(ctx, end.Add(-min(undoMargin, time.Until(end)/4)))
	}
	defer cancel()
	claim := node.Claim{Cluster: c.cfg.Cluster, JobID: c.job.ID, Restarts: c.restarts(0), Mode: plan.Mode}
	outcome, err := driver.Take(work, c.claimFiles(), c.request[wire.KeyNode], claim, plan.Terms)
	if err != nil {
		return c.refuse(ctx, driver, err)
	}
	entry := c.log.WithField("evicted", outcome.Evicted).WithField("kept", outcome.Kept)
	if outcome.Ignored > 0 {
		c.reply[wire.KeyMessage] = wire.Line(fmt.Sprintf("%d pods run next to the job on node %s", outcome.Ignored, c.request[wire.KeyNode]))
	}
	entry.Infof("node %s: ready (%s)", c.request[wire.KeyNode], plan.Mode)
	return nil
}

func (c *call) claimFiles() node.ClaimFiles { return node.ClaimFilesIn(c.cfg.Services.RunDir) }

// restarts is how often Slurm has requeued the job.
func (c *call) restarts(unknown uint32) uint32 {
	if c.job.Restarts == job.AnyRun {
		return unknown
	}
	return c.job.Restarts
}

func (c *call) nodeDriver() (*node.Driver, error) {
	// Before all else, and with the cause that says so: the kubelet's may be missing.
	if _, err := os.Stat(c.cfg.Nodes.Kubeconfig); err != nil {
		return nil, fmt.Errorf("nodes.kubeconfig: %w", err)
	}
	client, err := kube.For(c.cfg, c.cfg.Nodes.Kubeconfig, fmt.Sprintf("job %d; nodes", c.job.ID), c.log)
	if errors.Is(err, kube.ErrPlugin) {
		return nil, fmt.Errorf("nodes.kubeconfig: %w; or reclaim nodes from the controller (PrologSlurmctld)", err)
	}
	if err != nil {
		return nil, err
	}
	return node.New(client, &c.cfg.Nodes, c.cfg.Cluster, c.log), nil
}

// refuse does what the policy says about a node that cannot be made ready. Slurm's node
// is never drained for it: the prolog itself succeeds. The result is nil if the job
// goes on all the same.
func (c *call) refuse(ctx context.Context, driver *node.Driver, cause error) error {
	policy := c.onNodeError(cause)
	if policy == slurmconf.OnErrorProceed {
		return nil
	}
	reason := wire.Line(fmt.Sprintf("node %s could not be reclaimed from Kubernetes: %v", c.request[wire.KeyNode], cause))
	if err := node.Refuse(c.cfg.Services.RunDir, c.job.ID, reason); err != nil {
		cause = errors.Join(cause, err) // the plugin writes it then
	}
	if driver != nil {
		undoing, cancel := context.WithTimeout(ctx, undoMargin/2)
		defer cancel()
		if err := driver.GiveBack(undoing, c.claimFiles(), c.job.ID, job.AnyRun); err != nil {
			c.log.Warnf("left to the epilog: %v", err)
		}
	}
	c.tellSlurm(ctx, policy, reason, node.StaysOccupied(cause))
	return cause
}

// onNodeError is what the administrator wants of a job whose nodes cannot be taken. That
// a job goes on all the same is told.
func (c *call) onNodeError(cause error) string {
	policy := c.cfg.Nodes.OnError
	if node.FailsJob(cause) {
		policy = slurmconf.OnErrorFail
	}
	if policy == slurmconf.OnErrorProceed {
		c.log.Errorf("starting the job anyway: %v", cause)
		c.reply[wire.KeyMessage] = wire.Line("starting the job anyway: " + cause.Error())
	}
	return policy
}

// tellSlurm asks for the end of a job that must not run on this node, with the reason
// in its comment. Tasks on this node fail by themselves; those on others would not. A node
// that stays occupied is idle for Slurm, which would choose it for the job again and again.
func (c *call) tellSlurm(ctx context.Context, policy, reason string, occupied bool) {
	commands := c.commands()
	if err := commands.Comment(ctx, c.job.ID, "slurmk8s: "+reason); err != nil {
		c.log.Warn(err)
	}
	var err error
	switch {
	case policy == slurmconf.OnErrorRequeue:
		without := ""
		if occupied {
			without = c.request[wire.KeyNode]
		}
		err = commands.RequeueRun(ctx, c.job.ID, c.restarts(0), without)
	case !c.onFirstNode():
		err = commands.Cancel(ctx, c.job.ID)
	}
	if err != nil {
		c.log.Warnf("%v: the job's tasks will fail on this node", err)
	}
}

// onFirstNode tells whether the batch script runs here: it fails then by itself, and
// its output says why.
func (c *call) onFirstNode() bool {
	names, err := slurmconf.ExpandHostlist(c.request[wire.KeyNodeList])
	return err == nil && len(names) > 0 && names[0] == c.request[wire.KeyNode]
}

// giveBack ends what the job's prolog began on this node.
func (c *call) giveBack(ctx context.Context) error {
	held, err := c.claimFiles().Get(c.job.ID)
	if err != nil {
		return err
	}
	if held == nil {
		return c.claimFiles().Remove(c.job.ID) // a prolog that was killed while it wrote it
	}
	driver, err := c.nodeDriver()
	if err != nil {
		return err
	}
	return driver.GiveBack(ctx, c.claimFiles(), c.job.ID, c.restarts(job.AnyRun))
}

// checkNodes judges the options about nodes before there is a job, as far as they are given.
func (c *call) checkNodes(given wire.Fields) error {
	ask := askOf(given)
	if ask.Nodes+ask.Grace+ask.Timeout == "" {
		return nil
	}
	cfg := slurmconf.Default().Nodes
	cfg.Reclaim = slurmconf.ReclaimRequest // by syntax only, where the bounds are not known
	cfg.MinEvictGrace, cfg.MaxEvictGrace, cfg.MaxEvictTimeout = 0, anyDuration, anyDuration
	cfg.JobPolicies = []string{slurmconf.EvictDelete, slurmconf.EvictFail, slurmconf.EvictIgnore}
	if c.cfg != nil {
		cfg = c.cfg.Nodes
		if cfg.Reclaim == slurmconf.ReclaimNone && len(cfg.ReclaimPartitions)+len(cfg.ReclaimFeatures) > 0 {
			cfg.Reclaim = slurmconf.ReclaimRequest // which jobs get that anyway, the prolog knows
		}
	}
	_, err := node.PlanFor(&cfg, ask)
	return err
}

const anyDuration = slurmconf.Duration(1<<63 - 1)
