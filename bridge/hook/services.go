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
)

// check judges the options at the prompt, without a request to Kubernetes: their
// syntax, and the policy as far as it can be known here. The node judges again.
func check(ctx context.Context, c *call) error { return c.judgeOptions(c.request, c.promptRules(ctx)) }

// judgeOptions judges what is given of the options: the syntax, and with rules whether
// they allow it. KeyArray is given if it is known whether the job is an array.
func (c *call) judgeOptions(given wire.Fields, rules *policy.Policy) error {
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
	if rules == nil || len(specs)+len(imports) == 0 {
		return nil
	}
	if len(specs) > 0 {
		if _, err := rules.Admit(specs, namespace); err != nil {
			return err
		}
	}
	for _, i := range imports {
		if _, err := rules.Namespace(i.Namespace, namespace); err != nil {
			return err
		}
	}
	return nil
}

// promptRules are nil where they cannot be known. Root submits for others.
func (c *call) promptRules(ctx context.Context) *policy.Policy {
	if c.cfg == nil || os.Getuid() == 0 {
		return nil
	}
	name, err := users.Name(ctx, uint32(os.Getuid()))
	if err != nil {
		return nil
	}
	who := &policy.Subject{User: name, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Lenient: true}
	groups, err := os.Getgroups()
	for _, id := range groups {
		who.Groups = append(who.Groups, uint32(id))
	}
	if err != nil {
		return nil
	}
	rules, err := policy.For(ctx, &c.cfg.Services, who)
	if err != nil {
		return nil
	}
	return rules
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
	if err := errors.Join(swept, c.giveBack(ctx), node.Unrefuse(c.cfg.Services.RunDir, c.job.ID)); err != nil {
		c.log.Errorf("left to reconcile: %v", err)
		c.reply[wire.KeyMessage] = wire.Line("left to reconcile: " + err.Error())
	}
	return nil
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
