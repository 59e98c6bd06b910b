package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Storage is what [[workflows.allow]] of slurmk8s.toml allows one user.
type Storage struct {
	user  string
	rules []slurmconf.StorageRule // those that are for the user
}

// StorageFor selects the rules that are for a user. It is nil if the site has no rules, or the
// user is one of workflows.operators: then all that DWS allows is allowed.
func StorageFor(ctx context.Context, cfg *slurmconf.Workflows, who *Subject) (*Storage, error) {
	if len(cfg.Allow) == 0 || slices.Contains(cfg.Operators, who.User) {
		return nil, nil
	}
	s := &Storage{user: who.User}
	for _, rule := range cfg.Allow {
		applies, _, err := who.matches(ctx, rule.Subjects())
		if err != nil {
			return nil, err
		}
		if applies {
			s.rules = append(s.rules, rule)
		}
	}
	return s, nil
}

// Admit judges directives as DWS takes them. The error is a *job.Refused.
func (s *Storage) Admit(directives []string) error {
	if s == nil {
		return nil
	}
	for _, directive := range directives {
		if why := s.refuses(parseAsk(directive)); why != "" {
			return job.Refusef("%s [%s]", why, directive)
		}
	}
	return nil
}

// ask is what the rules look at in a directive.
type ask struct{ command, kind, profile, capacity string }

func parseAsk(directive string) (a ask) {
	words := strings.Fields(directive)
	if len(words) > 1 {
		a.command = words[1]
	}
	for _, word := range words {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "type":
			a.kind = value
		case "profile":
			a.profile = value
		case "capacity":
			a.capacity = value
		}
	}
	if a.command == "create_persistent" {
		a.kind = "persistent"
	}
	return a
}

// refuses says why no rule allows it; "": one does. The rule that comes nearest tells.
func (s *Storage) refuses(a ask) string {
	why := fmt.Sprintf("user %s may not use %s: no [[workflows.allow]] of slurmk8s.toml allows it", s.user, a.command)
	if len(s.rules) == 0 {
		why = fmt.Sprintf("user %s may not have storage: no [[workflows.allow]] of slurmk8s.toml allows it", s.user)
	}
	for _, rule := range s.rules {
		if !slices.Contains(rule.Directives, a.command) {
			continue
		}
		if a.profile != "" && !slices.ContainsFunc(rule.Profiles, func(pattern string) bool { return matches(pattern, a.profile) }) {
			why = fmt.Sprintf("profile %s: user %s may use %s", a.profile, s.user, strings.Join(rule.Profiles, ", "))
			continue
		}
		most := rule.Most(a.kind)
		if most == 0 || a.capacity == "" {
			return ""
		}
		switch bytes, ok := slurmconf.Capacity(a.capacity); {
		case !ok:
			why = fmt.Sprintf("capacity %s: write an integer and a unit, such as 50GB or 1TiB", a.capacity)
		case bytes > most:
			why = fmt.Sprintf("capacity %s: user %s may have at most %s", a.capacity, s.user, limitOf(rule, a.kind))
		default:
			return ""
		}
	}
	return why
}

// limitOf is how the administrator wrote a limit.
func limitOf(rule slurmconf.StorageRule, kind string) string {
	for _, limit := range rule.Max {
		if size, ok := strings.CutPrefix(limit, kind+"="); ok {
			if kind == "xfs" || kind == "gfs2" || kind == "raw" {
				return size + " of " + kind + " on each node"
			}
			return size + " of " + kind + " storage"
		}
	}
	return ""
}
