package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// ClaimFiles are what a node itself records about the jobs that hold it: the directory nodes in
// run_dir, with a file holder.<job> for each job. The file is written before the first
// change in Kubernetes and removed after everything was restored, so an epilog without a
// file has nothing to do.
type ClaimFiles string

// The file of a job's claim, in the directory nodes, and the one that makes its tasks fail,
// in run_dir.
const (
	claimPrefix   = "holder."
	refusalPrefix = "refuse."
)

// ClaimFilesIn returns those in run_dir of slurmk8s.toml.
func ClaimFilesIn(runDir string) ClaimFiles { return ClaimFiles(filepath.Join(runDir, "nodes")) }

// FiledClaim is what a claim's file says.
type FiledClaim struct {
	Claim
	Node string // what Kubernetes calls the node
}

func (l ClaimFiles) path(job uint32) string {
	return hostfile.OfJob(string(l), claimPrefix, job)
}

// Add records a job, before the first change that is made for it.
func (l ClaimFiles) Add(h FiledClaim) error {
	if err := l.make(); err != nil {
		return fmt.Errorf("note job %d: %w", h.JobID, err)
	}
	if err := hostfile.Write(l.path(h.JobID), h.Claim.String()+" "+h.Node+"\n", 0o644); err != nil {
		return fmt.Errorf("note job %d: %w", h.JobID, err)
	}
	return nil
}

// make makes both directories: who can write into the upper one, can replace the lower.
func (l ClaimFiles) make() error {
	if err := hostfile.Make(filepath.Dir(string(l))); err != nil {
		return err
	}
	return hostfile.Make(string(l))
}

// Get returns what Add recorded for a job; nil if there is nothing.
func (l ClaimFiles) Get(job uint32) (*FiledClaim, error) {
	text, err := hostfile.Read(l.path(job))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("note of job %d: %w", job, err)
	}
	words := strings.Fields(text)
	if len(words) != 2 {
		return nil, fmt.Errorf("note of job %d: %s cannot be read: remove it", job, l.path(job))
	}
	h, ok := parseClaim(words[0])
	if !ok || h.JobID != job {
		return nil, fmt.Errorf("note of job %d: %s cannot be read: remove it", job, l.path(job))
	}
	return &FiledClaim{Claim: h, Node: words[1]}, nil
}

// Remove forgets a job.
func (l ClaimFiles) Remove(job uint32) error { return hostfile.Remove(l.path(job)) }

// Jobs returns the files of jobs.
func (l ClaimFiles) Jobs() ([]hostfile.File, error) { return hostfile.Jobs(string(l), claimPrefix) }

// Refused returns the files of the jobs whose tasks fail on this node.
func Refused(runDir string) ([]hostfile.File, error) { return hostfile.Jobs(runDir, refusalPrefix) }

// Lock keeps other hooks of this node out, until unlock or the end of the process.
func (l ClaimFiles) Lock(ctx context.Context) (unlock func(), err error) {
	if err := l.make(); err != nil {
		return nil, err
	}
	return hostfile.Lock(ctx, filepath.Join(string(l), ".lock"))
}

// refusal is the file that makes a job's tasks on this node fail with its text; the
// SPANK plugin reads it.
func refusal(runDir string, job uint32) string {
	return hostfile.OfJob(runDir, refusalPrefix, job)
}

// Refuse makes the tasks of a job fail on this node, with one line for its user.
func Refuse(runDir string, job uint32, line string) error {
	if err := hostfile.Make(runDir); err != nil {
		return err
	}
	return hostfile.Write(refusal(runDir, job), line+"\n", 0o644)
}

// Unrefuse undoes Refuse when the job has ended.
func Unrefuse(runDir string, job uint32) error { return hostfile.Remove(refusal(runDir, job)) }
