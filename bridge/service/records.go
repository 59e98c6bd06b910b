package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// Records keep, on each node, which steps have services there: the epilog of a job without
// one costs nothing, and what a killed program left behind is found. They are files
// job.<id> in services.run_dir of slurmk8s.toml, which is root's and empty after a boot, one
// line for each service of a step: the program and when it began, the step, the service, and
// "=" and a digest of its Spec once it is registered.
type Records string

// Entry is a service of a step on this node.
type Entry struct {
	Step    string
	Service string // "NAMESPACE/NAME"

	spec  string // digest of the Spec; "": the service is not registered yet
	pid   int    // of the step's program
	start string // when it began, since numbers of processes repeat
}

func (d Records) path(job uint32) string { return hostfile.OfJob(string(d), recordPrefix, job) }

const recordPrefix = "job."

// Add records services of a step, on behalf of this process, before the first of
// them is made. allow is given the services that the job's other steps have; its
// error leaves everything as it was.
func (d Records) Add(ctx context.Context, job uint32, step string, services []string, allow func(others []string) error) error {
	return d.locked(ctx, true, func() error {
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

// Hold notes that this process has registered services that it recorded before.
func (d Records) Hold(ctx context.Context, job uint32, specs []Spec) error {
	return d.locked(ctx, false, func() error {
		entries, err := d.read(job)
		if err != nil {
			return err
		}
		for i := range entries {
			for _, s := range specs {
				if entries[i].ofThisProcess() && entries[i].Service == s.Namespace+"/"+s.Name {
					entries[i].spec = digest(s)
				}
			}
		}
		return d.write(job, entries)
	})
}

// Holder is another step of the job, whose program runs on this node, that has registered
// the very same service; "" if there is none.
func (d Records) Holder(job uint32, step string, spec Spec) string {
	entries, err := d.read(job)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.Step != step && e.Service == spec.Namespace+"/"+spec.Name && e.spec == digest(spec) && e.alive() {
			return e.Step
		}
	}
	return ""
}

// Remove takes away what this process recorded. What other steps recorded stays, and
// so does what their dead programs did.
func (d Records) Remove(ctx context.Context, job uint32) error {
	return d.locked(ctx, false, func() error {
		entries, err := d.read(job)
		if err != nil {
			return err
		}
		return d.write(job, slices.DeleteFunc(entries, Entry.ofThisProcess))
	})
}

// Forget removes the record of a job that is over.
func (d Records) Forget(ctx context.Context, job uint32) error {
	return d.locked(ctx, false, func() error { return d.write(job, nil) })
}

// Has tells whether a job has a record here.
func (d Records) Has(job uint32) bool {
	_, err := os.Lstat(d.path(job))
	return !errors.Is(err, fs.ErrNotExist)
}

// Alive tells whether the program of a step runs on this node.
func (d Records) Alive(job uint32, step string) bool {
	entries, err := d.read(job)
	return err == nil && slices.ContainsFunc(entries, func(e Entry) bool { return e.Step == step && e.alive() })
}

// Wanted tells whether another step of the job, whose program runs on this node, has
// recorded a service.
func (d Records) Wanted(job uint32, step, service string) bool {
	entries, err := d.read(job)
	return err == nil && slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Step != step && e.Service == service && e.alive()
	})
}

// Await returns when no program of a step runs on this node, or ctx ends.
func (d Records) Await(ctx context.Context, job uint32, step string) error {
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

// Namespaces are those in which a job has services that were made on this node.
func (d Records) Namespaces(job uint32) ([]string, error) {
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

// Jobs are the jobs that have a record here.
func (d Records) Jobs() ([]hostfile.File, error) { return hostfile.Jobs(string(d), recordPrefix) }

// locked runs f while no other process changes a record.
func (d Records) locked(ctx context.Context, create bool, f func() error) error {
	if create {
		if err := os.Mkdir(string(d), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("record the job's services: %w", err)
		}
	}
	if err := hostfile.Check(string(d)); err != nil {
		if !create && errors.Is(err, fs.ErrNotExist) {
			return nil // there never was a record
		}
		return fmt.Errorf("record the job's services: %w", err)
	}
	unlock, err := hostfile.Lock(ctx, filepath.Join(string(d), ".lock"))
	if err != nil {
		return fmt.Errorf("record the job's services: %w", err)
	}
	defer unlock()
	return f()
}

func (d Records) read(job uint32) ([]Entry, error) {
	text, err := hostfile.Read(d.path(job))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("services of job %d: %w", job, err)
	}
	var entries []Entry
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 4 {
			continue // torn by a power failure: the epilog looks everywhere
		}
		pid, _ := strconv.Atoi(words[0])
		service, spec, _ := strings.Cut(words[3], "=")
		entries = append(entries, Entry{pid: pid, start: words[1], Step: words[2], Service: service, spec: spec})
	}
	return entries, nil
}

// write replaces the record; one without entries is removed. The caller has the lock.
func (d Records) write(job uint32, entries []Entry) error {
	if len(entries) == 0 {
		return errors.Join(hostfile.Remove(d.path(job)), d.writeChosen(job, nil))
	}
	var text strings.Builder
	for _, e := range entries {
		service := e.Service
		if e.spec != "" {
			service += "=" + e.spec
		}
		fmt.Fprintln(&text, e.pid, e.start, e.Step, service)
	}
	if err := hostfile.Write(d.path(job), text.String(), 0o600); err != nil {
		return fmt.Errorf("record the job's services: %w", err)
	}
	return nil
}

// digest is one word for all that a service is.
func digest(s Spec) string {
	sum := sha256.Sum256([]byte(s.String()))
	return hex.EncodeToString(sum[:16])
}

func (e Entry) ofThisProcess() bool {
	start, err := startOf(os.Getpid())
	return err == nil && e.pid == os.Getpid() && e.start == start
}

func (e Entry) alive() bool {
	start, err := startOf(e.pid)
	return err == nil && start == e.start
}
