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
		without, excluded  string
	}{
		{"this run", "12 0", "12|12|c1", 0, "requeue 12", "", "", ""},
		{"a later run is none of ours", "12 1", "12|12|c1", 0, "", "", "", ""},
		{"an array's task, not the whole", "12 2", "12|10_3|c1\n10|10_[4-9]|", 2, "requeue 10_3", "", "", ""},
		{"a heterogeneous job as a whole", "13 0", "13|12+1|c1", 0, "requeue 12", "", "", ""},
		{"without the node for one component of a heterogeneous job", "13 0", "12|12+0|c1\n13|12+1|c1", 0, "requeue 12\nupdate JobId=12+1 ExcNodeList=c5,c1", "", "c1", "12||c7\n13||c5"},
		{"another job's answer", "99 0", "99|99|c1", 0, "", "no such job in its answer", "", ""},
		{"an answer in other words", "12 x", "12|12|c1", 0, "", "cannot read", "", ""},
		{"without the node", "12 0", "12|12|c1", 0, "requeue 12\nupdate JobId=12 ExcNodeList=c1", "", "c1", "12||"},
		{"without one more node", "12 2", "12|10_3|c1\n10|10_[4-9]|", 2, "requeue 10_3\nupdate JobId=10_3 ExcNodeList=c7,c8,c9,c1", "", "c1", "10||c5\n12|a[1-3]|c[7-9]"},
		{"a later run may have the node", "12 1", "12|12|c1", 0, "", "", "c1", "12||"},
		{"excluded nodes of another job", "12 0", "12|12|c1", 0, "requeue 12", "no such job in its answer", "c1", "120||c5"},
		{"a node that the job asked for", "12 0", "12|12|c1", 0, "requeue 12", "", "c1", "12|c[1-2]|"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", "case \"$*\" in *RestartCnt*) cat <<'END'\n"+tt.runs+"\nEND\n;; *%x*) cat <<'END'\n"+tt.excluded+"\nEND\n;; *) cat <<'END'\n"+tt.record+"\nEND\n;; esac")
			script(t, dir, "scontrol", `echo "$@" >>`+filepath.Join(dir, "asked"))
			id := uint32(12)
			if strings.HasPrefix(tt.runs, "13") {
				id = 13
			}
			err := Commands{Dir: dir}.RequeueRun(t.Context(), id, tt.restarts, tt.without)
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

func TestACommentIsOneWordForOneJob(t *testing.T) {
	for record, want := range map[string]string{"12|12|": "12", "12|10_3|": "10_3", "12|12_1|": "12_1", "12|12+0|": "12+0"} {
		dir := t.TempDir()
		script(t, dir, "squeue", "echo '"+record+"'")
		script(t, dir, "scontrol", `for a; do echo "<$a>"; done >`+filepath.Join(dir, "asked"))
		require.NoError(t, Commands{Dir: dir}.Comment(t.Context(), 12, "a pod's = words; $(x) Priority=0"))
		asked, err := os.ReadFile(filepath.Join(dir, "asked"))
		require.NoError(t, err)
		assert.Equal(t, "<update>\n<JobId="+want+">\n<AdminComment=a pod's = words; $(x) Priority=0>\n", string(asked))
	}
}

func TestNodesThatAJobIsNotToGet(t *testing.T) {
	exclude := func(c Commands, t *testing.T) (added []string) {
		require.NoError(t, c.Exclude(t.Context(), 12, func(nodes []string) error {
			assert.NoFileExists(t, filepath.Join(c.Dir, "asked"), "kept before Slurm is asked")
			added = nodes
			return nil
		}, "c1", "c2"))
		return added
	}
	for name, test := range map[string]struct {
		choice string // squeue's: the nodes that it was submitted with and without
		change func(Commands, *testing.T) []string
		want   string
		asked  string
	}{
		"added":                   {"12||", exclude, "c1 c2", "update JobId=12 ExcNodeList=c1,c2"},
		"added to the user's own": {"12||c[2-3]", exclude, "c1", "update JobId=12 ExcNodeList=c2,c3,c1"},
		"the job asked for them":  {"12|c[1-2]|", exclude, "", ""},
		"taken out again": {"12||c[1-3]", func(c Commands, t *testing.T) []string {
			require.NoError(t, c.Readmit(t.Context(), 12, "c1", "c9"))
			return nil
		}, "", "update JobId=12 ExcNodeList=c2,c3"},
		"the last one": {"12||c1", func(c Commands, t *testing.T) []string {
			require.NoError(t, c.Readmit(t.Context(), 12, "c1"))
			return nil
		}, "", "update JobId=12 ExcNodeList="},
		"taken out by somebody else": {"12||c3", func(c Commands, t *testing.T) []string {
			require.NoError(t, c.Readmit(t.Context(), 12, "c1"))
			return nil
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", "case \"$*\" in *%x*) echo '"+test.choice+"';; *) echo '12|12|';; esac")
			script(t, dir, "scontrol", `echo "$@" >>`+filepath.Join(dir, "asked"))
			added := test.change(Commands{Dir: dir}, t)
			assert.Equal(t, test.want, strings.Join(added, " "))
			asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
			assert.Equal(t, test.asked, strings.TrimSpace(string(asked)))
		})
	}
}
