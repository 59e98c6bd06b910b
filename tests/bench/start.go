package main

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// starts counts what the program does before it looks at a hook: page faults without input or
// output, beside those of the least program with client-go, and what our packages allocate before
// main. A name that is no hook's ends it right there. These figures are nearly the same on each
// machine.
func starts(ctx context.Context, b *bench) error {
	program := filepath.Join(b.build, "bin", "slurmk8s")
	var faults, floor []float64
	for range b.samples.calls {
		ours, err := minorFaults(exec.CommandContext(ctx, program, "hook", "none"))
		if err != nil {
			return err
		}
		theirs, err := minorFaults(exec.CommandContext(ctx, filepath.Join(b.build, "bench", "floor")))
		if err != nil {
			return err
		}
		faults, floor = append(faults, ours), append(floor, theirs)
	}
	command := exec.CommandContext(ctx, program, "--version")
	command.Env = []string{"GODEBUG=inittrace=1"}
	trace, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	bytes, allocs := beforeMain(string(trace))
	b.report.add("start_minor_faults", "faults", median(faults), faults).beside(median(floor)).within(math.Round(1.3 * median(floor)))
	b.report.single("start_own_allocs", "allocs", allocs).within(400)
	b.report.single("start_own_kb", "kB", bytes/1000).within(60)
	return nil
}

func minorFaults(command *exec.Cmd) (float64, error) {
	if err := command.Run(); command.ProcessState == nil {
		return 0, err
	}
	used, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, fmt.Errorf("%s: its use of memory is not known", command.Path)
	}
	return float64(used.Minflt), nil
}

// beforeMain sums what the initialization of our packages allocated, from GODEBUG=inittrace=1.
func beforeMain(trace string) (bytes, allocs float64) {
	for line := range strings.Lines(trace) {
		var name string
		var at, clock, ofBytes, ofAllocs float64
		n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %f bytes, %f allocs", &name, &at, &clock, &ofBytes, &ofAllocs)
		if n == 5 && strings.HasPrefix(name, "slurmk8s.io/") {
			bytes, allocs = bytes+ofBytes, allocs+ofAllocs
		}
	}
	return bytes, allocs
}
