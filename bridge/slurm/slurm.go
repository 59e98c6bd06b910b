// Package slurm runs Slurm's commands. Use it only in processes that slurmctld does not
// wait for: from inside slurmctld a command would deadlock.
package slurm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Commands runs Slurm's commands.
type Commands struct {
	Dir  string // holds squeue and scancel; empty: the usual places
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
	// A site's wrapper may leave a child behind that holds the pipes.
	cmd.WaitDelay = time.Second
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

// CommandError is a Slurm command that failed.
type CommandError struct {
	Command, Reason string
	Err             error
}

func (e *CommandError) Error() string { return e.Command + ": " + e.Reason }
func (e *CommandError) Unwrap() error { return e.Err }

// record is a job as squeue prints it. It holds no field into which a user can
// write, such as the job's name: in scontrol's words a job called
// "x ArrayJobId=1 ArrayTaskId=2" would pass for a task of somebody else's.
type record struct {
	display string // "12", array task "10_3", several "10_[4-9]", part of a heterogeneous job "10+1"
	nodes   string // a hostlist; "" before the allocation
}

func (c Commands) record(ctx context.Context, id uint32) (record, error) {
	number := strconv.FormatUint(uint64(id), 10)
	// Of an array and of a heterogeneous job all parts are printed.
	out, err := c.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--jobs="+number, "--format=%A|%i|%N")
	if err != nil {
		return record{}, err
	}
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if len(words) != 3 {
			return record{}, fmt.Errorf("squeue: cannot read %q", strings.TrimSpace(line))
		}
		if words[0] == number {
			return record{display: words[1], nodes: words[2]}, nil
		}
	}
	return record{}, fmt.Errorf("squeue --jobs=%d: no such job in its answer", id)
}

// Nodes returns the nodes that a job was allocated.
func (c Commands) Nodes(ctx context.Context, id uint32) ([]string, error) {
	r, err := c.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if known(r.nodes) == "" {
		return nil, fmt.Errorf("job %d has no nodes", id)
	}
	return slurmconf.ExpandHostlist(r.nodes)
}

// Array returns the id of the array that a job is a task of; 0 if it is not in an array.
func (c Commands) Array(ctx context.Context, id uint32) (uint32, error) {
	r, err := c.record(ctx, id)
	if err != nil {
		return 0, err
	}
	array, _, isTask := strings.Cut(r.display, "_")
	if !isTask {
		return 0, nil
	}
	number, err := ArrayNumber(array)
	if err != nil {
		return 0, fmt.Errorf("squeue: cannot read the job id %q", r.display)
	}
	return number, nil
}

// ArrayTask returns the array of a job that has started, and the job's index in it; the
// array is 0 if the job is in none.
func (c Commands) ArrayTask(ctx context.Context, id uint32) (array, task uint32, err error) {
	r, err := c.record(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	arrayText, taskText, isTask := strings.Cut(r.display, "_")
	if !isTask {
		return 0, 0, nil
	}
	array, arrayErr := ArrayNumber(arrayText)
	task, taskErr := ArrayNumber(taskText)
	if arrayErr != nil || taskErr != nil {
		return 0, 0, fmt.Errorf("squeue: cannot read the job id %q", r.display)
	}
	return array, task, nil
}

// ArrayNumber reads the id of an array or the index of a task.
func ArrayNumber(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// Cancel cancels a job. Of an array it cancels only the task with this job id:
// otherwise the task with the array's own id would cancel all others. Of a heterogeneous
// job it cancels all components: Slurm cancels no component of a pending job, and the
// others cannot start without it.
func (c Commands) Cancel(ctx context.Context, id uint32) error {
	target, err := c.target(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.run(ctx, "scancel", target)
	return err
}
