package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Scenario is one hook in one situation. The functions are called from several
// goroutines at once, each with a Job of its own.
type Scenario struct {
	Name     string
	Deadline time.Duration // as the hook is told

	// Setup makes what the hook finds, past the proxy, and writes its
	// configuration into Job.Dir.
	Setup func(context.Context, *Job) error
	// Command is the hook; Job.Kubeconfig is how it reaches the API server.
	Command func(*Job) Command
	// Perform runs a hook that is more than Command's program with one answer; may
	// be nil. What it does before it calls begin is preparation and undisturbed.
	Perform func(ctx context.Context, c *Job, p *process, begin func()) (*Outcome, error)
	// Next is what Slurm runs after the hook, whether or not that did its work; nil:
	// after a disturbed run the hook again.
	Next func(*Job) Command
	// Finally ends the job when all else is judged; its error fails the job. May
	// be nil.
	Finally func(context.Context, *Job) error
	// Await returns when what the hook set going has settled; may be nil.
	Await func(context.Context, *Job) error
	// State is the end state, without what differs from run to run: the same for
	// an undisturbed run and for a disturbed one that was run again.
	State func(context.Context, *Job) (any, error)
	// Verify judges the undisturbed run and its end state; may be nil.
	Verify func(c *Job, o *Outcome, end any) error
	// Foreign is every object that is not the hook's, byte by byte.
	Foreign func(context.Context, *Job) (string, error)
	// Again is what happens between the disturbed run and the next, such as time
	// passing; may be nil.
	Again func(*Job) error
	// Cleanup removes what Setup and the hook made.
	Cleanup func(context.Context, *Job) error

	// Only names the faults of a scenario that is a variant of another one; nil is all.
	Only []string

	// Waits is set when the hook mostly waits without any fault too.
	Waits bool
	// MayBeBusy allows "ask again later" of a disturbed run.
	MayBeBusy bool
	// Hasty is a hook whose deadline leaves no time for a second try: it need not
	// get over a fault that strikes once, only end in time and be repaired when it is
	// run again.
	Hasty bool
}

// Site is where one job at a time runs: a namespace and a Slurm cluster's name
// of its own, so that jobs in parallel do not see each other.
type Site struct {
	Namespace string
	Cluster   string
}

// Job is one run of a scenario.
type Job struct {
	Site
	JobID      int    // unique among all jobs
	Dir        string // removed after the run
	Kubeconfig string // through the proxy
	Plan       Plan
	Deadline   time.Duration
}

// LogFile is where the hook's configuration should send its log: it is searched
// for crashes and secrets.
func (c *Job) LogFile() string { return filepath.Join(c.Dir, "slurmk8s.log") }

// Name is the job's Workflow.
func (c *Job) Name() string { return fmt.Sprintf("bb%d", c.JobID) }

// Path is a file of the job.
func (c *Job) Path(name string) string { return filepath.Join(c.Dir, name) }

// Write writes a file of the job that only its owner may read.
func (c *Job) Write(name, text string) error {
	return os.WriteFile(c.Path(name), []byte(text), 0o600)
}

// canonical is an end state as text, to compare and to print.
func canonical(state any) (string, error) {
	b, err := json.Marshal(state)
	if err != nil {
		return "", fmt.Errorf("end state: %w", err)
	}
	return string(b), nil
}
