// Package mark keeps, on each node, which jobs have services: the epilog of a job
// without one costs nothing, and what a killed program left behind is found. A
// mark is the file job.<id>, one line for each service of a step.
package mark

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/rundir"
)

// Dir is services.run_dir of slurmk8s.toml, root's own and gone after a boot.
type Dir string

// Entry is a service of a step on this node.
type Entry struct {
	Step    string
	Service string // "NAMESPACE/NAME"

	pid   int    // of the step's program
	start string // when it began, since numbers of processes repeat
}

func (d Dir) path(job uint32) string {
	return filepath.Join(string(d), "job."+strconv.FormatUint(uint64(job), 10))
}

// Add marks services of a step, on behalf of this process, before the first of
// them is made. allow is given the services that the job's other steps have; its
// error leaves everything as it was.
func (d Dir) Add(job uint32, step string, services []string, allow func(others []string) error) error {
	return d.locked(true, func() error {
		entries, err := d.read(job)
		if err != nil {
			return err
		}
		var others []string
		for _, e := range entries {
			if e.alive() {
				others = append(others, e.Service)
			}
		}
		if err := allow(others); err != nil {
			return err
		}
		start, _ := startOf(os.Getpid())
		for _, service := range services {
			entries = append(entries, Entry{Step: step, Service: service, pid: os.Getpid(), start: start})
		}
		return d.write(job, entries)
	})
}

// Remove takes away what this process marked. What other steps marked stays, and
// so does what their dead programs did.
func (d Dir) Remove(job uint32) error {
	return d.locked(false, func() error {
		entries, err := d.read(job)
		if err != nil {
			return err
		}
		start, _ := startOf(os.Getpid())
		return d.write(job, slices.DeleteFunc(entries, func(e Entry) bool { return e.pid == os.Getpid() && e.start == start }))
	})
}

// Forget removes the mark of a job that is over.
func (d Dir) Forget(job uint32) error {
	return d.locked(false, func() error { return d.write(job, nil) })
}

// Alive tells whether the program of a step runs on this node.
func (d Dir) Alive(job uint32, step string) bool {
	entries, err := d.read(job)
	return err == nil && slices.ContainsFunc(entries, func(e Entry) bool { return e.Step == step && e.alive() })
}

// Wanted tells whether another step of the job, whose program runs on this node, has
// marked a service.
func (d Dir) Wanted(job uint32, step, service string) bool {
	entries, err := d.read(job)
	return err == nil && slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Step != step && e.Service == service && e.alive()
	})
}

// Await returns when no program of a step runs on this node, or ctx ends.
func (d Dir) Await(ctx context.Context, job uint32, step string) error {
	for {
		entries, err := d.read(job)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Step == step && e.alive() })
		if i < 0 {
			return nil
		}
		if err := awaitExit(ctx, entries[i].pid); err != nil {
			return err
		}
	}
}

// awaitExit returns when a process has ended. The caller looks again: the number may be
// another process's by now, and a kernel before 5.3 cannot tell, so that a second passes.
func awaitExit(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			return nil
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the wait costs no thread
		_ = unix.Close(fd)
		return err
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { file.Close() })()
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	return cmp.Or(ctx.Err(), err)
}

// Namespaces are those in which a job has services that were made on this node.
func (d Dir) Namespaces(job uint32) ([]string, error) {
	entries, err := d.read(job)
	var names []string
	for _, e := range entries {
		if namespace, _, ok := strings.Cut(e.Service, "/"); ok {
			names = append(names, namespace)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// Jobs are the jobs that have a mark here.
func (d Dir) Jobs() ([]rundir.File, error) { return rundir.Jobs(string(d), "job.") }

// locked runs f while no other process changes a mark.
func (d Dir) locked(create bool, f func() error) error {
	if create {
		if err := os.Mkdir(string(d), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("mark the job: %w", err)
		}
	}
	if err := rundir.Check(string(d)); err != nil {
		if !create && errors.Is(err, fs.ErrNotExist) {
			return nil // there never was a mark
		}
		return fmt.Errorf("mark the job: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(string(d), ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("mark the job: %w", err)
	}
	defer lock.Close()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if err == nil {
			return f()
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("mark the job: lock %s: %w", lock.Name(), err)
		}
	}
}

func (d Dir) read(job uint32) ([]Entry, error) {
	data, err := os.ReadFile(d.path(job))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mark of job %d: %w", job, err)
	}
	var entries []Entry
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		if len(words) != 4 {
			continue // torn by a power failure: the epilog looks everywhere
		}
		pid, _ := strconv.Atoi(words[0])
		entries = append(entries, Entry{pid: pid, start: words[1], Step: words[2], Service: words[3]})
	}
	return entries, nil
}

// write replaces the mark; one without entries is removed. The caller has the lock.
func (d Dir) write(job uint32, entries []Entry) error {
	if len(entries) == 0 {
		return rundir.Remove(d.path(job))
	}
	var text strings.Builder
	for _, e := range entries {
		fmt.Fprintln(&text, e.pid, e.start, e.Step, e.Service)
	}
	if err := rundir.Write(d.path(job), text.String(), 0o600); err != nil {
		return fmt.Errorf("mark the job: %w", err)
	}
	return nil
}

func (e Entry) alive() bool {
	start, err := startOf(e.pid)
	return err == nil && start == e.start
}

// startOf is when a process began, in clock ticks since boot (proc(5), field 22). One that
// has ended and that its parent has not waited for is none.
func startOf(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name before the last parenthesis may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("/proc/%d/stat: cannot be read", pid)
	}
	return fields[19], nil
}
