package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
)

// envBundles are the instances of a job's bundles, "aok,exporter". A task that had the
// option and does not find it knows that job_submit.lua did not see the job.
const envBundles = "SLURMK8S_BUNDLES"

// bundleClient is the credential for the bundles of the job.
func (c *call) bundleClient(change ...func(*kube.Options)) (*kube.Client, error) {
	return stage.Client(c.cfg, fmt.Sprintf("job %d; bundles", c.job.ID), c.log, change...)
}

// stager connects to Kubernetes for the bundles of the job.
func (c *call) stager(f bundle.Facts, change ...func(*kube.Options)) (*stage.Driver, error) {
	client, err := c.bundleClient(change...)
	if err != nil {
		return nil, err
	}
	return &stage.Driver{Kube: client, Job: f.Job, Log: c.log, Alive: c.alive}, nil
}

// maker is stager for a hook that makes objects: in the user's name, if the site wants that.
func (c *call) maker(f bundle.Facts, change ...func(*kube.Options)) (*stage.Driver, error) {
	d, err := c.stager(f, change...)
	if err != nil {
		return nil, err
	}
	as, err := kube.IdentityOf(c.cfg.Bundles.Impersonate, c.cfg.Bundles.ImpersonateGroups, f.User, "")
	if as == nil || err != nil {
		return d, err
	}
	d.As, err = c.bundleClient(append(slices.Clone(change), kube.As(as))...)
	return d, err
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
	d, err := c.maker(f, kube.Hasty)
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
	d, err := c.maker(f)
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
			lines = append(lines, bundleWords(p, asker != workflow.NoUID)) // anybody may ask Slurm 22.05
		}
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("job %d has no bundle", c.job.ID)
	}
	return strings.Join(lines, "\n"), nil
}

// bundleWords are words of the form key=value, as of a workflow.
func bundleWords(p stage.Progress, all bool) string {
	words := []string{"bundle=" + p.Instance, fmt.Sprintf("phase=%d/%d", p.N, p.Of)}
	if all && p.Phase != "" {
		words = append(words, "name="+workflow.Word(p.Phase), fmt.Sprintf("ready=%d/%d", p.Ready, p.All))
	}
	words = append(words, "status="+workflow.Word(p.State.Status()))
	if all {
		words = append(words, "namespace="+p.Namespace)
	}
	if all && p.Reason != "" {
		words = append(words, "message="+workflow.Word(p.Reason))
	}
	return strings.Join(words, " ")
}
