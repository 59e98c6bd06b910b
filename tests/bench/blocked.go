package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// blockedHook measures what a hook costs that waits for a long copy, beside the loop that polls.
func blockedHook(ctx context.Context, b *bench) error {
	const hook = "slurm_bb_data_in"
	j, err := b.newJob([]string{"#DW DataIn action=wait"})
	if err != nil {
		return err
	}
	if _, err := b.waiting.fork("slurm_bb_setup", b.hookArguments("slurm_bb_setup", j)); err != nil {
		return err
	}
	pid, err := b.waiting.start(hook, b.hookArguments(hook, j))
	if err != nil {
		return err
	}
	if err := b.observer.entered(ctx, j.workflow(), dwssim.DataIn); err != nil {
		return err
	}
	time.Sleep(settled)
	begin, err := cpuOf(pid)
	if err != nil {
		return err
	}
	time.Sleep(b.samples.wait)
	end, err := cpuOf(pid)
	if err != nil {
		return err
	}
	memory, err := memoryOf(pid)
	if err != nil {
		return err
	}
	if err := dwssim.Complete(ctx, b.client, namespace, j.workflow(), dwssim.DataIn); err != nil {
		return err
	}
	if _, err := b.waiting.ended(hook); err != nil {
		return err
	}

	// A round takes the second that it sleeps and what its kubectl takes.
	rounds := max(int(b.samples.wait/time.Second)-1, 1)
	loop, err := b.runReference(ctx, j, nil, "poll", j.id, strconv.Itoa(rounds))
	if err != nil {
		return err
	}
	// Both as if over 10 s.
	scale := float64(10*time.Second) / float64(b.samples.wait)
	loopScale := float64(10*time.Second) / float64(loop.end-loop.begin)
	b.report.single("blocked_hook_cpu_ms_per_10s", "ms", milliseconds(end-begin)*scale).
		beside(milliseconds(loop.cpu) * loopScale).within(10)
	b.report.single("blocked_hook_rss_mb", "MB", memory["Rss"]).beside(float64(loop.maxRSSKB) * 1024 / 1e6).within(20)
	b.report.note("blocked hook: RSS %.1f MB, of which %.1f MB its own (anonymous); %.1f MB if shared pages are divided among processes (PSS)",
		memory["Rss"], memory["Anonymous"], memory["Pss"])
	return nil
}

// cpuOf is the CPU time of a process's threads, to the nanosecond: /proc/PID/stat counts in
// ticks of 10 ms, of which a hook that waits takes none.
func cpuOf(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(threads) == 0 {
		err = fmt.Errorf("process %d has no schedstat: it is gone, or the kernel has no CONFIG_SCHED_INFO", pid)
	}
	var sum time.Duration
	for _, thread := range threads {
		text, readErr := os.ReadFile(thread)
		if readErr != nil {
			return 0, readErr
		}
		var onCPU int64
		if _, scanErr := fmt.Sscan(string(text), &onCPU); scanErr != nil {
			return 0, fmt.Errorf("%s: %w", thread, scanErr)
		}
		sum += time.Duration(onCPU)
	}
	return sum, err
}

// memoryOf reads /proc/PID/smaps_rollup, in MB.
func memoryOf(pid int) (map[string]float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	memory := map[string]float64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return nil, err
		}
		memory[strings.TrimSuffix(words[0], ":")] = kb * 1024 / 1e6
	}
	return memory, lines.Err()
}
