package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// owner is whose a file is to be; nil: of who runs setup.
type owner struct{ uid, gid int }

// writeFile puts data into a file that is there as a whole or not at all, with owner
// and mode from its first byte on.
func writeFile(path string, data []byte, mode fs.FileMode, of *owner) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".slurmk8s-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	// Where it is ours already, a hardened unit may not even try.
	if info, statErr := f.Stat(); statErr != nil || !isOf(info, of) {
		err = f.Chown(of.uid, of.gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
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

// keepFile is writeFile, unless all is as it should be.
func keepFile(path string, data []byte, mode fs.FileMode, of *owner) (Change, error) {
	had, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Created, writeFile(path, data, mode, of)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode() == mode && isOf(info, of) && bytes.Equal(had, data) {
		return Unchanged, nil
	}
	return Changed, writeFile(path, data, mode, of)
}

func isOf(info fs.FileInfo, of *owner) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (of == nil || int(stat.Uid) == of.uid && int(stat.Gid) == of.gid)
}

// ownerOf is whose a file or directory is, for another one beside it.
func ownerOf(path string) (*owner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, nil
	}
	return &owner{int(stat.Uid), int(stat.Gid)}, nil
}
