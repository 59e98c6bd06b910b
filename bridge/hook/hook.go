// Package hook is the table of hooks that both fronts call: libslurmk8s.so in
// process, and `slurmk8s hook NAME`. A hook is named as Slurm names it.
package hook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// entry is a hook: what it opens, what it does, and how long that may take.
type entry struct {
	open  func(name string, request wire.Fields) (*call, error)
	run   func(ctx context.Context, c *call) error
	limit func(c *call) time.Duration // at most; Slurm's own, where it has one
}

var table = map[string]entry{
	"slurm_bb_job_process":   {openBurstBuffer, jobProcess, callersLimit},
	"slurm_bb_setup":         {openBurstBuffer, setup, otherLimit},
	"slurm_bb_data_in":       {openBurstBuffer, stageIn, stageInLimit},
	"slurm_bb_test_data_in":  {openBurstBuffer, pollIn, stageInLimit},
	"slurm_bb_pre_run":       {openBurstBuffer, preRun, otherLimit},
	"slurm_bb_post_run":      {openBurstBuffer, ifStorage(postRun), otherLimit},
	"slurm_bb_data_out":      {openBurstBuffer, ifStorage(copying(workflow.DataOut)), stageOutLimit},
	"slurm_bb_test_data_out": {openBurstBuffer, ifStorage(poll(workflow.DataOut)), stageOutLimit},
	"slurm_bb_job_teardown":  {openBurstBuffer, teardown, otherLimit},
	"slurm_bb_get_status":    {openBurstBuffer, getStatus, callersLimit},
	"k8s_check":              {openPrompt, check, callersLimit},
	"k8s_submit":             {openJobSubmit, jobSubmit, callersLimit},
	"k8s_job_prolog":         {openNode, jobProlog, prologLimit},
	"k8s_job_epilog":         {openNode, jobEpilog, callersLimit},
	"k8s_prolog_slurmctld":   {openSlurmctld, prologSlurmctld, prologSlurmctldLimit},
	"k8s_epilog_slurmctld":   {openSlurmctld, epilogSlurmctld, epilogSlurmctldLimit},
}

// within is how long this call may take.
func (e entry) within(c *call) time.Duration {
	limit := e.limit(c)
	if granted := c.request.Granted(); granted > 0 {
		return min(granted, limit)
	}
	return limit
}

// Names returns the hooks' names in alphabetical order.
func Names() []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// killMargin is what a hook leaves of Slurm's limit: its own error is worth more
// than Slurm's "timed out".
const killMargin = 2 * time.Second

// The bounds that Slurm sets, burst_buffer.conf(5), less the margin.
func otherLimit(c *call) time.Duration    { return beforeKill(c.burstBuffer.OtherTimeout) }
func stageInLimit(c *call) time.Duration  { return beforeKill(c.burstBuffer.StageInTimeout) }
func stageOutLimit(c *call) time.Duration { return beforeKill(c.burstBuffer.StageOutTimeout) }

func beforeKill(limit time.Duration) time.Duration { return max(limit-killMargin, time.Second/2) }

// byHand is how long a person waits who runs a hook that is bounded by its caller.
const byHand = 10 * time.Second

// callersLimit is for the hooks during which slurmctld stands still or holds a lock, or a
// user or a node waits: only the caller says for how long (burst_buffer.lua, job_submit.lua,
// plugstack.conf).
func callersLimit(c *call) time.Duration { return cmp.Or(c.request.Granted(), byHand) }

// Run runs a hook. The reply's MESSAGE, if there is one, is a single line for a
// person. It never writes to standard output or error. It ends by the hook's deadline,
// which is the earliest of ctx's, DEADLINE_MS and the hook's own limit.
func Run(ctx context.Context, name string, request wire.Fields) (wire.Code, wire.Fields) {
	hook, known := table[name]
	if !known {
		return wire.Failed, wire.Fields{wire.KeyMessage: wire.Line(fmt.Sprintf("slurmk8s has no hook %q", name))}
	}
	c, err := hook.open(name, request)
	if err != nil {
		return wire.Failed, wire.Fields{wire.KeyMessage: wire.Line(err.Error())}
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, hook.within(c))
	defer cancel()

	begin := time.Now()
	err = hook.run(ctx, c)
	if workflow.Dropped(err) && c.resumed {
		// DWS has dropped the version that was asked for, and each hook may be run again.
		c.log.Warnf("asked again in another version of DWS: %v", err)
		c.local.ForgetVersion()
		err = hook.run(ctx, c)
	}
	code := wire.CodeOf(err)
	c.metrics.Record(name, int(code), time.Since(begin))
	entry := c.log.WithField("code", int(code)).WithField("ms", time.Since(begin).Milliseconds())
	switch code {
	case wire.OK, wire.Busy:
		if !c.idle {
			entry.Info("done")
		}
	default:
		entry.Error(err)
		if code == wire.Failed && c.workflows != nil {
			c.workflows.TellFailure(ctx, name, err)
		}
		c.reply[wire.KeyMessage] = wire.Line(err.Error())
	}
	return code, c.reply
}
