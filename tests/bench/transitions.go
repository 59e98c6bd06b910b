package main

import (
	"context"
	"math/rand/v2"
	"time"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// hookOf is the hook that waits for a state.
var hookOf = map[string]string{
	dwssim.Setup: "setup", dwssim.DataIn: "data_in", dwssim.PreRun: "pre_run",
	dwssim.PostRun: "post_run", dwssim.DataOut: "data_out",
}

// way is how a hook is run that waits for a state: ours, or the reference.
type way struct {
	submit func(*job) error
	// start runs the hook; what it returns waits for its end and says when that was.
	start func(*job, string) (func() (time.Duration, error), error)
	// phase is the span in which the driver completes at random: a poll is met anywhere.
	phase time.Duration
}

// delays are the times from ready to the hook's return, in ms.
type delays struct {
	seen    []float64 // from when the observer saw ready: its watch and the hook's are equals
	written []float64 // from before DWS wrote ready: webhook and etcd included
}

// settled is long enough for a hook that was started to wait.
const settled = 200 * time.Millisecond

// transitions measures how long a hook that waits takes to return after DWS is ready. The
// bench is the external driver: the hook waits, then the driver is marked completed.
func transitions(ctx context.Context, b *bench) error {
	ours, err := b.delays(ctx, b.samples.transitions, b.ourWay())
	if err != nil {
		return err
	}
	reference, err := b.delays(ctx, b.samples.referenceTransitions, b.referenceWay(ctx))
	if err != nil {
		return err
	}
	r := b.report
	r.add("workflow_ready_to_return_p50_ms", "ms", median(ours.seen), ours.seen).beside(median(reference.seen))
	r.add("workflow_ready_to_return_p99_ms", "ms", percentile(ours.seen, 99), ours.seen).beside(percentile(reference.seen, 99)).within(20)
	r.add("workflow_ready_write_to_return_p99_ms", "ms", percentile(ours.written, 99), ours.written).beside(percentile(reference.written, 99))
	return nil
}

func (b *bench) ourWay() way {
	return way{
		submit: func(*job) error { return nil }, // slurm_bb_setup makes the Workflow
		start: func(j *job, state string) (func() (time.Duration, error), error) {
			hook := "slurm_bb_" + hookOf[state]
			if _, err := b.waiting.start(hook, b.hookArguments(hook, j)); err != nil {
				return nil, err
			}
			return func() (time.Duration, error) {
				o, err := b.waiting.ended(hook)
				return o.end, err
			}, nil
		},
		phase: 100 * time.Millisecond,
	}
}

func (b *bench) referenceWay(ctx context.Context) way {
	return way{
		submit: func(j *job) error {
			_, err := b.runReference(ctx, j, nil, "job_process", j.id)
			return err
		},
		start: func(j *job, state string) (func() (time.Duration, error), error) {
			running, err := b.startReference(ctx, j, nil, hookOf[state], j.id)
			if err != nil {
				return nil, err
			}
			return func() (time.Duration, error) {
				o, err := running()
				return o.end, err
			}, nil
		},
		phase: time.Second,
	}
}

// delays takes jobs through their states until there are enough samples.
func (b *bench) delays(ctx context.Context, enough int, w way) (*delays, error) {
	found := &delays{}
	for len(found.seen) < enough {
		j, err := b.newJob(waitEverywhere)
		if err != nil {
			return nil, err
		}
		if err := w.submit(j); err != nil {
			return nil, err
		}
		for _, state := range waitStates[:min(len(waitStates), enough-len(found.seen))] {
			if err := b.transition(ctx, j, state, w, found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (b *bench) transition(ctx context.Context, j *job, state string, w way, found *delays) error {
	ended, err := w.start(j, state)
	if err != nil {
		return err
	}
	if err := b.observer.entered(ctx, j.workflow(), state); err != nil {
		return err
	}
	time.Sleep(settled + rand.N(w.phase))
	if err := dwssim.Complete(ctx, b.client, namespace, j.workflow(), state); err != nil {
		return err
	}
	ready, err := b.observer.ready(ctx, j.workflow(), state)
	if err != nil {
		return err
	}
	end, err := ended()
	if err != nil {
		return err
	}
	written := monotonic() - time.Since(ready.stamp)
	found.seen = append(found.seen, milliseconds(end-ready.done))
	found.written = append(found.written, milliseconds(end-written))
	return nil
}
