package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// check judges the options at the prompt, without a request to Kubernetes: their
// syntax, and the policy as far as it can be known here. The node judges again.
func check(ctx context.Context, c *call) error {
	return c.judgeOptions(ctx, c.request, c.promptRules(ctx))
}

// rules are what the site allows a user; nil where they cannot be known.
type rules struct {
	services *policy.Policy
	bundles  *policy.Bundles
}

func (c *call) rulesFor(ctx context.Context, who *policy.Subject) (rules, error) {
	services, err := policy.For(ctx, &c.cfg.Services, who)
	if err != nil {
		return rules{}, fmt.Errorf("rules for user %s: %w", who.User, err)
	}
	bundles, err := policy.BundlesFor(ctx, &c.cfg.Bundles, who)
	if err != nil {
		return rules{}, fmt.Errorf("rules for user %s: %w", who.User, err)
	}
	return rules{services, bundles}, nil
}

// judgeOptions judges what is given of the options: the syntax, and with rules whether
// they allow it. KeyArray is given if it is known whether the job is an array.
func (c *call) judgeOptions(ctx context.Context, given wire.Fields, allowed rules) error {
	namespace := given[wire.KeyNamespace]
	if namespace != "" {
		if err := service.CheckNamespace(namespace); err != nil {
			return &job.Refused{Text: "--k8s-namespace: " + err.Error(), Err: err}
		}
	}
	var specs []service.Spec
	var imports []service.Import
	var err error
	if text, ok := given[wire.KeyRegister]; ok {
		if specs, err = service.ParseEarly(text, given.Env()); err != nil {
			return err
		}
		if array, known := given[wire.KeyArray]; known {
			if err := service.CheckArray(specs, array); err != nil {
				return err
			}
		}
	}
	if text, ok := given[wire.KeyImport]; ok {
		if imports, err = service.ParseImports(text); err != nil {
			return err
		}
	}
	if err := c.checkNodes(given); err != nil {
		return err
	}
	if text, ok := given[wire.KeyBundle]; ok {
		if err := c.checkOption(ctx, text, allowed.bundles); err != nil {
			return err
		}
	}
	if allowed.services == nil || len(specs)+len(imports) == 0 {
		return nil
	}
	if len(specs) > 0 {
		if _, err := allowed.services.Admit(specs, namespace); err != nil {
			return err
		}
	}
	for _, i := range imports {
		if _, err := allowed.services.Namespace(i.Namespace, namespace); err != nil {
			return err
		}
	}
	return nil
}

// promptRules are nil where they cannot be known. Root submits for others.
func (c *call) promptRules(ctx context.Context) rules {
	if c.cfg == nil || os.Getuid() == 0 {
		return rules{}
	}
	name, err := users.Name(ctx, uint32(os.Getuid()))
	if err != nil {
		return rules{}
	}
	who := &policy.Subject{User: name, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Lenient: true}
	groups, err := os.Getgroups()
	for _, id := range groups {
		who.Groups = append(who.Groups, uint32(id))
	}
	if err != nil {
		return rules{}
	}
	allowed, err := c.rulesFor(ctx, who)
	if err != nil {
		return rules{}
	}
	return allowed
}

// jobEpilog deletes what is left of the job on this node and gives the node back. It
// never fails, since Slurm would drain the node: what could not be done is in the log
// and in MESSAGE, and the files on the node stay for reconcile.
func jobEpilog(ctx context.Context, c *call) error {
	// Neither may take all the time of both: they go to different servers, perhaps.
	half, cancel := ctx, context.CancelFunc(func() {})
	held, err := c.claimFiles().Get(c.job.ID)
	if end, ok := ctx.Deadline(); ok && (held != nil || err != nil) {
		half, cancel = context.WithTimeout(ctx, time.Until(end)/2)
	}
	defer cancel()
	swept := c.sweep(half)
	back := c.giveBack(ctx)
	c.awaitUnmounted(ctx) // it may take the rest of the time
	runDir := c.cfg.Services.RunDir
	if err := errors.Join(swept, back, node.Unrefuse(runDir, c.job.ID), workflow.NodeFiles(runDir).Remove(c.job.ID)); err != nil {
		c.log.Errorf("left to reconcile: %v", err)
		c.reply[wire.KeyMessage] = wire.Line("left to reconcile: " + err.Error())
	}
	return nil
}

// endMargin is what the epilog keeps of its time for what comes after a wait.
const endMargin = 2 * time.Second

// awaitUnmounted waits until the job's storage is unmounted here (workflows.unmount_timeout).
// The next job must not find it; and while a node holds it, DWS does not end the Workflow. A
// node on which it stays mounted is drained, and no other. One that is drained already keeps its
// Reason.
func (c *call) awaitUnmounted(ctx context.Context) {
	limit := c.cfg.Workflows.UnmountTimeout.Std()
	if limit == 0 {
		return
	}
	paths, err := workflow.NodeFiles(c.cfg.Services.RunDir).Paths(c.job.ID)
	if err != nil {
		c.log.Warnf("whether storage is still mounted is not known: %v", err)
		return
	}
	cut := false // the time of this hook is shorter
	if end, ok := ctx.Deadline(); ok && time.Until(end)-endMargin < limit {
		limit, cut = time.Until(end)-endMargin, true
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	left, err := workflow.AwaitUnmounted(waiting, paths)
	if err != nil {
		c.log.Warnf("whether storage is still mounted is not known: %v", err)
	}
	if len(left) == 0 {
		return
	}
	reason := workflow.StillMounted(c.job.ID, left)
	if cut {
		c.log.Errorf("%s: the node is not drained, since workflows.unmount_timeout is longer than epilog_timeout_ms of plugstack.conf", reason)
		return
	}
	c.log.Error(reason)
	name := c.request[wire.KeyNode]
	states, err := c.commands().NodeRecords(ctx, name)
	if err == nil && !states[name].Drain() {
		// Kept before Slurm is asked: what is drained and not kept stays drained.
		err = errors.Join(workflow.NodeFiles(c.cfg.Services.RunDir).Hold(c.job.ID, left), c.commands().Drain(ctx, []string{name}, reason))
	}
	if err != nil {
		c.log.Error(err)
	}
}

func (c *call) sweep(ctx context.Context) error {
	if err := c.need(wire.KeyJobID, wire.KeyNode); err != nil {
		return err
	}
	records := service.Records(c.cfg.Services.RunDir)
	if !records.Has(c.job.ID) {
		return nil // its steps cleaned up, or had nothing
	}
	client, err := kube.For(c.cfg, c.cfg.Services.Kubeconfig, fmt.Sprintf("job %d; epilog", c.job.ID), c.log)
	if err != nil {
		return err
	}
	sweeper := &service.Sweeper{Kube: client, Cluster: c.cfg.Cluster, Log: c.log}
	return sweeper.Node(ctx, records, c.job.Job, c.request[wire.KeyNode], c.cfg.Services.Named())
}
