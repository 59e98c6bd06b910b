package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// plan is what a job's directives ask for.
type plan struct {
	storage []string         // directives for DWS
	bundles []bundle.Request // directives for us
}

// plan splits the directives of the job script.
func (c *call) plan() (plan, error) {
	lines, err := c.directives()
	if err != nil {
		return plan{}, err
	}
	var p plan
	for _, line := range lines {
		request, ours, err := bundle.ParseDirective(line)
		switch {
		case err != nil:
			return plan{}, err
		case ours:
			p.bundles = append(p.bundles, request)
		default:
			p.storage = append(p.storage, line)
		}
	}
	return p, bundle.Check(p.bundles)
}

// planLater is plan for a hook after slurm_bb_setup. If the script is gone, as after the
// purge of a job, the job counts as one with storage: DWS is asked then.
func (c *call) planLater(ctx context.Context) (plan, error) {
	if c.request[wire.KeyScript] == "" {
		return plan{storage: []string{""}}, nil
	}
	if err := c.findScript(ctx); err != nil {
		return plan{}, err
	}
	p, err := c.plan()
	var unread *fs.PathError
	if errors.As(err, &unread) {
		c.log.Warn(err)
		return plan{storage: []string{""}}, nil
	}
	if len(p.bundles) == 0 && len(p.storage) == 0 { // Slurm's own script in place of one that is gone
		p.storage = []string{""}
	}
	return p, err
}

// askedFacts are what Slurm says of the job.
func (c *call) askedFacts(ctx context.Context) (bundle.Facts, error) {
	owner, err := c.commands().Owner(ctx, c.job.ID)
	return c.factsOf(owner), err
}

// factsOf are what is known of a job of this owner.
func (c *call) factsOf(owner slurm.Owner) bundle.Facts {
	f := bundle.Facts{Job: c.job.Job, Account: owner.Account, Partition: owner.Partition}
	f.UID, f.User = owner.UID, owner.User
	if len(c.job.Nodes) > 0 {
		f.Nodes, f.BatchHost = len(c.job.Nodes), c.job.Nodes[0]
	}
	return f
}

// notedFacts are those that slurm_bb_setup was told: the hooks after it make the same of a
// bundle, and ask Slurm nothing unless the notes are gone.
func (c *call) notedFacts(ctx context.Context) (bundle.Facts, error) {
	notes, err := c.local.Bundles(c.job.ID)
	if err != nil {
		c.log.Warn(err)
	}
	if err != nil || notes.Owner.User == "" {
		return c.askedFacts(ctx)
	}
	return c.factsOf(notes.Owner), nil
}

// facts are what the caller says of the job; the user is "" if it does not say whose it is.
// Slurm, which stands still meanwhile, is not asked.
func (c *call) facts(ctx context.Context) (f bundle.Facts, err error) {
	owner := slurm.Owner{UID: c.job.UID, User: c.job.User, Account: c.request[wire.KeyAccount], Partition: c.request[wire.KeyPartition]}
	if owner.User == "" && c.request[wire.KeyUID] != "" {
		owner.User, err = users.Name(ctx, c.job.UID)
	}
	return c.factsOf(owner), err
}

// subject is whom the rules judge.
func (c *call) subject(ctx context.Context, f bundle.Facts) *policy.Subject {
	who := &policy.Subject{User: f.User, UID: f.UID, GID: c.job.GID}
	if f.Account != "" {
		who.Account = func(context.Context) (string, error) { return f.Account, nil }
	}
	if account, err := users.AccountOf(ctx, f.User); err == nil {
		who.GID = account.GID
	}
	return who
}

// rendered are the bundles that the job may have, expanded. At submission and in
// slurm_bb_setup nobody knows the nodes of the job yet: 1 and "node" stand for them.
func (c *call) rendered(ctx context.Context, requests []bundle.Request, f bundle.Facts) ([]*bundle.Rendered, error) {
	rules, err := policy.BundlesFor(ctx, &c.cfg.Bundles, c.subject(ctx, f))
	if err != nil {
		return nil, fmt.Errorf("rules for user %s: %w", f.User, err)
	}
	if requests, err = rules.Admit(requests); err != nil {
		return nil, err
	}
	if f.Nodes == 0 {
		f.Nodes, f.BatchHost = 1, "node"
	}
	all := make([]*bundle.Rendered, len(requests))
	for i, r := range requests {
		b, err := bundle.Find(c.cfg.Bundles.Dirs, r.Name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &job.Refused{Text: err.Error(), Err: err}
		}
		if err != nil {
			return nil, err
		}
		limit := c.cfg.Bundles.MaxTimeout.Std()
		if r.Timeout <= b.Timeout && cmp.Or(r.Timeout, b.Timeout) > limit {
			r.Timeout = limit // before ${timeout_seconds} is made of it
		}
		if all[i], err = b.Expand(r, f); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// checkOption judges the value of --k8s-bundle early: its syntax, by the rules if they are known,
// and with a bundle that can be read on this host its parameters. slurm_bb_job_process judges
// again.
func (c *call) checkOption(ctx context.Context, text string, allowed *policy.Bundles) error {
	requests, err := bundle.ParseOption(text)
	if err == nil && allowed != nil {
		requests, err = allowed.Admit(requests)
	}
	if err != nil {
		return err
	}
	uid := c.job.UID
	if c.request[wire.KeyUID] == "" { // at a prompt
		uid = uint32(os.Getuid())
	}
	user, err := users.Name(ctx, uid)
	if err != nil {
		return nil // a parameter may depend on it
	}
	dirs := slurmconf.BundleDirs
	if c.cfg != nil {
		dirs = c.cfg.Bundles.Dirs
	}
	for _, r := range requests {
		b, err := bundle.Find(dirs, r.Name)
		if err != nil {
			continue // it may be there where slurmctld runs
		}
		if r.Namespace == "" {
			r.Namespace = "default" // the rules that are not known here say which
		}
		early := bundle.Facts{
			Job:     job.Job{Cluster: "cluster", ID: 1, User: user, SubmitTime: strconv.FormatInt(time.Now().Unix(), 10)},
			Account: cmp.Or(c.request[wire.KeyAccount], "account"), Partition: cmp.Or(c.request[wire.KeyPartition], "partition"),
			Nodes: 1, BatchHost: "node",
		}
		if _, err := b.Expand(r, early); wire.CodeOf(err) == wire.Refused {
			return err
		}
	}
	return nil
}
