package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// writeFile puts data into a file that is there as a whole or not at all, with owner
// and mode from its first byte on; nil: the owner is who runs setup.
func writeFile(path string, data []byte, mode fs.FileMode, of *hostfile.Owner) error {
	if err := hostfile.WriteAs(path, string(data), mode, of); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// keepFile is writeFile, unless all is as it should be.
func keepFile(path string, data []byte, mode fs.FileMode, of *hostfile.Owner) (Change, error) {
	had, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Created, writeFile(path, data, mode, of)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode() == mode && of.Has(info) && bytes.Equal(had, data) {
		return Unchanged, nil
	}
	return Changed, writeFile(path, data, mode, of)
}

// ownerOf is whose a file or directory is, for another one beside it.
func ownerOf(path string) (*hostfile.Owner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, nil
	}
	return &hostfile.Owner{UID: int(stat.Uid), GID: int(stat.Gid)}, nil
}
