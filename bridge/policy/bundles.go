package policy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Bundles is [bundles] of slurmk8s.toml for one user.
type Bundles struct {
	cfg   *slurmconf.Bundles
	user  string
	rules []slurmconf.BundleRule // those that are for the user
}

// BundlesFor selects the rules that are for a user. The error says that it cannot be
// known which are; nobody is allowed anything then.
func BundlesFor(ctx context.Context, cfg *slurmconf.Bundles, who *Subject) (*Bundles, error) {
	b := &Bundles{cfg: cfg, user: who.User}
	for _, rule := range cfg.Allow {
		applies, _, err := who.matches(ctx, rule.Subjects())
		if err != nil {
			return nil, err
		}
		if applies {
			b.rules = append(b.rules, rule)
		}
	}
	return b, nil
}

// Admit gives each request its namespace and judges it. The error is a *job.Refused.
func (b *Bundles) Admit(requests []bundle.Request) ([]bundle.Request, error) {
	switch {
	case len(b.cfg.Allow) == 0:
		return nil, job.Refusef("bundles are not enabled on this cluster: the administrator allows them with [[bundles.allow]] in slurmk8s.toml")
	case len(b.rules) == 0:
		return nil, job.Refusef("user %s may not have bundles: no [[bundles.allow]] of slurmk8s.toml allows it", b.user)
	case len(requests) > b.cfg.MaxBundles:
		return nil, job.Refusef("a job may have %d bundles, not %d (bundles.max_bundles)", b.cfg.MaxBundles, len(requests))
	}
	admitted := slices.Clone(requests)
	for i := range admitted {
		if err := b.admit(&admitted[i]); err != nil {
			return nil, err
		}
	}
	return admitted, nil
}

func (b *Bundles) admit(r *bundle.Request) error {
	var namespaces []string // of the rules that allow the bundle
	r.Limits = nil
	for _, rule := range b.rules {
		if !slices.ContainsFunc(rule.Bundles, func(pattern string) bool { return matches(pattern, r.Name) }) {
			continue
		}
		for _, pattern := range rule.Namespaces {
			namespace := expandUser(pattern, b.user)
			if r.Namespace == "" && !strings.Contains(namespace, "*") {
				r.Namespace = namespace
			}
			if r.Namespace != "" && matches(namespace, r.Namespace) {
				r.Limits = append(r.Limits, bundleLimit(rule))
				break
			}
			namespaces = append(namespaces, namespace)
		}
	}
	switch {
	case len(r.Limits) > 0:
		return nil
	case len(namespaces) == 0:
		return job.Refusef("bundle %s: user %s may use %s", r.Name, b.user, strings.Join(b.names(), ", "))
	case r.Namespace == "":
		return job.Refusef("bundle %s: which namespace? write ns=, one of %s", r.Name, strings.Join(namespaces, ", "))
	}
	return job.Refusef("bundle %s: namespace %s: user %s may use %s", r.Name, r.Namespace, b.user, strings.Join(namespaces, ", "))
}

func bundleLimit(rule slurmconf.BundleRule) bundle.Limit {
	limit := bundle.Limit{Most: map[string]string{}, Images: rule.Images}
	for name, most := range rule.Limits {
		limit.Most[name] = fmt.Sprint(most)
	}
	return limit
}

// BundleNamespaces are those that the rules name, those of a user included: "user-alice" for
// "user-{user}". A pattern with "*" names none.
func BundleNamespaces(cfg *slurmconf.Bundles, user string) []string {
	namespaces := cfg.Named()
	for _, rule := range cfg.Allow {
		for _, pattern := range rule.Namespaces {
			namespace := expandUser(pattern, user)
			if user != "" && !strings.Contains(namespace, "*") && !slices.Contains(namespaces, namespace) {
				namespaces = append(namespaces, namespace)
			}
		}
	}
	return namespaces
}

// names are the bundles that the user may have, each once.
func (b *Bundles) names() []string {
	var names []string
	for _, rule := range b.rules {
		names = append(names, rule.Bundles...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func matches(pattern, name string) bool {
	matched, err := path.Match(pattern, name)
	return err == nil && matched
}
