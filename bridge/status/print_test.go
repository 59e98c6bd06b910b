package status

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnObjectThatWasJustMadeHasAnAgeAndANodeHasNone(t *testing.T) {
	justNow := int64(0)
	report := &Report{Cluster: "hpc", Jobs: []Job{{ID: 7, User: "alice", Slurm: "RUNNING", Objects: []Object{
		{Name: "service jobs/web", State: "ClusterIP 8888", AgeSeconds: &justNow},
		{Name: "node c1", State: "held"},
	}}}}
	var out strings.Builder
	require.NoError(t, Print(&out, report))
	require.Regexp(t, `(?m)service jobs/web +ClusterIP 8888 +0s$`, out.String())
	require.Regexp(t, `(?m)node c1 +held +-$`, out.String())
}
