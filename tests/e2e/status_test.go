package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// Slurm 22.05 does not tell a hook who asks.
const tellsWhoAsks = 2302

func TestStatusOfAJob(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{"DataIn action=wait"}})
	j.reaches(dwssim.DataIn)

	own := j.status(user)
	if release < tellsWhoAsks {
		require.Len(t, own, 3, "more than the three words for an asker who may be anybody")
		require.Len(t, j.status(another), 3)
	} else {
		require.Equal(t, cluster.Namespace+"/"+j.workflow, own["workflow"])
		require.Contains(t, j.bbstat(another), "Error running slurm_bb_get_status")
		require.NotContains(t, j.bbstat(another), "DataIn", "another user's job")
		require.Equal(t, own["workflow"], j.status("root")["workflow"])
	}
	j.complete(dwssim.DataIn)
	j.ends("COMPLETED")
	j.gone()
	require.Contains(t, j.bbstat(user), "Error running slurm_bb_get_status", "of a job without a Workflow")
}

func TestStatusOfWhatIsNoJob(t *testing.T) {
	parallel(t)
	for _, words := range [][]string{{"workflow"}, {"workflow", "x"}, {"workflow", "0"}, {"workflow", "1; true"}, {"nonsense", "1"}, {"workflow", "1", "2"}} {
		result := as(t, user, append([]string{"scontrol", "show", "bbstat"}, words...)...)
		require.Contains(t, result.Stdout+result.Stderr, "Error running slurm_bb_get_status", "%q", words)
	}
}
