package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const jobProcess = "slurm_bb_job_process"

// submits measures how long slurmctld stands still at a submission.
func submits(ctx context.Context, b *bench) error {
	var ours, reference []float64
	for i := range 1 + b.samples.submits { // the first warms the file cache
		j, err := b.newJob(noWait)
		if err != nil {
			return err
		}
		o, err := b.waiting.here(jobProcess, b.hookArguments(jobProcess, j))
		if err != nil {
			return err
		}
		if i > 0 {
			ours = append(ours, o.ms())
		}
	}
	for i := range 1 + b.samples.referenceSubmits {
		j, err := b.newJob(noWait)
		if err != nil {
			return err
		}
		o, err := b.runReference(ctx, j, nil, "job_process", j.id)
		if err != nil {
			return err
		}
		if i > 0 {
			reference = append(reference, o.ms())
		}
	}
	b.report.add("submit_hold_p50_ms", "ms", median(ours), ours).beside(median(reference)).within(20)
	b.report.add("submit_hold_p99_ms", "ms", percentile(ours, 99), ours).beside(percentile(reference, 99))
	return nil
}

// jobSubmits measures the same for job_submit.lua: a job with --k8s-register, whose rule
// names the user, or a group.
func jobSubmits(ctx context.Context, b *bench) error {
	if _, err := b.configureNode(ctx); err != nil {
		return err
	}
	h, err := b.startScript(ctx, "job_submit.lua", "")
	if err != nil {
		return err
	}
	defer h.close()
	measure := func() (samples []float64, err error) {
		for i := range 1 + b.samples.submits {
			o, err := h.here("slurm_job_submit", []string{"@job_desc", "partitions", uid})
			if err != nil {
				return nil, err
			}
			if i > 0 {
				samples = append(samples, o.ms())
			}
		}
		return samples, nil
	}
	byUser, err := measure()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.path("node.toml"))
	if err != nil {
		return err
	}
	grouped := strings.Replace(string(text), "users = ['*']", "groups = ['root']", 1)
	if err := os.WriteFile(b.path("node.toml"), []byte(grouped), 0o600); err != nil {
		return err
	}
	byGroup, err := measure()
	if err != nil {
		return err
	}
	said, err := os.ReadFile(b.path("bbhost.log"))
	if err != nil || strings.Contains(string(said), "on the node only") {
		return fmt.Errorf("job_submit.lua did not judge (%w): %.300q", err, said)
	}
	b.report.add("job_submit_hold_p50_ms", "ms", median(byUser), byUser).within(20)
	b.report.add("job_submit_hold_p99_ms", "ms", percentile(byUser, 99), byUser)
	b.report.add("job_submit_hold_group_rule_p50_ms", "ms", median(byGroup), byGroup)
	return nil
}

// deadAPI measures the same with an API server that accepts connections and never answers:
// the first submission, and those after it, for which the breaker is open.
func deadAPI(ctx context.Context, b *bench) error {
	if err := b.server.PauseAPIServer(); err != nil {
		return err
	}
	first, later, err := b.deadSubmits()
	if err != nil {
		return err
	}
	j, err := b.newJob(noWait)
	if err != nil {
		return err
	}
	impatient, cancel := context.WithTimeout(ctx, b.samples.deadReference)
	defer cancel()
	reference, err := b.runReference(impatient, j, nil, "job_process", j.id)
	if errors.Is(impatient.Err(), context.DeadlineExceeded) {
		b.report.note("submit_hold_dead_api_ms: the reference was ended after %v; it has no deadline of its own", b.samples.deadReference)
	} else if err == nil {
		return errors.New("the API server answered though it was stopped")
	}
	b.report.single("submit_hold_dead_api_ms", "ms", first).beside(reference.ms()).within(2000)
	b.report.add("submit_hold_dead_api_breaker_ms", "ms", median(later), later).beside(reference.ms()).within(20)
	return b.server.ResumeAPIServer()
}

func (b *bench) deadSubmits() (first float64, later []float64, err error) {
	if err := os.Remove(b.path("state/breaker")); err != nil && !os.IsNotExist(err) {
		return 0, nil, err
	}
	begin := monotonic()
	for i := 0; i < 1+b.samples.calls && monotonic()-begin < 20*time.Second; i++ { // the breaker closes after 30 s
		j, err := b.newJob(noWait)
		if err != nil {
			return 0, nil, err
		}
		o, err := b.waiting.here(jobProcess, b.hookArguments(jobProcess, j))
		if err != nil {
			return 0, nil, err
		}
		if i == 0 {
			first = o.ms()
		} else {
			later = append(later, o.ms())
		}
	}
	return first, later, nil
}
