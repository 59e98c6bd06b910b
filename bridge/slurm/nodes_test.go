package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlacement(t *testing.T) {
	tests := []struct {
		name, squeue string
		want         Placement
		fails        string
	}{
		{"no jobs", "", Placement{}, ""},
		{"running and completing", "1|RUNNING|c[1-2]\n2|COMPLETING|c3", Placement{1: {"c1", "c2"}, 2: {"c3"}}, ""},
		{"over, though its nodes are told", "1|COMPLETED|c1\n2|FAILED|c1", Placement{}, ""},
		{"waiting", "1|PENDING|\n2|REQUEUED|c1", Placement{}, ""},
		{"without nodes yet", "1|CONFIGURING|(null)", Placement{}, ""},
		{"an array's tasks that share an id", "1|RUNNING|c1\n1|RUNNING|c2", Placement{1: {"c1", "c2"}}, ""},
		{"a state of the future holds its nodes", "1|DREAMING|c1", Placement{1: {"c1"}}, ""},
		{"an error in the middle", "1|RUNNING|c1\nslurm_load_jobs error: x", nil, "squeue: cannot read"},
		{"nodes that cannot be read", "1|RUNNING|c[1-", nil, "cannot read the nodes of job 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", "printf '%s' '"+tt.squeue+"'")
			got, err := Commands{Dir: dir}.Placement(t.Context())
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				assert.Nil(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestNodesOfAJobThatSlurmHasForgotten(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
	nodes, err := Commands{Dir: dir}.NodesOf(t.Context(), 12)
	require.NoError(t, err)
	assert.Empty(t, nodes)
	script(t, dir, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
	_, err = Commands{Dir: dir}.NodesOf(t.Context(), 12)
	require.Error(t, err)
}

func TestStarted(t *testing.T) {
	dir := t.TempDir()
	for answer, want := range map[string]int64{
		"Configuration data as of 1795368080\nBOOT_TIME               = 1795368074\nX = 1": 1795368074,
		"BOOT_TIME = 2026-11-22T17:21:14":                                                  0, "X = 1": 0,
	} {
		script(t, dir, "scontrol", "printf '%s\\n' '"+answer+"'")
		got, err := Commands{Dir: dir}.Started(t.Context())
		if want == 0 {
			require.Error(t, err, answer)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, time.Unix(want, 0), got)
	}
}

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
