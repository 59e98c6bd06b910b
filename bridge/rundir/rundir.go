// Package rundir keeps small files of root's in a directory that a boot empties. Each
// is written at once or not at all, so that a hook may be killed at any instant.
package rundir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Make makes a directory, if it is not there, and those above it.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return Check(dir)
}

// Check refuses a directory that somebody else could write into.
func Check(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || info.Mode().Perm()&0o022 != 0 || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a directory of root's alone", dir)
	}
	return nil
}

// Write makes or replaces a file. One who writes it is alone with it.
func Write(path, text string, mode os.FileMode) error {
	unfinished := unfinished(path)
	f, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err != nil {
		_ = os.Remove(unfinished)
	}
	return err
}

// unfinished is where a file is written first: a Write that was killed leaves one that
// the next Write or Remove takes away.
func unfinished(path string) string {
	return filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
}

// Remove removes a file; one that is not there is no error.
func Remove(path string) error {
	var failed []error
	for _, name := range []string{path, unfinished(path)} {
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

// Jobs are the files of jobs in a directory. A directory that does not exist has none.
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
