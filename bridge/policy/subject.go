package policy

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

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

// matches tells whether a rule is for the user; sure is false where that was taken for
// granted.
func (s *Subject) matches(ctx context.Context, rule slurmconf.ServiceRule) (applies, sure bool, err error) {
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
	g, err := lookup(ctx, "group", name)
	if err != nil || g == nil {
		return false, err
	}
	id, err := strconv.ParseUint(g[2], 10, 32)
	if err != nil {
		return false, fmt.Errorf("group %s: cannot read %q", name, g[2])
	}
	if uint32(id) == s.GID || slices.Contains(s.Groups, uint32(id)) {
		return true, nil
	}
	return s.Groups == nil && slices.Contains(strings.Split(g[3], ","), s.User), nil
}

// UserName returns the name of a uid.
func UserName(ctx context.Context, uid uint32) (string, error) {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username, nil
	}
	entry, err := lookup(ctx, "passwd", id)
	if err != nil {
		return "", err
	}
	if entry == nil {
		return "", fmt.Errorf("uid %d has no name on this node", uid)
	}
	return entry[0], nil
}

const lookupTimeout = 3 * time.Second

// lookup asks the host's name service by getent(1): our program is static and so
// reads files only, while sites keep their users in LDAP. nil: there is no such entry.
func lookup(ctx context.Context, database, key string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/getent", database, "--", key)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C"}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 2 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getent %s %s: %w", database, key, err)
	}
	fields := strings.Split(strings.TrimRight(out.String(), "\n"), ":")
	if len(fields) < 4 {
		return nil, fmt.Errorf("getent %s %s: cannot read %q", database, key, out.String())
	}
	return fields, nil
}

// Groups returns the ids of all groups of a user, by the host's name service.
func Groups(ctx context.Context, name string, primary uint32) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/getent", "initgroups", "--", name)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: getent initgroups: %w", name, err)
	}
	groups := []uint32{primary}
	for _, word := range strings.Fields(strings.TrimPrefix(string(out), name)) {
		id, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of user %s: cannot read %q", name, word)
		}
		groups = append(groups, uint32(id))
	}
	return groups, nil
}
