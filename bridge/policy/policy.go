// Package policy judges by slurmk8s.toml who may have which service.
package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Policy is [services] of slurmk8s.toml for one user.
type Policy struct {
	cfg   *slurmconf.Services
	user  string
	rules []slurmconf.ServiceRule // those that are for the user
	// defaultUnknown: one of them may not be, so that nobody knows which is the first,
	// whose namespace is the default.
	defaultUnknown bool
}

// For selects the rules that are for a user. The error says that it cannot be
// known which are; nobody is allowed anything then.
func For(ctx context.Context, cfg *slurmconf.Services, who *Subject) (*Policy, error) {
	p := &Policy{cfg: cfg, user: who.User}
	for _, rule := range cfg.Allow {
		applies, certain, err := who.matches(ctx, rule.Subjects())
		if err != nil {
			return nil, err
		}
		if applies {
			p.rules = append(p.rules, rule)
			p.defaultUnknown = p.defaultUnknown || !certain
		}
	}
	return p, nil
}

// Admit gives each service its namespace and judges it. One whose namespace a lenient
// Subject leaves open is admitted without one. The error is a *job.Refused.
func (p *Policy) Admit(specs []service.Spec, namespace string) ([]service.Spec, error) {
	if err := p.mustHaveRules(); err != nil {
		return nil, err
	}
	admitted := slices.Clone(specs)
	for i := range admitted {
		s := &admitted[i]
		if s.Namespace == "" {
			if s.Namespace = p.defaultNamespace(namespace); s.Namespace == "" {
				continue
			}
		}
		if err := p.admit(*s); err != nil {
			return nil, err
		}
		for _, o := range admitted[:i] {
			if o.Name == s.Name && o.Namespace == s.Namespace {
				return nil, job.Refusef("%s is given twice", s.Object())
			}
		}
	}
	return admitted, p.Count(admitted, nil)
}

// Count refuses more services than a job may have. others are those that it has
// already, as "NAMESPACE/NAME"; one that it asks for again counts once.
func (p *Policy) Count(specs []service.Spec, others []string) error {
	most := 0
	for _, rule := range p.rules {
		most = max(most, rule.MaxServices)
	}
	all := map[string]bool{}
	for _, s := range specs {
		all[s.Namespace+"/"+s.Name] = true
	}
	for _, name := range others {
		all[name] = true
	}
	if len(all) > most {
		return job.Refusef("a job of user %s may have %d services, not %d", p.user, most, len(all))
	}
	return nil
}

// Namespace judges a namespace to read from; "" asks for the user's default one, which a
// lenient Subject may leave open.
func (p *Policy) Namespace(namespace, asked string) (string, error) {
	if err := p.mustHaveRules(); err != nil {
		return "", err
	}
	if namespace == "" {
		if namespace = p.defaultNamespace(asked); namespace == "" {
			return "", nil
		}
	}
	for _, rule := range p.rules {
		if p.matchAny(rule.Namespaces, namespace) {
			return namespace, nil
		}
	}
	return "", job.Refusef("namespace %s: user %s may use %s", namespace, p.user, p.list(func(r slurmconf.ServiceRule) []string { return r.Namespaces }))
}

// mustHaveRules refuses a user for whom there is no rule.
func (p *Policy) mustHaveRules() error {
	switch {
	case len(p.cfg.Allow) == 0:
		return job.Refusef("services are not enabled on this cluster: the administrator allows them with [[services.allow]] in slurmk8s.toml")
	case len(p.rules) == 0:
		return job.Refusef("user %s may not have services: no [[services.allow]] of slurmk8s.toml allows it", p.user)
	}
	return nil
}

// defaultNamespace is what a job that names none gets; empty if that is not known.
func (p *Policy) defaultNamespace(asked string) string {
	if asked != "" || p.defaultUnknown {
		return asked
	}
	for _, rule := range p.rules {
		for _, pattern := range rule.Namespaces {
			if name := p.expand(pattern); !strings.Contains(name, "*") {
				return name
			}
		}
	}
	return "default"
}

// admit wants one rule that allows all of a service. The error tells what the rule
// that came furthest allows.
func (p *Policy) admit(s service.Spec) error {
	furthest, reason := 0, error(nil)
	for _, rule := range p.rules {
		stage, err := p.judge(rule, s)
		if err == nil {
			return nil
		}
		if stage > furthest {
			furthest, reason = stage, err
		}
	}
	if furthest == 1 { // no rule knows the namespace: name those of all
		_, reason = p.Namespace(s.Namespace, "")
	}
	return job.Refusef("service %s: %v", s.Name, reason)
}

// MayUse tells whether a service may have a port of the node.
func (p *Policy) MayUse(s service.Spec, port uint16) bool {
	s.Ports = []service.Port{{Port: port, Target: port}}
	return p.admit(s) == nil
}

func (p *Policy) judge(rule slurmconf.ServiceRule, s service.Spec) (stage int, err error) {
	switch {
	case !p.matchAny(rule.Namespaces, s.Namespace):
		return 1, fmt.Errorf("namespace %s", s.Namespace)
	case !p.mayName(rule.Names, s.Name):
		return 2, fmt.Errorf("user %s may use the names %s in namespace %s", p.user, p.expandAll(rule.Names), s.Namespace)
	case !slices.Contains(rule.Expose, s.Expose):
		what := "expose=" + s.Expose
		if s.Internal() {
			what = "type=internal"
		}
		return 3, fmt.Errorf("user %s may not use %s in namespace %s, only %s", p.user, what, s.Namespace, strings.Join(rule.Expose, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		if !p.matchAny(rule.Annotations, key) {
			return 4, p.mayNotAnnotate(rule, key, s.Namespace)
		}
	}
	if s.Internal() {
		return 5, nil // its ports are those of pods
	}
	for _, port := range s.Ports {
		if (port.Auto || port.File != "") && port.Target == 0 {
			continue // MayUse judges it
		}
		if inRanges(p.cfg.ForbiddenPorts, port.Target) {
			return 4, fmt.Errorf("no job may publish node port %d (services.forbidden_ports)", port.Target)
		}
		if !inRanges(rule.Ports, port.Target) {
			return 4, fmt.Errorf("user %s may use node ports %s, not %d", p.user, strings.Join(rule.Ports, ", "), port.Target)
		}
	}
	return 5, nil
}

func (p *Policy) mayNotAnnotate(rule slurmconf.ServiceRule, key, namespace string) error {
	if len(rule.Annotations) == 0 {
		return fmt.Errorf("user %s may not annotate services in namespace %s (annotations of [[services.allow]])", p.user, namespace)
	}
	return fmt.Errorf("user %s may use the annotations %s in namespace %s, not %s", p.user, p.expandAll(rule.Annotations), namespace, key)
}

// mayName judges a name; at the prompt it may have patterns that nobody knows yet, and
// what it begins with is judged.
func (p *Policy) mayName(patterns []string, name string) bool {
	known, all := service.KnownName(name, p.user)
	if all {
		return p.matchAny(patterns, known)
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		begin, _, _ := strings.Cut(p.expand(pattern), "*")
		return strings.HasPrefix(begin, known) || strings.HasPrefix(known, begin)
	})
}

func inRanges(ranges []string, port uint16) bool {
	return slices.ContainsFunc(ranges, func(text string) bool {
		r, err := slurmconf.ParsePortRange(text)
		return err == nil && r.Has(port)
	})
}

// expand puts the user's label into a pattern. It is a DNS label, whatever the user's
// name is: a name with a "*" does not become a pattern itself.
func (p *Policy) expand(pattern string) string { return expandUser(pattern, p.user) }

func expandUser(pattern, user string) string {
	label, _ := users.Label(user)
	return strings.ReplaceAll(pattern, "{user}", label)
}

func (p *Policy) matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return matches(p.expand(pattern), name)
	})
}

// expandAll lists patterns for a message. It says why another word than the user's name
// stands in them.
func (p *Policy) expandAll(patterns []string) string {
	names := make([]string, len(patterns))
	for i, pattern := range patterns {
		names[i] = p.expand(pattern)
	}
	text := strings.Join(names, ", ")
	label, because := users.Label(p.user)
	if because != "" && slices.ContainsFunc(patterns, func(s string) bool { return strings.Contains(s, "{user}") }) {
		text += fmt.Sprintf(" (%s stands for %s: %s)", label, p.user, because)
	}
	return text
}

func (p *Policy) list(of func(slurmconf.ServiceRule) []string) string {
	var all []string
	for _, rule := range p.rules {
		all = append(all, of(rule)...)
	}
	return p.expandAll(slices.Compact(all))
}
