package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Subject is the user of a job. Nothing in it may come from the job's environment.
type Subject struct {
	User     string
	UID, GID uint32
	// Groups are the ids of the user's groups as Slurm has them; nil when it does
	// not tell: then the groups' own lists of members count.
	Groups []uint32
	// Account asks Slurm for the job's account. It is asked only if a rule needs
	// it; nil: there is no telling.
	Account func(context.Context) (string, error)
	// Lenient takes what cannot be known for a match: at a user's prompt, where
	// the node judges again.
	Lenient bool

	account *string
}

// matches tells whether a rule is for the user; certain is false where that was taken
// for granted.
func (s *Subject) matches(ctx context.Context, rule slurmconf.Subjects) (applies, certain bool, err error) {
	if slices.Contains(rule.Users, "*") || slices.Contains(rule.Users, s.User) {
		return true, true, nil
	}
	for _, name := range rule.Groups {
		in, err := s.in(ctx, name)
		if err != nil && s.Lenient {
			return true, false, nil
		}
		if in || err != nil {
			return in, true, err
		}
	}
	if len(rule.Accounts) == 0 {
		return false, true, nil
	}
	if s.Account == nil {
		if s.Lenient {
			return true, false, nil
		}
		return false, false, fmt.Errorf("the account of the job is unknown")
	}
	if s.account == nil {
		account, err := s.Account(ctx)
		if err != nil {
			return false, false, fmt.Errorf("account of the job: %w", err)
		}
		s.account = &account
	}
	// Slurm's accounts are lower case, whatever a job or a rule says.
	return slices.ContainsFunc(rule.Accounts, func(a string) bool { return strings.EqualFold(a, *s.account) }), true, nil
}

// in tells whether the user is in a group. A group that does not exist has nobody.
func (s *Subject) in(ctx context.Context, name string) (bool, error) {
	group, err := users.GroupOf(ctx, name)
	if err != nil || group == nil {
		return false, err
	}
	if group.ID == s.GID || slices.Contains(s.Groups, group.ID) {
		return true, nil
	}
	return s.Groups == nil && slices.Contains(group.Members, s.User), nil
}
