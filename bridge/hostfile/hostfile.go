// Package hostfile keeps small files on a host, in directories that only their owner can
// write into. Files are written atomically, so that a hook may be killed at any instant.
// Links are not followed.
package hostfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Make creates a directory and its parents if they are missing, and checks it.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return Check(dir)
}

// Check refuses a directory that anyone but root and this user could write into.
func Check(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if err := private(dir, info); err != nil {
		return err
	}
	if uid := ownerOf(info); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: run \"chown root %s\"", dir, uid, dir)
	}
	return nil
}

// CheckPrivate refuses a directory that anyone but its owner could write into. A missing
// one is not an error here; the caller reports it.
func CheckPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	return private(dir, info)
}

func private(dir string, info fs.FileInfo) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s is writable by others (mode %04o): run \"chmod go-w %s\"", dir, info.Mode().Perm(), dir)
	}
	return nil
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// Write creates or replaces a file of this user. Several processes may write it at once;
// the last one wins. The file is not synced to disk, because hooks can lose it without harm.
func Write(path, text string, mode fs.FileMode) error {
	return write(path, text, mode, nil, false)
}

// Owner is the owner that a file is given; nil: this user.
type Owner struct{ UID, GID int }

// Has reports whether the file belongs to the owner.
func (o *Owner) Has(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	return o == nil || int(stat.Uid) == o.UID && int(stat.Gid) == o.GID
}

// WriteAs is Write for a file that belongs to the owner from the start and is synced to
// disk when WriteAs returns.
func WriteAs(path, text string, mode fs.FileMode, of *Owner) error {
	return write(path, text, mode, of, true)
}

func write(path, text string, mode fs.FileMode, of *Owner, sync bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished(path)+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	// Where it is theirs already, a hardened unit may not even try.
	if info, statErr := f.Stat(); of != nil && (statErr != nil || !of.Has(info)) {
		err = f.Chown(of.UID, of.GID)
	}
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// unfinished is how the name begins under which a file is written first. A Write that was
// killed leaves one, which Remove takes away.
func unfinished(path string) string { return ".new-" + filepath.Base(path) + "-" }

// maxBytes bounds a file that is read.
const maxBytes = 4 << 20

// Read returns the content of a file, which must be regular and belong to root or this user.
func Read(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if uid := ownerOf(info); !info.Mode().IsRegular() || uid != 0 && uid != os.Geteuid() {
		return "", fmt.Errorf("%s is not a regular file of root's or this user's", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBytes))
	return string(text), err
}

// Remove removes a file. A missing file is not an error.
func Remove(path string) error {
	var failed []error
	names := []string{path}
	if files, err := os.ReadDir(filepath.Dir(path)); err == nil {
		for _, f := range files {
			if strings.HasPrefix(f.Name(), unfinished(path)) {
				names = append(names, filepath.Join(filepath.Dir(path), f.Name()))
			}
		}
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// File is a file of a job: PREFIX<id>.
type File struct {
	ID   uint32
	Made time.Time // when it was last written
}

// Jobs returns the files of jobs in a directory. A missing directory has none.
func Jobs(dir, prefix string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		id, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil {
			continue
		}
		if info, err := e.Info(); err == nil { // else it is gone by now
			files = append(files, File{uint32(id), info.ModTime()})
		}
	}
	return files, nil
}

// OfJob returns the path of a job's file.
func OfJob(dir, prefix string, job uint32) string {
	return filepath.Join(dir, prefix+strconv.FormatUint(uint64(job), 10))
}

// Lock waits until no other process holds the lock, or until ctx ends. The lock ends
// with unlock, or with the process.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		}
	}
}
