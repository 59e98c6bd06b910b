package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/rundir"
)

// Local is what a node itself knows of the jobs that hold it: the directory nodes in
// run_dir, a file holder.<job> for each. It is written before anything is changed in
// Kubernetes and removed after all was restored, so that an epilog without a file has
// nothing to do.
type Local string

// LocalIn is the Local in run_dir of slurmk8s.toml.
func LocalIn(runDir string) Local { return Local(filepath.Join(runDir, "nodes")) }

// Held is a holder's file.
type Held struct {
	Holder
	Node string // what Kubernetes calls the node
}

func (l Local) path(job uint32) string {
	return filepath.Join(string(l), "holder."+strconv.FormatUint(uint64(job), 10))
}

// Add notes a job before the first change that is made for it.
func (l Local) Add(h Held) error {
	if err := l.make(); err != nil {
		return fmt.Errorf("note job %d: %w", h.JobID, err)
	}
	if err := rundir.Write(l.path(h.JobID), h.Holder.String()+" "+h.Node+"\n", 0o644); err != nil {
		return fmt.Errorf("note job %d: %w", h.JobID, err)
	}
	return nil
}

// make makes both directories: who can write into the upper one, can replace the lower.
func (l Local) make() error {
	if err := rundir.Make(filepath.Dir(string(l))); err != nil {
		return err
	}
	return rundir.Make(string(l))
}

// Get returns what Add wrote for a job; nil when there is nothing.
func (l Local) Get(job uint32) (*Held, error) {
	data, err := os.ReadFile(l.path(job))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("note of job %d: %w", job, err)
	}
	words := strings.Fields(string(data))
	if len(words) != 2 {
		return nil, fmt.Errorf("note of job %d: %s cannot be read: remove it", job, l.path(job))
	}
	h, ok := parseHolder(words[0])
	if !ok || h.JobID != job {
		return nil, fmt.Errorf("note of job %d: %s cannot be read: remove it", job, l.path(job))
	}
	return &Held{Holder: h, Node: words[1]}, nil
}

// Remove forgets a job.
func (l Local) Remove(job uint32) error { return rundir.Remove(l.path(job)) }

// Jobs are those that have a file.
func (l Local) Jobs() ([]rundir.File, error) { return rundir.Jobs(string(l), "holder.") }

// Refused are the jobs whose tasks fail on this node.
func Refused(runDir string) ([]rundir.File, error) { return rundir.Jobs(runDir, "refuse.") }

// Lock keeps other hooks of this node out, until unlock or the end of the process.
func (l Local) Lock(ctx context.Context) (unlock func(), err error) {
	if err := l.make(); err != nil {
		return nil, err
	}
	return rundir.Lock(ctx, filepath.Join(string(l), ".lock"))
}

// refusal is the file that makes a job's tasks on this node fail with its text; the
// SPANK plugin reads it.
func refusal(runDir string, job uint32) string {
	return filepath.Join(runDir, "refuse."+strconv.FormatUint(uint64(job), 10))
}

// Refuse makes the tasks of a job fail on this node, with one line for its user.
func Refuse(runDir string, job uint32, line string) error {
	if err := rundir.Make(runDir); err != nil {
		return err
	}
	return rundir.Write(refusal(runDir, job), line+"\n", 0o644)
}

// Unrefuse takes that back: the job is over.
func Unrefuse(runDir string, job uint32) error { return rundir.Remove(refusal(runDir, job)) }
