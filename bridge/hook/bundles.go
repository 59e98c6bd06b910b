package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/safely"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// envBundles are the instances of a job's bundles, "aok,exporter". A task that had the
// option and does not find it knows that job_submit.lua did not see the job.
const envBundles = "SLURMK8S_BUNDLES"

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

// stager connects to Kubernetes for the bundles of the job.
func (c *call) stager(f bundle.Facts, change ...func(*kube.Options)) (*stage.Driver, error) {
	client, err := stage.Client(c.cfg, fmt.Sprintf("job %d; bundles", c.job.ID), c.log, change...)
	if err != nil {
		return nil, err
	}
	return &stage.Driver{Kube: client, Job: f.Job, Log: c.log, Alive: c.alive}, nil
}

// alive tells whether another job still needs what it has: also one that waits does.
func (c *call) alive(ctx context.Context, of job.Job) (bool, error) {
	jobs, err := c.commands().Lookup(ctx, of.ID)
	if err != nil {
		return false, err
	}
	found, known := jobs[of.ID]
	return known && !found.Over(), nil
}

// bundlesAtSubmit judges the bundles of a job that is being submitted, without a request:
// the rules, and each value. Slurm 22.05 does not say whose job it is; slurm_bb_setup
// judges then.
func (c *call) bundlesAtSubmit(ctx context.Context, requests []bundle.Request) ([]*bundle.Rendered, bundle.Facts, error) {
	if len(requests) == 0 {
		return nil, bundle.Facts{}, nil
	}
	f, err := c.facts(ctx)
	if err != nil {
		return nil, f, err
	}
	if f.User == "" {
		c.log.Info("bundles are judged when the job is staged: this Slurm does not say who submits")
		return nil, f, nil
	}
	all, err := c.rendered(ctx, requests, f)
	return all, f, err
}

// checkBundles asks Kubernetes about all objects in a dry run.
func (c *call) checkBundles(ctx context.Context, all []*bundle.Rendered, f bundle.Facts) error {
	d, err := c.stager(f, kube.Hasty)
	if err != nil {
		return err
	}
	d.Alive = nil // Slurm cannot be asked
	return together(all, func(r *bundle.Rendered) error { return d.Check(ctx, stage.Of(r)) })
}

// together does something for each bundle of a job at once and returns the first error, one
// of a bundle that has time left only if no other has failed.
func together(all []*bundle.Rendered, do func(*bundle.Rendered) error) error {
	failed := make([]error, len(all))
	var group sync.WaitGroup
	for i, r := range all {
		group.Go(func() { failed[i] = safely.Do(func() error { return do(r) }) })
	}
	group.Wait()
	var waits error
	for _, err := range failed {
		var late *stage.LateError
		if err != nil && !(errors.As(err, &late) && !late.Final) {
			return err
		}
		waits = cmp.Or(waits, err)
	}
	return waits
}

// setupBundles judges the job's bundles with authority, leaves its variables for
// slurm_bb_paths, and claims the names of those that are staged before the job starts.
func (c *call) setupBundles(ctx context.Context, requests []bundle.Request) error {
	f, err := c.askedFacts(ctx)
	if err != nil {
		return err
	}
	all, d, err := c.openBundles(ctx, requests, f)
	if err != nil {
		return err
	}
	notes := workflow.BundleNotes{
		Env: map[string]string{}, Owner: slurm.Owner{UID: f.UID, User: f.User, Account: f.Account, Partition: f.Partition},
	}
	var instances []string
	for _, r := range all {
		maps.Copy(notes.Env, r.Env)
		instances = append(instances, r.Instance)
		notes.Namespaces = append(notes.Namespaces, r.Namespace())
	}
	notes.Env[envBundles] = strings.Join(instances, ",")
	slices.Sort(notes.Namespaces)
	notes.Namespaces = slices.Compact(notes.Namespaces)
	if err := c.local.WriteBundles(c.job.ID, notes); err != nil {
		return err
	}
	if err := c.keepEnv(nil); err != nil {
		return err
	}
	return together(moment(all, bundle.WhenStage), func(r *bundle.Rendered) error { return d.Claim(ctx, stage.Of(r)) })
}

// moment are the bundles that are made at a moment.
func moment(all []*bundle.Rendered, when string) []*bundle.Rendered {
	return slices.DeleteFunc(slices.Clone(all), func(r *bundle.Rendered) bool { return r.Bundle.When != when })
}

// startBundles makes those that need the job's nodes, and looks once that the others are
// ready still.
func (c *call) startBundles(ctx context.Context, requests []bundle.Request) error {
	if len(requests) == 0 {
		return nil
	}
	all, d, err := c.openLater(ctx, requests)
	if err != nil {
		return err
	}
	err = together(moment(all, bundle.WhenStage), func(r *bundle.Rendered) error {
		return c.bundleFailed(r, d.Ready(ctx, stage.Of(r)))
	})
	if err != nil {
		return err
	}
	return together(moment(all, bundle.WhenStart), func(r *bundle.Rendered) error {
		err := d.Claim(ctx, stage.Of(r)) // what failed in an earlier attempt to start the job is made again
		if err == nil {
			err = d.Bring(ctx, stage.Of(r), within(ctx, r.Timeout))
		}
		return c.bundleFailed(r, err)
	})
}

// within is the timeout of a bundle in a hook that Slurm does not call again: it ends before
// the hook does, so that on_failure decides about the job.
func within(ctx context.Context, timeout time.Duration) time.Duration {
	end, bounded := ctx.Deadline()
	if !bounded {
		return timeout
	}
	left := time.Until(end)
	return min(timeout, left-min(time.Second, left/10))
}

// openBundles expands the bundles of a job and connects to Kubernetes.
func (c *call) openBundles(ctx context.Context, requests []bundle.Request, f bundle.Facts) ([]*bundle.Rendered, *stage.Driver, error) {
	all, err := c.rendered(ctx, requests, f)
	if err != nil {
		return nil, nil, err
	}
	d, err := c.stager(f)
	return all, d, err
}

// openLater is openBundles for a hook after slurm_bb_setup.
func (c *call) openLater(ctx context.Context, requests []bundle.Request) ([]*bundle.Rendered, *stage.Driver, error) {
	f, err := c.notedFacts(ctx)
	if err != nil {
		return nil, nil, err
	}
	return c.openBundles(ctx, requests, f)
}

// stageBundles makes those that are staged while the job waits.
func (c *call) stageBundles(ctx context.Context, requests []bundle.Request) error {
	if len(requests) == 0 {
		return nil
	}
	all, d, err := c.openLater(ctx, requests)
	if err != nil {
		return err
	}
	return together(moment(all, bundle.WhenStage), func(r *bundle.Rendered) error {
		return c.bundleFailed(r, d.Bring(ctx, stage.Of(r), r.Timeout))
	})
}

// bundleFailed does what bundle.toml says about a bundle that cannot become ready. nil: the
// job goes on. An attempt that only ran out of its hook's time has not failed.
func (c *call) bundleFailed(r *bundle.Rendered, err error) error {
	var failed *stage.FailedError
	var late *stage.LateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &late) && !late.Final:
		return err
	case late == nil && !errors.As(err, &failed) && wire.CodeOf(err) != wire.Refused:
		return err // Kubernetes did not answer, or our rights do not suffice
	}
	switch r.Bundle.OnFailure {
	case bundle.OnFailureProceed:
		c.log.Warnf("the job starts without it: %v", err)
		return nil
	case bundle.OnFailureCancel:
		if cancel := c.cancelAfterwards(); cancel != nil {
			c.log.Errorf("the job cannot be cancelled and stays held: %v", cancel)
		}
	}
	return err
}

// endBundles removes the bundles of a job, in the namespaces that slurm_bb_setup has
// noted, or without notes in all that the rules name.
func (c *call) endBundles(ctx context.Context, p plan) error {
	notes, err := c.local.Bundles(c.job.ID)
	if err != nil {
		c.log.Warn(err)
	}
	namespaces := notes.Namespaces
	if len(namespaces) == 0 {
		if len(c.cfg.Bundles.Allow) == 0 || len(p.bundles) == 0 && len(p.storage) > 0 && p.storage[0] != "" {
			return nil // it has none
		}
		f, err := c.facts(ctx)
		if err == nil && f.User == "" {
			f, err = c.askedFacts(ctx)
		}
		if err != nil {
			c.log.Warn(err)
		}
		namespaces = policy.BundleNamespaces(&c.cfg.Bundles, f.User)
		for _, r := range p.bundles {
			if r.Namespace != "" && !slices.Contains(namespaces, r.Namespace) {
				namespaces = append(namespaces, r.Namespace)
			}
		}
	}
	d, err := c.stager(bundle.Facts{Job: c.job.Job})
	if err != nil {
		return err
	}
	if end, bounded := ctx.Deadline(); bounded && p.storage != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2) // DWS needs the other half
		defer cancel()
	}
	var failed []error
	for _, namespace := range namespaces {
		err := d.End(ctx, namespace)
		if len(notes.Namespaces) == 0 && kube.Is(err, kube.Denied) && !slices.Contains(c.cfg.Bundles.Named(), namespace) {
			c.log.Warn(err) // a namespace of a pattern, which nobody may have opened
			continue
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// nameOf is the user of an asker; "" if it is not known.
func nameOf(ctx context.Context, asker int64) string {
	if asker == workflow.NoUID {
		return ""
	}
	name, err := users.Name(ctx, uint32(asker))
	if err != nil {
		return ""
	}
	return name
}

// bundleStatus answers `scontrol show bbstat bundle ID`, a line for each bundle.
func (c *call) bundleStatus(ctx context.Context, asker int64, privileged bool) (string, error) {
	notes, err := c.local.Bundles(c.job.ID)
	if err != nil {
		return "", err
	}
	namespaces := notes.Namespaces
	if len(namespaces) == 0 {
		namespaces = policy.BundleNamespaces(&c.cfg.Bundles, nameOf(ctx, asker))
	}
	d, err := c.stager(bundle.Facts{Job: c.job.Job}, kube.Hasty)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, namespace := range namespaces {
		all, err := d.Instances(ctx, namespace)
		if kube.Is(err, kube.Denied) && !slices.Contains(c.cfg.Bundles.Named(), namespace) {
			continue // a namespace of a pattern, which nobody may have opened
		}
		if err != nil {
			return "", err
		}
		for _, p := range all {
			if asker != workflow.NoUID && asker != int64(p.UID) && !privileged {
				return "", fmt.Errorf("job %d belongs to another user", c.job.ID)
			}
			words := []string{"bundle=" + p.Instance, fmt.Sprintf("phase=%d/%d", p.N, p.Of), "status=" + workflow.Word(string(p.State))}
			if asker != workflow.NoUID { // anybody may ask Slurm 22.05
				words = append(words, "name="+workflow.Word(p.Phase), fmt.Sprintf("ready=%d/%d", p.Ready, p.All), "namespace="+p.Namespace)
			}
			if asker != workflow.NoUID && p.Reason != "" {
				words = append(words, "message="+workflow.Word(p.Reason))
			}
			lines = append(lines, strings.Join(words, " "))
		}
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("job %d has no bundle", c.job.ID)
	}
	return strings.Join(lines, "\n"), nil
}
