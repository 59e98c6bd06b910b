package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

func TestRequeuedJobGetsAWorkflowOfItsOwn(t *testing.T) {
	parallel(t)
	j := submit(t, script{
		directives: []string{"Setup action=complete env=E2E_EARLY:known"},
		body:       `env; [ "${SLURM_RESTART_COUNT:-0}" != 0 ] || exec sleep 600`,
	})
	j.comes("RUNNING")
	first, err := j.read(deadline(t, patience))
	require.NoError(t, err)
	require.NotNil(t, first)
	admin(t, "scontrol", "requeue", j.number())
	j.await("to be requeued", func(seen testbed.Job) bool { return seen["Restarts"] == "1" && seen.State() == "PENDING" })
	// Slurm itself waits two minutes, until the credential of the first run is no longer good.
	second := j.awaitWorkflow("to be made again", func(w *workflow) bool { return w.UID != first.UID })
	require.NotEqual(t, first.UID, second.UID)
	j.ends("COMPLETED")
	j.gone()
	require.Contains(t, j.output(), "DW_WORKFLOW_NAME="+j.workflow)
}
