package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// library measures what one call costs in a process that has nothing loaded yet: load, TLS,
// and what `scontrol show bbstat` asks of the API server, beside kubectl get.
func library(ctx context.Context, b *bench) error {
	size, err := os.Stat(b.path("libslurmk8s.so"))
	if err != nil {
		return err
	}
	kubectl, err := os.Stat(b.kubectl)
	if err != nil {
		return err
	}
	j, err := b.newJob(noWait)
	if err != nil {
		return err
	}
	if _, err := b.waiting.fork("slurm_bb_setup", b.hookArguments("slurm_bb_setup", j)); err != nil {
		return err
	}
	var wall, load, rss, peak, referenceWall, referencePeak []float64
	for i := range 1 + b.samples.calls { // the first warms the file cache
		c, err := b.coldCall(ctx, j)
		if err != nil {
			return err
		}
		r, err := b.kubectlGet(ctx, j)
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		wall, load, rss = append(wall, c.wall), append(load, c.load), append(rss, c.rss)
		peak = append(peak, c.peak)
		referenceWall, referencePeak = append(referenceWall, r.wall), append(referencePeak, r.peak)
	}
	r := b.report
	r.single("library_size_mb", "MB", float64(size.Size())/1e6).beside(float64(kubectl.Size()) / 1e6).within(15)
	r.add("library_rss_mb", "MB", median(rss), rss).beside(median(referencePeak)).within(20)
	r.add("cold_call_ms", "ms", median(wall), wall).beside(median(referenceWall))
	r.add("cold_call_load_ms", "ms", median(load), load)
	r.add("cold_call_peak_rss_mb", "MB", median(peak), peak).beside(median(referencePeak))
	return nil
}

// called is what a process took from its start to its end: ms and MB.
type called struct{ wall, load, rss, peak float64 }

func (b *bench) coldCall(ctx context.Context, j *job) (c called, err error) {
	text, c, err := timed(exec.CommandContext(ctx, b.build+"/bench/coldcall", b.path("libslurmk8s.so"),
		"slurm_bb_get_status", "CONFIG="+b.path("slurmk8s.toml"), "UID="+uid, "ARG1=workflow", "ARG2="+j.id))
	if err != nil {
		return c, err
	}
	var code int
	var call, before, loaded, after float64
	if _, err := fmt.Sscan(text, &code, &c.load, &call, &before, &loaded, &after); err != nil {
		return c, fmt.Errorf("coldcall: %q: %w", text, err)
	}
	if code != 0 {
		return c, fmt.Errorf("coldcall: %s", strings.TrimSpace(text))
	}
	c.rss = (after - before) * 1024 / 1e6
	return c, nil
}

func (b *bench) kubectlGet(ctx context.Context, j *job) (called, error) {
	command := exec.CommandContext(ctx, b.kubectl, "--kubeconfig", b.server.Kubeconfig(), "-n", namespace,
		"get", "workflows.dataworkflowservices.github.io", j.workflow(), "-o", "jsonpath={.status.state}")
	command.Env = []string{"HOME=" + b.path("home")}
	_, c, err := timed(command)
	return c, err
}

// timed runs a command, and returns what it printed and took.
func timed(command *exec.Cmd) (string, called, error) {
	begin := monotonic()
	out, err := command.Output()
	c := called{wall: milliseconds(monotonic() - begin)}
	if err != nil {
		return "", c, fmt.Errorf("%s: %w", command.Path, err)
	}
	if used, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = float64(used.Maxrss) * 1024 / 1e6
	}
	return string(out), c, nil
}
