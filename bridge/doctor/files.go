package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// trusted reports a file that somebody else could change: it is run, or steers what
// runs, as root or SlurmUser. It tells whether the file is there at all.
func (h *host) trusted(r *report, path, missing string) bool {
	info, err := os.Stat(path)
	if err != nil {
		r.fail(missing, "%s: %v", path, cause(err))
		return false
	}
	if !info.Mode().IsRegular() {
		r.fail(missing, "%s is not a regular file", path)
		return false
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != 0 && !slices.Contains(h.slurmUID(), owner) {
		r.fail("chown root "+path, "%s is owned by uid %d, which could change it", path, owner)
	}
	if info.Mode().Perm()&0o022 != 0 {
		r.fail("chmod go-w "+path, "%s is writable by others (mode %04o)", path, info.Mode().Perm())
	}
	return true
}

// cause is an error without the path, which the line has already.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}

// lookStateDir checks where the hooks keep their files.
func lookStateDir(_ context.Context, h *host, r *report) {
	dir := h.cfg.StateDir
	make := fmt.Sprintf("install -d -o %s -m 0700 %s", h.slurm.SlurmUser, dir)
	info, err := os.Stat(dir)
	if err != nil {
		r.fail(make, "%s: %v", dir, cause(err))
		return
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.IsDir() {
		r.fail(make, "%s is not a directory", dir)
	}
	if uid := h.slurmUID(); uid == nil {
		r.fail("create the account, or set SlurmUser in "+h.cfg.SlurmConf, "SlurmUser %s does not exist on this host", h.slurm.SlurmUser)
	} else if !slices.Contains(uid, owner) {
		r.fail(fmt.Sprintf("chown %s %s", h.slurm.SlurmUser, dir), "%s is owned by uid %d, so the hooks, which run as %s, cannot write there", dir, owner, h.slurm.SlurmUser)
	}
	if info.Mode().Perm()&0o022 != 0 {
		r.fail("chmod 0700 "+dir, "%s is writable by others (mode %04o)", dir, info.Mode().Perm())
	}
	r.good("%s", dir)
}
