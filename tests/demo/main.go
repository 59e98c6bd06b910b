// demo submits jobs on the test cluster, one for each duty, and prints what becomes of them. It
// fails unless all was seen that is to be, and nothing is left.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

const (
	user = "alice"
	// patience is for the whole: on a machine at rest it takes half a minute.
	patience = 2 * time.Minute
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cluster, err := testbed.FromEnv()
	if err != nil {
		return err
	}
	jobs := cluster.WatchJobs(ctx)
	for _, show := range []func(context.Context, *testbed.Cluster, *testbed.Jobs) error{showStorage, showService, showNodes} {
		if err := show(ctx, cluster, jobs); err != nil {
			return err
		}
	}
	return nil
}

// submit prints a script, hands it to sbatch, and returns the job's number.
func submit(ctx context.Context, cluster *testbed.Cluster, script string) (uint32, error) {
	for line := range strings.Lines(script) {
		fmt.Print("    | ", line)
	}
	fmt.Println()
	result, err := cluster.As(ctx, user, script, "sbatch", "--parsable")
	if err != nil {
		return 0, err
	}
	if result.Status != 0 {
		return 0, fmt.Errorf("sbatch: %s", result.Stderr)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(result.Stdout), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("sbatch: cannot read its answer %q", result.Stdout)
	}
	return uint32(id), nil
}
