// Package users asks the host's name service who a user is: our program is static and so
// reads files only, while sites keep their users in LDAP.
package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Name returns the name of a uid.
func Name(ctx context.Context, uid uint32) (string, error) {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username, nil
	}
	entry, err := lookup(ctx, "passwd", id)
	if err != nil {
		return "", err
	}
	if entry == nil {
		return "", fmt.Errorf("uid %d has no name on this host", uid)
	}
	return entry[0], nil
}

// Account is a user of the host's name service.
type Account struct {
	Name     string
	UID, GID uint32
}

// AccountOf returns a user by name or, as slurm.conf allows for SlurmUser, by uid.
func AccountOf(ctx context.Context, nameOrUID string) (*Account, error) {
	if u, err := user.Lookup(nameOrUID); err == nil {
		return account(u.Username, u.Uid, u.Gid)
	}
	entry, err := lookup(ctx, "passwd", nameOrUID)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, fmt.Errorf("user %s does not exist on this host (getent passwd %s)", nameOrUID, nameOrUID)
	}
	return account(entry[0], entry[2], entry[3])
}

// SlurmUser returns the account that slurmctld runs as, by the slurm.conf at a path.
func SlurmUser(ctx context.Context, slurmConf string) (*Account, error) {
	conf, err := slurmconf.ReadSlurmConf(slurmConf)
	if err != nil {
		return nil, err
	}
	account, err := AccountOf(ctx, conf.SlurmUser)
	if err != nil {
		return nil, fmt.Errorf("SlurmUser of %s: %w", slurmConf, err)
	}
	return account, nil
}

func account(name, uid, gid string) (*Account, error) {
	u, uidErr := strconv.ParseUint(uid, 10, 32)
	g, gidErr := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	return &Account{Name: name, UID: uint32(u), GID: uint32(g)}, nil
}

const lookupTimeout = 3 * time.Second

// lookup asks by getent(1). nil: there is no such entry.
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

// Group is a group of the host's name service.
type Group struct {
	ID      uint32
	Members []string // that the group's own list names
}

// GroupOf returns a group by its name; nil: there is no such group.
func GroupOf(ctx context.Context, name string) (*Group, error) {
	entry, err := lookup(ctx, "group", name)
	if err != nil || entry == nil {
		return nil, err
	}
	id, err := strconv.ParseUint(entry[2], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group %s: cannot read %q", name, entry[2])
	}
	return &Group{ID: uint32(id), Members: strings.Split(entry[3], ",")}, nil
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
