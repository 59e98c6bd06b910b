// Package slurm asks Slurm by its own commands. It is for processes of their own
// only: asked from inside slurmctld, which waits for the hook, they would wait
// for each other.
package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Commands runs Slurm's commands.
type Commands struct {
	Dir  string // holds squeue, scontrol and scancel; empty: the usual places
	Conf string // path of slurm.conf
}

// usual are the directories that Slurm is installed in, packages first. PATH is
// not asked: a hook has slurmctld's, or none.
var usual = []string{"/usr/bin", "/usr/local/bin", "/opt/slurm/bin", "/opt/slurm/current/bin", "/usr/local/slurm/bin"}

func (c Commands) find(name string) (string, error) {
	dirs := usual
	if c.Dir != "" {
		dirs = []string{c.Dir}
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s: set slurm_bin_dir", name, strings.Join(dirs, ", "))
}

// run returns what the command printed. The error holds the command and the last
// line that it wrote to stderr.
func (c Commands) run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := c.find(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C", "SLURM_CONF=" + c.Conf, "SLURM_TIME_FORMAT=%s"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		reason := lines[len(lines)-1]
		if ctx.Err() != nil {
			reason = "no answer in time"
		} else if reason == "" {
			reason = err.Error()
		}
		return "", &CommandError{Command: name + " " + strings.Join(args, " "), Reason: reason, Err: err}
	}
	return stdout.String(), nil
}

// CommandError is a command of Slurm's that failed.
type CommandError struct {
	Command, Reason string
	Err             error
}

func (e *CommandError) Error() string { return e.Command + ": " + e.Reason }
func (e *CommandError) Unwrap() error { return e.Err }

// record is one job of `scontrol --oneliner show job`.
type record map[string]string

// show returns the records that scontrol prints for a job id, several for an
// array or a heterogeneous job.
func (c Commands) show(ctx context.Context, id uint32) ([]record, error) {
	out, err := c.run(ctx, "scontrol", "--oneliner", "show", "job", strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return nil, err
	}
	var records []record
	for line := range strings.Lines(out) {
		r := record{}
		for word := range strings.FieldsSeq(line) {
			if key, value, ok := strings.Cut(word, "="); ok {
				if _, twice := r[key]; !twice { // free text such as Comment comes late
					r[key] = value
				}
			}
		}
		records = append(records, r)
	}
	return records, nil
}

func (c Commands) record(ctx context.Context, id uint32) (record, error) {
	records, err := c.show(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r["JobId"] == strconv.FormatUint(uint64(id), 10) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("scontrol show job %d: no such job in its answer", id)
}

// Nodes returns the nodes that a job was allocated.
func (c Commands) Nodes(ctx context.Context, id uint32) ([]string, error) {
	r, err := c.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if r["NodeList"] == "" || r["NodeList"] == "(null)" {
		return nil, fmt.Errorf("job %d has no nodes", id)
	}
	return slurmconf.ExpandHostlist(r["NodeList"])
}

// Cancel ends a job. Of an array it ends the one task whose job id it is: the
// task with the array's own id would otherwise take all others with it.
func (c Commands) Cancel(ctx context.Context, id uint32) error {
	r, err := c.record(ctx, id)
	if err != nil {
		return err
	}
	target := strconv.FormatUint(uint64(id), 10)
	if task := r["ArrayTaskId"]; task != "" {
		if _, err := strconv.ParseUint(task, 10, 32); err != nil {
			return fmt.Errorf("job %d still stands for the array tasks %s: not cancelled", id, task)
		}
		target = r["ArrayJobId"] + "_" + task
	}
	_, err = c.run(ctx, "scancel", target)
	return err
}

// over are the states in which a job will run no more. A job that is over but
// still has its data staged out is in state STAGE_OUT for squeue.
var over = map[string]bool{
	"BOOT_FAIL": true, "CANCELLED": true, "COMPLETED": true, "DEADLINE": true, "FAILED": true,
	"NODE_FAIL": true, "OUT_OF_MEMORY": true, "PREEMPTED": true, "REVOKED": true, "TIMEOUT": true,
}

// LiveJobs returns the ids of the jobs that are not over. An error means that
// nothing is known, not that no job lives.
func (c Commands) LiveJobs(ctx context.Context) (map[uint32]bool, error) {
	out, err := c.run(ctx, "squeue", "--noheader", "--array", "--states=all", "--format=%A %T")
	if err != nil {
		return nil, err
	}
	live := map[uint32]bool{}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		id, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line)), err)
		}
		if !over[words[1]] {
			live[uint32(id)] = true
		}
	}
	return live, nil
}
