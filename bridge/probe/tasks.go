package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// AwaitFile returns when the file can be opened: where one of the tasks lives, or without
// any where this process does. Call it as the owner of the file and the tasks.
func AwaitFile(ctx context.Context, path string, tasks ...string) error {
	file, err := awaitFile(ctx, path, tasks)
	if err == nil {
		err = file.Close()
	}
	return err
}

func awaitFile(ctx context.Context, path string, tasks []string) (*os.File, error) {
	for pause := firstPause; ; pause = min(pause*3/2, longPause) {
		var file *os.File
		var err error
		if len(tasks) > 0 {
			file, err = openWhereTasksLive(path, tasks)
		} else {
			file, err = openFile(unix.AT_FDCWD, path)
		}
		if err == nil {
			return file, nil
		}
		if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

func openWhereTasksLive(path string, tasks []string) (*os.File, error) {
	var failed []error
	for _, task := range tasks {
		root, err := unix.Open("/proc/"+task+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		var file *os.File
		if err == nil {
			file, err = openFile(root, path)
			_ = unix.Close(root)
		}
		if err == nil {
			return file, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// openFile opens a file as seen from a root directory, which no link leads out of.
func openFile(root int, path string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC}
	if root != unix.AT_FDCWD {
		how.Resolve = unix.RESOLVE_IN_ROOT
	}
	fd, err := unix.Openat2(root, path, &how)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.6: an absolute link leads to the node's file
		if root != unix.AT_FDCWD {
			path = strings.TrimLeft(path, "/")
		}
		fd, err = unix.Openat(root, path, int(how.Flags), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// TellTasks writes a line to standard error of the first task that has it open for
// writing. Call it as the owner of the tasks. It waits for no reader.
func TellTasks(line string, tasks []string) error {
	var failed []error
	for _, task := range tasks {
		err := writeTo("/proc/"+task+"/fd/2", line+"\n")
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func writeTo(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		_ = unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", path, err)
	}
	return nil
}
