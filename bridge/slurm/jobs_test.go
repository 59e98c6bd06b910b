package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answers are Slurm's commands, with a squeue that is a shell script.
func answers(t *testing.T, squeue string) Commands {
	t.Helper()
	dir := t.TempDir()
	script(t, dir, "squeue", squeue)
	return Commands{Dir: dir, Conf: "/nonexistent/slurm.conf"}
}

const (
	noSuchJob = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
	noAnswer  = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
)

func TestWhatASlurmStateMeans(t *testing.T) {
	tests := []struct {
		line                string
		over, waiting, runs bool
	}{
		{"1|RUNNING|a|c1", false, false, true},
		{"1|COMPLETING|a|c1", false, false, true},
		{"1|SUSPENDED|a|c1", false, false, true},
		{"1|STOPPED|a|c1", false, false, true},
		{"1|CONFIGURING|a|c1", false, false, true},
		{"1|CONFIGURING|a|(null)", false, false, false},
		{"1|STAGE_OUT|a|c1", false, false, false},
		{"1|PENDING|a|", false, true, false},
		{"1|REQUEUED|a|c1", false, true, false},
		{"1|REQUEUE_HOLD|a|", false, true, false},
		{"1|SPECIAL_EXIT|a|", false, true, false},
		{"1|COMPLETED|a|c1", true, false, false},
		{"1|CANCELLED|a|", true, false, false},
		{"1|FAILED|a|c1", true, false, false},
		{"1|TIMEOUT|a|c1", true, false, false},
		{"1|NODE_FAIL|a|c1", true, false, false},
		{"1|SIGNALING|a|c1", false, false, true},
		{"1|RESIZING|a|c1", false, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			job, err := parseJob(tt.line)
			require.NoError(t, err)
			assert.Equal(t, tt.over, job.Over(), "over")
			assert.Equal(t, tt.waiting, job.Waiting(), "waiting")
			assert.Equal(t, tt.runs, job.HoldsNodes(), "holds nodes")
			assert.Equal(t, tt.runs, job.On("C1"), "on its node")
			assert.False(t, job.On("c2"))
		})
	}
}

func TestJobs(t *testing.T) {
	tests := []struct {
		name, squeue string
		want         map[uint32]Job
		fails        string
	}{
		{"no jobs", "", map[uint32]Job{}, ""},
		{"several", "1|RUNNING|a|c[1-2]\n2|PENDING|b|", map[uint32]Job{1: {1, "RUNNING", "a", []string{"c1", "c2"}}, 2: {2, "PENDING", "b", nil}}, ""},
		{"an array's tasks that share an id", "1|RUNNING|a|c1\n1|RUNNING|a|c2", map[uint32]Job{1: {1, "RUNNING", "a", []string{"c1", "c2"}}}, ""},
		{"of those, one runs", "1|PENDING|a|\n1|RUNNING|a|c1", map[uint32]Job{1: {1, "RUNNING", "a", []string{"c1"}}}, ""},
		{"of those, one is over", "1|PENDING|a|\n1|COMPLETED|a|c1", map[uint32]Job{1: {1, "PENDING", "a", nil}}, ""},
		{"of those, one is over, in the other order", "1|COMPLETED|a|c1\n1|PENDING|a|", map[uint32]Job{1: {1, "PENDING", "a", nil}}, ""},
		{"an error in the middle", "1|RUNNING|a|c1\nslurm_load_jobs error: x\n2|RUNNING|a|c2", nil, "squeue: cannot read"},
		{"words that are no job", "hello|world|of|Slurm", nil, "squeue: cannot read"},
		{"an id that is none", "-1|RUNNING|a|c1", nil, "squeue: cannot read"},
		{"a line that was cut", "1|RUNNING|a|c1\n2", nil, "squeue: cannot read"},
		{"nodes that cannot be read", "1|RUNNING|a|c[1-", nil, "cannot read the nodes of job 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := answers(t, "printf '%s' '"+tt.squeue+"'").Jobs(t.Context(), nil)
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

func TestAJobInAnUnknownStateHoldsNodesIfSlurmSaysSo(t *testing.T) {
	const known = `3|RUNNING|a|c3`
	for name, c := range map[string]struct {
		line, answer string
		holds        bool
		asked        int
	}{
		"waits for a decision":                       {"7|EXPEDITING|a|c1", "7|(Resources)", false, 1},
		"waits, with a reason in several lines":      {"7|EXPEDITING|a|c1", "7|(no\n7|c1)", false, 1},
		"is on its nodes":                            {"7|EXPEDITING|a|c1", "7|c1", true, 1},
		"of a later release, waits":                  {"7|DREAMING|a|c[1-2]", "7|(Dreaming)", false, 1},
		"of a later release, is on its nodes":        {"7|DREAMING|a|c[1-2]", "7|c[1-2]", true, 1},
		"a task whose array is printed with it":      {"7|DREAMING|a|c1", "6|(JobArrayTaskLimit)\n7|c1", true, 1},
		"without nodes, which needs no question":     {"7|EXPEDITING|a|(null)", "7|c1", false, 0},
		"a state that is known, which needs neither": {"7|COMPLETING|a|c1", "7|(None)", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			asked := filepath.Join(t.TempDir(), "asked")
			slurm := answers(t, `case "$*" in
*%R*) echo x >>`+asked+`; case "$*" in *--jobs=7*) printf '`+c.answer+`\n';; esac;;
*) printf '`+known+`\n`+c.line+`\n';;
esac`)
			jobs, err := slurm.Jobs(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, c.holds, jobs[7].HoldsNodes())
			assert.True(t, jobs[3].HoldsNodes())
			text, _ := os.ReadFile(asked)
			assert.Equal(t, c.asked, strings.Count(string(text), "x"), "questions")
		})
	}
	// No answer is no answer here either; a job that is gone holds nothing.
	first := `case "$*" in *%R*) ;; *) echo '7|DREAMING|a|c1'; exit;; esac;`
	for _, then := range []string{noAnswer, "echo '8|c1'", "true"} {
		_, err := answers(t, first+then).Running(t.Context(), 7)
		require.Error(t, err, then)
	}
	running, err := answers(t, first+noSuchJob).Running(t.Context(), 7)
	require.NoError(t, err)
	assert.False(t, running)
}

func TestLookupAsksForTheJobsInQuestionOnly(t *testing.T) {
	tests := []struct {
		name string
		ids  []uint32
		want []string // what squeue is asked for
	}{
		{"none", nil, nil},
		{"one", []uint32{7}, []string{"--jobs=7"}},
		{"few: one by one", []uint32{7, 8}, []string{"--jobs=7", "--jobs=8"}},
		{"many: in one query", []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9}, []string{"--jobs=1,2,3,4,5,6,7,8,9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := filepath.Join(t.TempDir(), "asked")
			c := answers(t, "for last; do true; done; echo \"$last\" >>"+asked+"; echo '7|RUNNING|a|c1'; echo '99|RUNNING|a|c1'")
			jobs, err := c.Lookup(t.Context(), tt.ids...)
			require.NoError(t, err)
			text, _ := os.ReadFile(asked)
			assert.ElementsMatch(t, tt.want, strings.Fields(string(text)))
			_, known := jobs[7]
			assert.Equal(t, len(tt.ids) > 0, known)
		})
	}
}

func TestAJobThatSlurmHasForgotten(t *testing.T) {
	c := answers(t, noSuchJob)
	jobs, err := c.Lookup(t.Context(), 5)
	require.NoError(t, err)
	assert.Empty(t, jobs)
	running, err := c.Running(t.Context(), 5)
	require.NoError(t, err)
	assert.False(t, running)
	nodes, err := c.NodesOf(t.Context(), 5)
	require.NoError(t, err)
	assert.Empty(t, nodes)
}

func TestNoAnswerIsNoAnswer(t *testing.T) {
	for _, squeue := range []string{noAnswer, "echo what", "echo 'x|RUNNING|a|c1'"} {
		c := answers(t, squeue)
		_, err := c.Lookup(t.Context(), 5)
		require.Error(t, err, squeue)
		_, err = c.Running(t.Context(), 5)
		require.Error(t, err, squeue)
		_, err = c.NodesOf(t.Context(), 5)
		require.Error(t, err, squeue)
	}
	// Of all jobs at once, "no such job" is no answer either.
	_, err := answers(t, noSuchJob).Jobs(t.Context(), nil)
	require.Error(t, err)
}

func TestAccount(t *testing.T) {
	account, err := answers(t, `printf '4 other\n5 p1\n'`).Account(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, "p1", account)
	_, err = answers(t, `printf '5 two words\n'`).Account(t.Context(), 5)
	require.Error(t, err)
}

func TestBurstBufferState(t *testing.T) {
	tests := []struct{ name, squeue, want, fails string }{
		{"a hook runs", "12                  staging-in          ", "staging-in", ""},
		{"another part of the array", "13                  teardown            \n12                  complete            ", "complete", ""},
		{"a job without storage", "12                                      ", "", ""},
		{"a job without storage, in other words", "12                  N/A                 ", "", ""},
		{"a job that Slurm has forgotten", "", "", "no such job in its answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state, err := answers(t, "cat <<'END'\n"+tt.squeue+"\nEND").BurstBufferState(t.Context(), 12)
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, state)
		})
	}
}
