package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/tests/faults"
)

// step is a hook of a job's life.
type step struct {
	hook string
	here bool // in slurmctld
}

// lifecycle is what Slurm runs for a job; polled are the hooks that 24.05 added.
func lifecycle(polled bool) []step {
	var steps []step
	for _, s := range []step{
		{"slurm_bb_job_process", true}, {"slurm_bb_setup", false}, {"slurm_bb_data_in", false},
		{"slurm_bb_test_data_in", false}, {"slurm_bb_paths", true}, {"slurm_bb_pre_run", false},
		{"slurm_bb_post_run", false}, {"slurm_bb_data_out", false}, {"slurm_bb_test_data_out", false},
		{"slurm_bb_job_teardown", false},
	} {
		if polled || (s.hook != "slurm_bb_test_data_in" && s.hook != "slurm_bb_test_data_out") {
			steps = append(steps, s)
		}
	}
	return steps
}

// life is what lifecycles took, in ms. A share is what is left of a time without that in which
// DWS worked.
type life struct {
	total, share []float64
	hooks        map[string][]float64 // shares
}

func newLife() *life { return &life{hooks: map[string][]float64{}} }

// live runs one job through its life.
func (b *bench) live(ctx context.Context, h *host, polled bool, l *life) error {
	j, err := b.newJob(noWait)
	if err != nil {
		return err
	}
	steps := lifecycle(polled)
	outcomes := make([]outcome, len(steps))
	begin := monotonic()
	for i, step := range steps {
		run := h.fork
		if step.here {
			run = h.here
		}
		if outcomes[i], err = run(step.hook, b.hookArguments(step.hook, j)); err != nil {
			return err
		}
	}
	end := monotonic()
	work, err := b.observer.work(ctx, j.workflow())
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		hook := steps[i].hook
		l.hooks[hook] = append(l.hooks[hook], milliseconds(o.end-o.begin-busy(work, o.begin, o.end)))
	}
	l.add(work, begin, end)
	return nil
}

func (b *bench) liveByReference(ctx context.Context, l *life) error {
	j, err := b.newJob(noWait)
	if err != nil {
		return err
	}
	o, err := b.runReference(ctx, j, nil, "lifecycle", j.id)
	if err != nil {
		return err
	}
	work, err := b.observer.work(ctx, j.workflow())
	if err != nil {
		return err
	}
	l.add(work, o.begin, o.end)
	return nil
}

func (l *life) add(work []span, begin, end time.Duration) {
	l.total = append(l.total, milliseconds(end-begin))
	l.share = append(l.share, milliseconds(end-begin-busy(work, begin, end)))
}

// summary lists the median share of each hook.
func (l *life) summary() string {
	text := ""
	for _, step := range lifecycle(true) {
		text += fmt.Sprintf(" %s %s", strings.TrimPrefix(step.hook, "slurm_bb_"), number(median(l.hooks[step.hook])))
	}
	return text
}

func lifecycles(ctx context.Context, b *bench) error {
	reference, waiting, polling := newLife(), newLife(), newLife()
	// The first of each warms caches of files and of kubectl's discovery, and does not count.
	for i := range 1 + max(b.samples.lifecycles, b.samples.referenceLifecycles) {
		if i == 1 {
			reference, waiting, polling = newLife(), newLife(), newLife()
		}
		if i <= b.samples.lifecycles {
			if err := b.live(ctx, b.waiting, false, waiting); err != nil {
				return err
			}
			if err := b.live(ctx, b.polling, true, polling); err != nil {
				return err
			}
		}
		if i <= b.samples.referenceLifecycles {
			if err := b.liveByReference(ctx, reference); err != nil {
				return err
			}
		}
	}
	r := b.report
	r.add("workflow_lifecycle_overhead_ms", "ms", median(waiting.share), waiting.share).beside(median(reference.share)).within(150)
	r.add("workflow_lifecycle_total_ms", "ms", median(waiting.total), waiting.total).beside(median(reference.total))
	// The reference knows no test_data_in: it does not start under 24.05.
	r.add("workflow_lifecycle_polled_overhead_ms", "ms", median(polling.share), polling.share).within(150)
	r.note("our share of each hook (Slurm 24.05 and later), median ms:%s", polling.summary())
	return errors.Join(b.requests(ctx), b.spawns(ctx))
}

// requests counts those of lifecycles of their own, which go by way of a proxy. The version of
// DWS is known.
func (b *bench) requests(ctx context.Context) error {
	count := func(live func() error) (float64, error) {
		proxy, err := faults.Start(b.server.Config(), faults.Options{})
		if err != nil {
			return 0, err
		}
		defer proxy.Close()
		path := b.path("proxy.kubeconfig")
		if err := proxy.WriteKubeconfig(path, namespace); err != nil {
			return 0, err
		}
		if err := b.use(path); err != nil {
			return 0, err
		}
		defer func() { _ = b.use(b.server.Kubeconfig()) }()
		proxy.Begin()
		err = live()
		return float64(len(proxy.Requests())), errors.Join(err, proxy.Err())
	}
	waiting, err := count(func() error { return b.live(ctx, b.waiting, false, newLife()) })
	if err != nil {
		return err
	}
	polling, err := count(func() error { return b.live(ctx, b.polling, true, newLife()) })
	if err != nil {
		return err
	}
	b.report.single("workflow_lifecycle_requests", "requests", waiting).within(18)
	b.report.single("workflow_lifecycle_polled_requests", "requests", polling).within(18)
	return nil
}

// spawns counts processes in lifecycles of their own, since counting traces. The child that
// Slurm makes for each hook is Slurm's and not counted, on both sides.
func (b *bench) spawns(ctx context.Context) error {
	hooks := 0
	for _, step := range lifecycle(false) {
		if !step.here {
			hooks++
		}
	}
	tracer := []string{b.build + "/bench/spawns", b.path("spawns")}
	h, err := b.startHost(ctx, "", tracer...)
	if err != nil {
		return err
	}
	err = b.live(ctx, h, false, newLife())
	if ended := h.close(); err == nil {
		err = ended
	}
	if err != nil {
		return err
	}
	ours, err := readSpawns(tracer[1])
	if err != nil {
		return err
	}
	j, err := b.newJob(noWait)
	if err != nil {
		return err
	}
	if _, err := b.runReference(ctx, j, tracer, "lifecycle", j.id); err != nil {
		return err
	}
	theirs, err := readSpawns(tracer[1])
	if err != nil {
		return err
	}
	b.report.single("workflow_lifecycle_processes", "processes", ours.processes-float64(hooks)).
		beside(theirs.processes - float64(hooks)).within(1)
	b.report.single("workflow_lifecycle_execs", "execs", ours.execs).beside(theirs.execs)
	return nil
}

// spawned is a line of harness/spawns.c.
type spawned struct{ processes, execs, threads float64 }

func readSpawns(path string) (s spawned, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	_, err = fmt.Fscan(f, &s.processes, &s.execs, &s.threads)
	return s, err
}
