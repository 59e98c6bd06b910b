// Package state keeps the bridge's few local files on the controller. They are
// caches and messages between hooks: losing them costs time, never a job.
package state

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/rundir"
)

// Dir is state_dir of slurmk8s.toml. It must exist and belong to SlurmUser.
type Dir string

// Check refuses a directory into which others could put a link, or the variables of a
// job. One that is missing is for who needs it to say.
func (d Dir) Check() error {
	info, err := os.Lstat(string(d))
	if err == nil && info.IsDir() && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("state_dir %s is writable by others (mode %04o): run \"chmod 0700 %s\"", d, info.Mode().Perm(), d)
	}
	return nil
}

func (d Dir) job(id uint32) string {
	return filepath.Join(string(d), "job."+strconv.FormatUint(uint64(id), 10))
}

// variable is a name that every shell takes.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// IsVariable tells whether an environment can hold a variable, in a line of Slurm's.
func IsVariable(name, value string) bool {
	return variable.MatchString(name) && !strings.ContainsAny(value, "\n\r\x00")
}

// WriteEnv leaves a job's variables for slurm_bb_paths, as lines KEY=VALUE, and
// returns the names that such a line cannot hold. The file is replaced at once
// or not at all.
func (d Dir) WriteEnv(id uint32, env map[string]string) (skipped []string, err error) {
	lines := make([]string, 0, len(env))
	for name, value := range env {
		if !IsVariable(name, value) {
			skipped = append(skipped, name)
			continue
		}
		lines = append(lines, name+"="+value+"\n")
	}
	slices.Sort(lines)
	slices.Sort(skipped)
	dir := d.job(id)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return skipped, fmt.Errorf("keep the job's variables: %w", err)
	}
	if err := replace(filepath.Join(dir, "env"), strings.Join(lines, "")); err != nil {
		return skipped, fmt.Errorf("keep the job's variables: %w", err)
	}
	return skipped, nil
}

func replace(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// What slurmctld reads again is kept small, and few: Slurm calls no hook for a job
// that is cancelled while it is pending, so that nothing would remove a file a job.
const (
	maxJudged   = 256 << 10
	judgedFiles = 64
)

// WriteJudged leaves a script that was accepted at submission for
// slurm_bb_job_process, which Slurm runs again for each task of an array. It takes
// the place of a script that was accepted long ago.
func (d Dir) WriteJudged(id uint32, script []byte) error {
	if len(script) > maxJudged {
		return nil
	}
	path := filepath.Join(string(d), fmt.Sprintf("judged.%d", id%judgedFiles))
	if err := replace(path, fmt.Sprintf("%d\n%s", id, script)); err != nil {
		return fmt.Errorf("keep the script that was accepted: %w", err)
	}
	return nil
}

// RemoveJob forgets a job.
func (d Dir) RemoveJob(id uint32) error { return os.RemoveAll(d.job(id)) }

// Jobs returns the jobs that have files here.
func (d Dir) Jobs() ([]rundir.File, error) { return rundir.Jobs(string(d), "job.") }

// Breaker remembers that Kubernetes did not answer, so that a dead API server
// costs slurmctld one deadline and not one for every submission. It is a file:
// there from before a request until its answer, so that a hook that was killed
// while it waited has tripped it.
type Breaker struct {
	path string
	rest time.Duration
}

// Breaker returns the breaker that stays open for rest; zero turns it off.
func (d Dir) Breaker(rest time.Duration) Breaker {
	return Breaker{path: filepath.Join(string(d), "breaker"), rest: rest}
}

// Open reports whether a submission is to leave its request out. Slurm judges
// one submission after another, so a file that is there is no request under way
// but one that had no answer.
func (b Breaker) Open() bool {
	_, recent := b.stat()
	return recent
}

// Tripped is Open for a request beside submissions, one of which may be under way.
func (b Breaker) Tripped() bool {
	info, recent := b.stat()
	return recent && info.Size() > 0
}

func (b Breaker) stat() (os.FileInfo, bool) {
	info, err := os.Stat(b.path)
	if err != nil {
		return nil, false
	}
	age := time.Since(info.ModTime())
	return info, age >= 0 && age < b.rest
}

// Begin marks a request as under way. Like the others it works as best it can:
// without the file every submission waits its own deadline.
func (b Breaker) Begin() { b.write("") }

// Trip opens the breaker.
func (b Breaker) Trip() { b.write("no answer\n") }

// write follows no link and waits for no FIFO's reader: slurmctld stands still
// meanwhile.
func (b Breaker) write(text string) {
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(text)
}

// Reset closes it: there was an answer.
func (b Breaker) Reset() { _ = os.Remove(b.path) }
