package workflow

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// Files are the files on the controller, in state_dir of slurmk8s.toml, which
// must exist and belong to SlurmUser. They are caches and messages between hooks: losing
// them costs time, never a job.
type Files string

func (f Files) job(id uint32) string { return hostfile.OfJob(string(f), filesPrefix, id) }

const filesPrefix = "job."

// writeOfJob writes a file into the folder of a job, and makes the folder.
func (f Files) writeOfJob(id uint32, name, text string) error {
	if err := os.Mkdir(f.job(id), 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return hostfile.Write(filepath.Join(f.job(id), name), text, 0o600)
}

// IsVariable reports whether a variable can be a line of the file that Slurm reads, with a
// name that every shell takes.
func IsVariable(name, value string) bool {
	for i, c := range []byte(name) {
		if letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'; !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && !strings.ContainsAny(value, "\n\r\x00")
}

// WriteEnv writes a job's variables for slurm_bb_paths, as lines KEY=VALUE, and returns
// the names of variables that cannot be such a line. The file is replaced atomically.
//
// The variables of the job's bundles are added.
func (f Files) WriteEnv(id uint32, env map[string]string) (skipped []string, err error) {
	kept, err := f.Bundles(id)
	if err != nil {
		return nil, err
	}
	if len(kept.Env) > 0 {
		env = maps.Clone(env)
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, kept.Env)
	}
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
	if err := f.writeOfJob(id, "env", strings.Join(lines, "")); err != nil {
		return skipped, fmt.Errorf("keep the job's variables: %w", err)
	}
	return skipped, nil
}

// BundleNotes are what slurm_bb_setup has decided about a job's bundles.
type BundleNotes struct {
	Namespaces []string          // in which there may be objects
	Env        map[string]string // the job's variables
	Owner      slurm.Owner       // as Slurm said when the bundles were expanded
}

// WriteBundles keeps notes for the job's later hooks.
func (f Files) WriteBundles(id uint32, notes BundleNotes) error {
	var text strings.Builder
	for _, namespace := range notes.Namespaces {
		fmt.Fprintln(&text, "namespace", namespace)
	}
	for _, name := range slices.Sorted(maps.Keys(notes.Env)) {
		if value := notes.Env[name]; IsVariable(name, value) {
			fmt.Fprintln(&text, "env", name+"="+value)
		}
	}
	fmt.Fprintf(&text, "uid %d\nuser %s\naccount %s\npartition %s\n", notes.Owner.UID, notes.Owner.User, notes.Owner.Account, notes.Owner.Partition)
	if err := f.writeOfJob(id, "bundles", text.String()); err != nil {
		return fmt.Errorf("keep the job's bundles: %w", err)
	}
	return nil
}

// Bundles are the notes of WriteBundles; none are no error.
func (f Files) Bundles(id uint32) (BundleNotes, error) {
	notes := BundleNotes{Env: map[string]string{}}
	text, err := hostfile.Read(filepath.Join(f.job(id), "bundles"))
	if errors.Is(err, fs.ErrNotExist) {
		return notes, nil
	}
	if err != nil {
		return notes, fmt.Errorf("bundles of job %d: %w", id, err)
	}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "namespace":
			notes.Namespaces = append(notes.Namespaces, rest)
		case "env":
			if name, value, ok := strings.Cut(rest, "="); ok {
				notes.Env[name] = value
			}
		case "uid":
			uid, err := strconv.ParseUint(rest, 10, 32)
			if err != nil {
				return notes, fmt.Errorf("bundles of job %d: uid: %w", id, err)
			}
			notes.Owner.UID = uint32(uid)
		case "user":
			notes.Owner.User = rest
		case "account":
			notes.Owner.Account = rest
		case "partition":
			notes.Owner.Partition = rest
		}
	}
	return notes, nil
}

// What slurmctld reads again is kept small, and few: Slurm calls no hook for a job
// that is cancelled while it is pending, so that nothing would remove a file a job.
const (
	maxJudged   = 256 << 10
	judgedFiles = 64
)

// WriteJudged writes a script that was accepted at submission for slurm_bb_job_process,
// which Slurm runs again for each task of an array. It replaces a script that was
// accepted long ago.
func (f Files) WriteJudged(id uint32, script []byte) error {
	if len(script) > maxJudged {
		return nil
	}
	path := filepath.Join(string(f), fmt.Sprintf("judged.%d", id%judgedFiles))
	if err := hostfile.Write(path, fmt.Sprintf("%d\n%s", id, script), 0o600); err != nil {
		return fmt.Errorf("keep the script that was accepted: %w", err)
	}
	return nil
}

// RemoveJob removes the files of a job.
func (f Files) RemoveJob(id uint32) error { return os.RemoveAll(f.job(id)) }

// Jobs returns the jobs that have files here.
func (f Files) Jobs() ([]hostfile.File, error) { return hostfile.Jobs(string(f), filesPrefix) }

// Breaker remembers that Kubernetes did not answer, so that a dead API server
// costs slurmctld one deadline and not one for every submission. It is a file that
// exists from before a request until its answer, so a hook that was killed while it
// waited has tripped it.
type Breaker struct {
	path string
	rest time.Duration
}

// Breaker returns the breaker that stays open for rest; zero turns it off.
func (f Files) Breaker(rest time.Duration) Breaker {
	return Breaker{path: filepath.Join(string(f), "breaker"), rest: rest}
}

// Open reports whether a submission must not make its request. Slurm processes one
// submission after another, so an existing file means a request without an answer, not
// one under way.
func (b Breaker) Open() bool {
	_, recent := b.stat()
	return recent
}

// Tripped is Open for a request outside submission, while a submission may be under way.
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

// Begin marks a request as under way. Errors are ignored, as in the other methods:
// without the file every submission waits until its own deadline.
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
