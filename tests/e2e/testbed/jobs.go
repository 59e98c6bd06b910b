package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Job is what Slurm shows of a job: `scontrol show job`, by key.
type Job map[string]string

// State is the job's state without what stands behind it, as in CANCELLED by 1001.
func (j Job) State() string { return j["JobState"] }

// Jobs sees all of Slurm's jobs, a few times a second: many tests wait for many jobs, and a
// command for each would be all that the machine does.
type Jobs struct {
	cluster *Cluster

	mu      sync.Mutex
	known   map[uint32]Job
	changed chan struct{} // closed at each look
}

// watchScript looks each time that it is asked, so that it ends when the asking does.
const watchScript = `while read -r _; do scontrol show job 2>&1; echo "@end $?"; done`

// lookInterval is the time between two looks.
const lookInterval = 250 * time.Millisecond

// WatchJobs begins to look, until ctx ends.
func (b *Cluster) WatchJobs(ctx context.Context) *Jobs {
	jobs := &Jobs{cluster: b, known: map[uint32]Job{}, changed: make(chan struct{})}
	go func() {
		for ctx.Err() == nil {
			_ = jobs.look(ctx) // the container was restarted: look again
			select {
			case <-ctx.Done():
			case <-time.After(lookInterval):
			}
		}
	}()
	return jobs
}

func (j *Jobs) look(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "docker", "exec", "-i", j.cluster.Slurmctld, "bash", "-c", watchScript)
	ask, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = ask.Close(); _ = cmd.Wait() }()
	reader := bufio.NewReaderSize(answers, 1<<20)
	for {
		if _, err := io.WriteString(ask, "\n"); err != nil {
			return err
		}
		var text strings.Builder
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return err
			}
			if status, end := strings.CutPrefix(line, "@end "); end {
				if strings.TrimSpace(status) == "0" {
					j.see(ParseJobs(text.String()))
				}
				break
			}
			text.WriteString(line)
		}
		time.Sleep(lookInterval)
	}
}

func (j *Jobs) see(all []Job) {
	known := map[uint32]Job{} // afresh: a slurmctld that was killed may have forgotten a job
	for _, job := range all {
		if id, err := strconv.ParseUint(job["JobId"], 10, 32); err == nil {
			known[uint32(id)] = job
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known = known
	close(j.changed)
	j.changed = make(chan struct{})
}

// Get returns the job as last seen; nil when Slurm does not know it.
func (j *Jobs) Get(id uint32) Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known[id]
}

// Find returns the jobs as last seen that match.
func (j *Jobs) Find(matches func(Job) bool) map[uint32]Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := map[uint32]Job{}
	for id, job := range j.known {
		if matches(job) {
			found[id] = job
		}
	}
	return found
}

// Await waits until the job is as wanted.
func (j *Jobs) Await(ctx context.Context, id uint32, what string, holds func(Job) bool) (Job, error) {
	for {
		j.mu.Lock()
		job, changed := j.known[id], j.changed
		j.mu.Unlock()
		if job != nil && holds(job) {
			return job, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return job, fmt.Errorf("job %d: waited for it %s: %w (last seen: JobState=%s Reason=%s)",
				id, what, ctx.Err(), job.State(), job["Reason"])
		}
	}
}

var (
	jobStart = regexp.MustCompile(`(?m)^JobId=`)
	// Free text has a line of its own; all others stand several on one.
	freeText = regexp.MustCompile(`^   (Comment|AdminComment|SystemComment|BurstBuffer|Command|WorkDir|StdErr|StdIn|StdOut)=(.*)$`)
	pair     = regexp.MustCompile(`(\S+?)=(\S*)`)
	newKey   = regexp.MustCompile(`^   [A-Z][A-Za-z/:]*=`)
)

// ParseJobs reads the output of `scontrol show job`.
func ParseJobs(text string) []Job {
	var jobs []Job
	starts := jobStart.FindAllStringIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		jobs = append(jobs, parseJob(text[at[0]:end]))
	}
	return jobs
}

func parseJob(text string) Job {
	job := Job{}
	open := "" // the free text that a line without a key goes on with
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if free := freeText.FindStringSubmatch(line); free != nil {
			open = free[1]
			job[open] = free[2]
			continue
		}
		if open != "" && line != "" && !newKey.MatchString(line) {
			job[open] += "\n" + line
			continue
		}
		open = ""
		for _, p := range pair.FindAllStringSubmatch(line, -1) {
			if _, twice := job[p[1]]; !twice {
				job[p[1]] = p[2]
			}
		}
	}
	return job
}
