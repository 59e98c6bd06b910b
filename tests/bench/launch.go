package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
)

// launchCost measures what the plugin costs jobs that do not use it: the same Slurm with and
// without its line in plugstack.conf, by turns.
func launchCost(ctx context.Context, b *bench) error {
	s, err := b.startSlurm(ctx, b.pluginLine())
	if err != nil {
		return err
	}
	defer s.close()
	result, err := s.launch(ctx, b.samples.rounds, b.samples.launches)
	if err != nil {
		return err
	}
	with, without := result["with"], result["without"]
	// The process that launches tasks is what each job waits for.
	b.report.cost("launch_cost_without_option_ms", with, without, "slurmstepd", "task").within(0.5)
	b.report.cost("launch_cost_without_option_srun_ms", with, without, "srun").within(0.5)
	b.report.cost("launch_cost_without_option_slurmd_ms", with, without, "slurmd")
	for _, process := range []string{"srun", "slurmstepd", "slurmd"} {
		files, kb := with.maps[process].beyond(without.maps[process])
		if foreign := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return filepath.Base(f) == pluginFile }); len(foreign) > 0 {
			return fmt.Errorf("%s has mapped %v for a job without the option", process, foreign)
		}
		b.report.single("launch_cost_without_option_"+process+"_objects", "files", float64(len(files))).within(1)
		b.report.single("launch_cost_without_option_"+process+"_kb", "KB", kb)
	}
	b.report.add("launch_srun_true_ms", "ms", median(with.wall), with.wall).beside(median(without.wall))
	b.report.note("launch_cost_*_ms: what the stopwatches before and after the plugin measured with it, less what they measured " +
		"without it (reference); launch_srun_true_ms: all of srun, with the plugin and without it (reference)")
	return nil
}

// stepEnvironment measures how long a later step of a job with storage waits for its variables,
// which an earlier step left on the node. slurmstepd is played by spank/test/launch_cost.c.
func stepEnvironment(ctx context.Context, b *bench) error {
	var samples []float64
	for range b.samples.calls {
		out, err := exec.CommandContext(ctx, b.build+"/bench/launch_cost", b.build+"/bench/"+pluginFile, "storage").Output()
		if err != nil {
			return fmt.Errorf("launch_cost: %w: %s", err, out)
		}
		var runs int
		var ms float64
		if _, err := fmt.Sscanf(string(out), "median of %d: %f ms", &runs, &ms); err != nil {
			return fmt.Errorf("launch_cost said %q: %w", out, err)
		}
		samples = append(samples, ms)
	}
	b.report.add("step_environment_ms", "ms", median(samples), samples).within(5)
	return nil
}

// registerLaunch measures the same with the option and the real program: how long the tasks of
// a step wait for its registration.
func registerLaunch(ctx context.Context, b *bench) error {
	if _, err := b.configureNode(ctx); err != nil {
		return err
	}
	s, err := b.startSlurm(ctx, b.pluginLine())
	if err != nil {
		return err
	}
	defer s.close()
	result, err := s.launch(ctx, max(b.samples.rounds/2, 1), b.samples.launches, "--k8s-register="+serviceSpec)
	if err != nil {
		return err
	}
	with, without := result["with"], result["without"]
	b.report.cost("register_before_first_task_ms", with, without, "before tasks").within(50)
	b.report.cost("register_check_at_prompt_ms", with, without, "srun")
	b.report.add("register_srun_true_ms", "ms", median(with.wall), with.wall).beside(median(without.wall))
	return nil
}

const pluginFile = "slurmk8s_spank.so"

func (b *bench) pluginLine() string {
	return fmt.Sprintf("required %s/bench/%s program=%s library=%s config=%s run_dir=%s\n",
		b.build, pluginFile, b.path("slurmk8s"), b.path("libslurmk8s.so"), b.path("node.toml"), b.path("run"))
}

// cost records how much more processes took with the plugin than without it. The reference is
// what they took without it.
func (r *report) cost(name string, with, without *launched, processes ...string) *metric {
	var value, reference float64
	var samples []float64
	for _, p := range processes {
		base := median(without.own[p])
		reference += base
		value += median(with.own[p]) - base
		if samples == nil {
			for _, s := range with.own[p] {
				samples = append(samples, s-base)
			}
		}
	}
	m := r.add(name, "ms", max(value, 0), samples)
	m.Reference = &reference
	return m
}
