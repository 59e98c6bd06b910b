package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const earlyVariable = "#DW Setup action=complete env=E2E_EARLY:known"

func TestSallocWithDirectives(t *testing.T) {
	parallel(t)
	result := as(t, user, "salloc", "--ntasks=1", "--bb="+earlyVariable, "bash", "-c", "env; srun env | sed s/^/step:/")
	require.Zero(t, result.Status, "salloc: %s", result.Stderr)
	j := adopt(t, granted(t, result.Stderr))
	require.Contains(t, result.Stdout, "step:DW_WORKFLOW_NAME="+j.workflow)
	require.Contains(t, result.Stdout, "step:E2E_EARLY=known")
	j.ends("COMPLETED")
	j.gone()
}

func TestSrunWithDirectives(t *testing.T) {
	parallel(t)
	result := as(t, user, "srun", "--ntasks=1", "--bb="+earlyVariable, "env")
	require.Zero(t, result.Status, "srun: %s", result.Stderr)
	id := regexp.MustCompile(`(?m)^SLURM_JOB_ID=(\d+)$`).FindStringSubmatch(result.Stdout)
	require.NotNil(t, id, "srun env: %s", result.Stdout)
	number, err := strconv.ParseUint(id[1], 10, 32)
	require.NoError(t, err)
	j := adopt(t, uint32(number))
	require.Contains(t, result.Stdout, "DW_WORKFLOW_NAME="+j.workflow)
	require.Contains(t, result.Stdout, "E2E_EARLY=known")
	j.ends("COMPLETED")
	j.gone()
}

func TestSallocWithABadDirectiveIsToldWhy(t *testing.T) {
	parallel(t)
	refused(t, "invalid directive '#DW nonsense'", func() testbed.Result {
		// A salloc that was accepted would wait for storage that it cannot get.
		return as(t, user, "timeout", "30", "salloc", "--ntasks=1", "--bb=#DW nonsense", "false")
	})
}

// salloc goes away while its storage is staged: the job ends, and so does its Workflow.
func TestSallocKilledWhileItWaits(t *testing.T) {
	parallel(t)
	ctx, cancel := context.WithCancel(deadline(t, patience))
	defer cancel()
	ended := make(chan struct{})
	name := "salloc-killed"
	go func() {
		defer close(ended)
		_, _ = cluster.As(ctx, user, "", "salloc", "--job-name="+name, "--ntasks=1", "--bb=#DW DataIn action=wait", "true")
	}()
	var j *job
	eventually.True(t, "salloc's job is there", func() bool {
		for id := range jobs.Find(func(seen testbed.Job) bool { return seen["JobName"] == name && seen.State() == "PENDING" }) {
			j = adopt(t, id)
		}
		return j != nil
	})
	j.reaches(dwssim.DataIn)
	admin(t, "pkill", "-TERM", "-x", "-f", "salloc --job-name="+name+" .*")
	<-ended
	j.ends("CANCELLED")
	j.goneOrReconciled()
}

// granted reads "salloc: Granted job allocation 12".
func granted(t *testing.T, text string) uint32 {
	t.Helper()
	found := regexp.MustCompile(`Granted job allocation (\d+)`).FindStringSubmatch(text)
	require.NotNil(t, found, "salloc: %s", text)
	id, err := strconv.ParseUint(found[1], 10, 32)
	require.NoError(t, err)
	return uint32(id)
}

// heterogeneous submits a job of two components.
func heterogeneous(t *testing.T, lines ...string) (leader, second *job) {
	t.Helper()
	text := "#!/bin/bash\n" + strings.Join(lines, "\n") + "\n"
	result, err := cluster.As(deadline(t, patience), user, text, "sbatch", "--parsable")
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	leader = adopt(t, parseID(t, result.Stdout))
	return leader, adopt(t, leader.id+1)
}

// Of a heterogeneous job, each component is a job with directives of its own or none.
func TestHeterogeneousJobWithOneStorageComponent(t *testing.T) {
	parallel(t)
	leader, second := heterogeneous(t,
		"#SBATCH --ntasks=1 --time=10 --job-name=het",
		"#DW Setup action=complete env=E2E_EARLY:known",
		"#SBATCH hetjob",
		"#SBATCH --ntasks=1",
		"env")
	require.Equal(t, fmt.Sprint(leader.id), second.await("to be seen", func(testbed.Job) bool { return true })["HetJobId"])
	leader.ends("COMPLETED")
	second.ends("COMPLETED")
	require.Contains(t, leader.output(), "DW_WORKFLOW_NAME="+leader.workflow)
}
