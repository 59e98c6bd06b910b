package faults

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// reconcileLimit is --limit: what each duty's list may take, then its removals, then the rest that
// it does from time to time. Before the removals Slurm is asked twice, a second apart.
const (
	reconcileLimit    = 3 * time.Second
	reconcileDeadline = 3*reconcileLimit + 2*time.Second
)

// reconcileScenarios end a Workflow whose job Slurm does not know any more,
// beside one whose job lives.
func (w *world) reconcileScenarios() []Scenario {
	lost := situation{name: "reconcile a lost job", at: "PreRun", env: true}
	return []Scenario{{
		Name:     lost.name,
		Deadline: reconcileDeadline,
		Setup: func(ctx context.Context, c *Job) error {
			return w.prepare(ctx, c, lost, []string{"#DW Teardown action=complete delay=" + storageDelay})
		},
		Command: func(c *Job) Command {
			return Command{ForPeople: true, Argv: []string{w.program, "reconcile",
				"--config", c.Path("slurmk8s.toml"), "--limit", reconcileLimit.String()}}
		},
		State:   w.endState,
		Foreign: w.foreign,
		Cleanup: w.fixtures.clear,
		Verify: func(c *Job, o *Outcome, end any) error {
			if !strings.Contains(string(o.Stdout), c.Name()) {
				return fmt.Errorf("it does not say that it removed %s: %q", c.Name(), o.Stdout)
			}
			return nothingLeft(c, o, end.(endState))
		},
	}}
}
