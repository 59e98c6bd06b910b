package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAPendingJobAsksFor(t *testing.T) {
	for line, want := range map[string]Wish{
		"12|3||(null)|(null)":        {Nodes: 3},
		"12|2-4||c[1-2]|a|b":         {Nodes: 2, Planned: []string{"c1", "c2"}, Features: "a|b"},
		"12|1|c7||[(gpu&r1)*1&r2*2]": {Nodes: 1, Required: []string{"c7"}, Features: "[(gpu&r1)*1&r2*2]"},
	} {
		wish, err := answers(t, "cat <<'END'\n99|1|||x\n"+line+"\nEND").WishOf(t.Context(), 12)
		require.NoError(t, err)
		if len(wish.Required) == 0 {
			wish.Required = nil
		}
		if len(wish.Planned) == 0 {
			wish.Planned = nil
		}
		assert.Equal(t, want, wish)
	}
	_, err := answers(t, "echo '12|1'").WishOf(t.Context(), 12)
	require.ErrorContains(t, err, "cannot read")
}

func TestTheFeaturesOfOneJobAreSet(t *testing.T) {
	for record, want := range map[string]string{
		"12|12|": "JobId=12", "12|10_3|\n10|10_[4-9]|": "JobId=10_3", "12|12+0|\n13|12+1|": "JobId=12+0",
	} {
		dir := t.TempDir()
		script(t, dir, "squeue", "cat <<'END'\n"+record+"\nEND")
		script(t, dir, "scontrol", `echo "$@" >`+filepath.Join(dir, "asked"))
		require.NoError(t, Commands{Dir: dir}.SetFeatures(t.Context(), 12, "[r1*2&r2*1]"))
		asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
		assert.Equal(t, "update "+want+" Features=[r1*2&r2*1]", strings.TrimSpace(string(asked)))
	}
}
