package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

const (
	user    = "alice"
	another = "bob"
)

// What all tests share.
var (
	cluster *testbed.Cluster
	jobs    *testbed.Jobs
	prober  *testbed.Prober
	release int // of Slurm: 2205, 2411, 2605
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run()) // each test says that it is left out
	}
	// They wait for others, not for a processor.
	if !explicit("test.parallel") {
		_ = flag.Set("test.parallel", "32")
	}
	ctx, end := context.WithCancel(context.Background())
	if err := begin(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	started := time.Now()
	status := m.Run()
	if err := judgeWhole(started); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: FAIL:", err)
		status = max(status, 1)
	}
	end()
	os.Exit(status)
}

func explicit(name string) bool {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func begin(ctx context.Context) (err error) {
	if cluster, err = testbed.FromEnv(); err != nil {
		return err
	}
	if os.Getenv("E2E_DEPLOY") != "no" {
		if out, err := exec.CommandContext(ctx, "./deploy.sh").CombinedOutput(); err != nil {
			return fmt.Errorf("deploy.sh: %w: %s", err, out)
		}
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if release, err = cluster.Release(starting); err != nil {
		return fmt.Errorf("slurm does not answer: %w (bring it up: make cluster)", err)
	}
	if err := freshSlurmctld(starting); err != nil {
		return err
	}
	jobs = cluster.WatchJobs(ctx)
	prober = cluster.Probe(ctx)
	return nil
}

// countsStageIns is the release that does not forget to: before 23.02.7, Slurm stages nothing any
// more after 128 jobs were cancelled during stage-in.
const countsStageIns = 2302

// freshSlurmctld restarts a Slurm that may be near that.
func freshSlurmctld(ctx context.Context) error {
	if release >= countsStageIns {
		return nil
	}
	const restart = `old=$(cat /run/slurm/slurmctld.pid); kill -TERM "$old"
		while [ -e "/proc/$old" ]; do sleep 0.1; done
		until sinfo >/dev/null 2>&1; do sleep 0.2; done`
	_, err := cluster.Root(ctx, "bash", "-c", restart)
	return err
}

// judgeWhole looks at what is nobody's alone: Slurm's answers, and processes that stayed.
func judgeWhole(started time.Time) error {
	faults, worst, count := prober.Faults(started)
	fmt.Printf("e2e: sinfo was asked %d times; the worst answer took %v\n", count, worst.Round(time.Millisecond))
	if left := hooksLeft(); left != "" {
		faults = append(faults, "processes of hooks are left:\n"+left)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s", strings.Join(faults, "\n"))
	}
	return nil
}

// hooksLeft waits until no hook and no slurmk8s runs, and returns those that stay: all that
// slurmscriptd has made, and what went its own way, on the nodes too.
func hooksLeft() string {
	const list = `for p in $(pgrep -x slurmscriptd); do pgrep -a -P "$p"; done; pgrep -a -x slurmk8s; true`
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		left, err := cluster.Root(ctx, "bash", "-c", list)
		for _, n := range cluster.Nodes {
			programs, failed := cluster.On(ctx, n, "bash", "-c", "pgrep -a -x slurmk8s; true")
			left, err = left+programs, errors.Join(err, failed)
		}
		cancel()
		if err != nil {
			left = err.Error()
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
		time.Sleep(lookAgain)
	}
}

// parallel begins a test that runs beside others.
func parallel(t *testing.T) {
	t.Helper()
	leaveOutIfShort(t)
	t.Parallel()
}

// alone begins a test that disturbs all others. At its end all must be as quiet as before.
func alone(t *testing.T) {
	t.Helper()
	leaveOutIfShort(t)
	started := time.Now()
	t.Cleanup(func() {
		faults, worst, _ := prober.Faults(started)
		t.Logf("the worst answer of sinfo took %v", worst.Round(time.Millisecond))
		require.Empty(t, faults, "Slurm's answers")
		require.Empty(t, hooksLeft(), "processes of hooks are left")
	})
}

func leaveOutIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the test cluster (make cluster): left out because of -short")
	}
}

// deadline is a context for one wait.
func deadline(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// admin runs a command as root in slurmctld's container.
func admin(t *testing.T, command ...string) string {
	t.Helper()
	out, err := cluster.Root(deadline(t, patience), command...)
	require.NoError(t, err)
	return out
}

// as runs a command as a user.
func as(t *testing.T, who string, command ...string) testbed.Result {
	t.Helper()
	result, err := cluster.As(deadline(t, patience), who, "", command...)
	require.NoError(t, err)
	return result
}
