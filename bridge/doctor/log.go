package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"slurmk8s.io/slurmk8s/bridge/users"
)

// lookLog checks that the hooks of slurmctld, which run as SlurmUser, can write the log:
// they never fail for it.
func lookLog(ctx context.Context, h *host, r *report) {
	path := h.cfg.Log.File
	if path == "" {
		r.ok("the journal")
		return
	}
	account, err := users.SlurmUser(ctx, h.cfg.SlurmConf)
	if err != nil {
		return // lookStateDir says it
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path)
		if info, err = os.Stat(dir); err != nil {
			r.fail("create the directory, or correct log.file in slurmk8s.toml", "%s: %v", dir, cause(err))
		} else if !writable(info, account) {
			r.fail(fmt.Sprintf("install -o %s -m 0640 /dev/null %s", account.Name, path), "%s does not exist, and %s, whom the hooks run as, cannot create it", path, account.Name)
		}
		r.good("%s, which the first hook will create", path)
		return
	}
	switch {
	case err != nil:
		r.fail("", "%v", err)
	case !info.Mode().IsRegular():
		r.fail("remove it, or correct log.file in slurmk8s.toml", "%s is not a regular file: the hooks log to the journal", path)
	case !writable(info, account):
		r.fail(fmt.Sprintf("chown %s %s", account.Name, path), "%s is not writable for %s, whom the hooks run as: they log to the journal", path, account.Name)
	}
	r.good("%s", path)
}

// writable tells by owner and mode whether an account may write. Its further groups and
// access lists are not looked at.
func writable(info fs.FileInfo, account *users.Account) bool {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case account.UID == 0:
		return true
	case stat.Uid == account.UID:
		return mode&0o200 != 0
	case stat.Gid == account.GID:
		return mode&0o020 != 0
	}
	return mode&0o002 != 0
}
