package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRequeueRun(t *testing.T) {
	tests := []struct {
		name, runs, record string
		restarts           uint32
		want, fails        string
	}{
		{"this run", "12 0", "12|12|c1", 0, "requeue 12", ""},
		{"a later run is none of ours", "12 1", "12|12|c1", 0, "", ""},
		{"an array's task, not the whole", "12 2", "12|10_3|c1\n10|10_[4-9]|", 2, "requeue 10_3", ""},
		{"a heterogeneous job as a whole", "13 0", "13|12+1|c1", 0, "requeue 12", ""},
		{"another job's answer", "99 0", "99|99|c1", 0, "", "no such job in its answer"},
		{"an answer in other words", "12 x", "12|12|c1", 0, "", "cannot read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", "case \"$*\" in *RestartCnt*) cat <<'END'\n"+tt.runs+"\nEND\n;; *) cat <<'END'\n"+tt.record+"\nEND\n;; esac")
			script(t, dir, "scontrol", `echo "$@" >>`+filepath.Join(dir, "asked"))
			id := uint32(12)
			if strings.HasPrefix(tt.runs, "13") {
				id = 13
			}
			err := Commands{Dir: dir}.RequeueRun(t.Context(), id, tt.restarts)
			asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
			assert.Equal(t, tt.want, strings.TrimSpace(string(asked)))
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestACommentIsOneWord(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "scontrol", `for a; do echo "<$a>"; done >`+filepath.Join(dir, "asked"))
	require.NoError(t, Commands{Dir: dir}.Comment(t.Context(), 12, "a pod's = words; $(x) Priority=0"))
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)
	assert.Equal(t, "<update>\n<JobId=12>\n<AdminComment=a pod's = words; $(x) Priority=0>\n", string(asked))
}
