// Bench measures slurmk8s beside the kubectl way, on a real API server with dwssim as DWS.
// tests/bench/run.sh builds what it needs and calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// samples says how often each thing is measured.
type samples struct {
	lifecycles, referenceLifecycles   int
	transitions, referenceTransitions int
	submits, referenceSubmits         int
	calls                             int
	wait                              time.Duration // of the blocked hook
	deadReference                     time.Duration // patience with kubectl and a dead API server
	rounds, launches                  int           // of srun: slurmd is started again in each round
	podsPerNode, nodes                []int         // that are reclaimed
	drainedNodes                      int           // by kubectl, one after another, at most
	reclaims                          int
	stormNodes, mirrorNodes           int
	preRuns                           int // of a job on all nodes of the rabbits
}

var (
	full = samples{
		lifecycles: 21, referenceLifecycles: 5, transitions: 200, referenceTransitions: 20,
		submits: 50, referenceSubmits: 20, calls: 30, wait: 10 * time.Second, deadReference: 30 * time.Second,
		rounds: 4, launches: 25, podsPerNode: []int{1, 10, 50}, nodes: []int{1, 8, 64}, drainedNodes: 64, reclaims: 3,
		stormNodes: 1000, mirrorNodes: 5000,
		preRuns: 3,
	}
	quick = samples{
		lifecycles: 3, referenceLifecycles: 1, transitions: 15, referenceTransitions: 2,
		submits: 15, referenceSubmits: 3, calls: 5, wait: 2 * time.Second, deadReference: 3 * time.Second,
		rounds: 1, launches: 8, podsPerNode: []int{1, 10}, nodes: []int{1, 8}, drainedNodes: 1, reclaims: 1,
		stormNodes: 100, mirrorNodes: 500,
		preRuns: 1,
	}
)

// sections are measured in this order; the last stops the API server.
var sections = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"start", starts},
	{"library", library},
	{"lifecycle", lifecycles},
	{"ready-to-return", transitions},
	{"submit", submits},
	{"job-submit", jobSubmits},
	{"bundles", bundles},
	{"blocked-hook", blockedHook},
	{"register", registrations},
	{"register-launch", registerLaunch},
	{"launch-cost", launchCost},
	{"step-environment", stepEnvironment},
	{"reclaim", reclaims},
	{"storm", storms},
	{"mirror", mirrors},
	{"placement", placements},
	{"storage", storage},
	{"dead-api", deadAPI},
}

// bench is what a section works with.
type bench struct {
	*site
	report  *report
	samples samples
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	build := flag.String("build", "build", "`folder` of make all")
	results := flag.String("results", "", "`file` for the figures as JSON")
	only := flag.String("only", "", "measure only the sections that match `regexp`, and write no results")
	image := flag.String("slurm-image", "", "`image` of a container with Slurm")
	keep := flag.Bool("keep", false, "leave the folder with the logs behind")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	b := &bench{report: &report{}, samples: full}
	if os.Getenv("BENCH_QUICK") == "1" {
		b.samples = quick
	}
	b.report.loadBefore = loadAverage()
	if b.site, err = newSite(ctx, *build, *keep); err != nil {
		return err
	}
	defer b.close()
	b.slurmImage = *image

	failed := 0
	for _, section := range sections {
		if !wanted.MatchString(section.name) {
			continue
		}
		begin := time.Now()
		err := b.measure(ctx, section.run)
		fmt.Fprintf(os.Stderr, "bench: %s: %.0f s\n", section.name, time.Since(begin).Seconds())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s could not be measured: %v\n", section.name, err)
			failed++
		}
	}
	b.report.loadAfter = loadAverage()
	b.report.print(os.Stdout)
	if *results != "" && *only == "" {
		if err := b.report.write(*results); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d sections could not be measured", failed)
	}
	return nil
}

// measure runs a section with hosts of its own.
func (b *bench) measure(ctx context.Context, section func(context.Context, *bench) error) error {
	if err := b.startHosts(ctx); err != nil {
		return err
	}
	defer b.closeHosts()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return section(ctx, b)
}

// loadAverage is the first figure of /proc/loadavg, or "?".
func loadAverage() string {
	var load string
	f, err := os.Open("/proc/loadavg")
	if err != nil {
		return "?"
	}
	defer f.Close()
	if _, err := fmt.Fscan(io.LimitReader(f, 64), &load); err != nil {
		return "?"
	}
	return load
}
