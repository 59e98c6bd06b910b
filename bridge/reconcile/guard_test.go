package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
)

func TestAJobIsOverOnPositiveEvidenceOnly(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	const unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
	says := func(line string) string { return "echo '" + line + "'" }
	tests := []struct {
		name   string
		object duty.Object
		squeue string
		over   bool
		why    string
	}{
		{"Slurm lists it as over", duty.Object{}, says("12|COMPLETED|a|c1"), true, ""},
		{"Slurm does not know it any more", duty.Object{}, unknown, true, ""},
		{"it runs", duty.Object{}, says("12|RUNNING|a|c1"), false, "job 12 is RUNNING"},
		{"it waits", duty.Object{}, says("12|PENDING|a|"), false, "job 12 is PENDING"},
		{"its data is staged out", duty.Object{}, says("12|STAGE_OUT|a|c1"), false, "job 12 is STAGE_OUT"},
		{"what needs nodes: it runs", duty.Object{Allocation: true}, says("12|RUNNING|a|c1"), false, "job 12 is RUNNING"},
		{"what needs nodes: it waits again", duty.Object{Allocation: true}, says("12|REQUEUED|a|"), true, ""},
		{"what needs nodes: it has none yet", duty.Object{Allocation: true}, says("12|CONFIGURING|a|"), true, ""},
		{"what is on a node: it runs there", duty.Object{Allocation: true, Node: "c1"}, says("12|RUNNING|a|c[1-2]"), false, "job 12 is RUNNING"},
		{"what is on a node: it runs elsewhere", duty.Object{Allocation: true, Node: "c3"}, says("12|RUNNING|a|c[1-2]"), true, ""},
		{"what is finished: it waits", duty.Object{Finished: true}, says("12|PENDING|a|"), true, ""},
		{"what is finished: it runs", duty.Object{Finished: true}, says("12|RUNNING|a|c1"), false, "job 12 is RUNNING"},
		{"one answer of two", duty.Object{}, "mkdir $0.once 2>/dev/null || echo '12|RUNNING|a|c1'", false, "job 12 is RUNNING"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSlurm(t)
			s.script("squeue", tt.squeue)
			tt.object.JobID, tt.object.Made = 12, old
			verdicts, err := s.guard().Judge(t.Context(), []duty.Object{tt.object})
			require.NoError(t, err)
			assert.Equal(t, Verdict{Over: tt.over, Why: tt.why}, verdicts[0])
		})
	}
}

func TestNothingIsOverWhereSlurmItselfIsInDoubt(t *testing.T) {
	lost := func(s *fakeSlurm) { s.controller(time.Hour, 12) }
	tests := []struct {
		name  string
		made  time.Duration // ago
		slurm func(*fakeSlurm)
		why   string
		fails string
	}{
		{"no answer", time.Hour, func(s *fakeSlurm) {
			s.script("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
		}, "", "nothing was touched, since Slurm's jobs are unknown: squeue "},
		{"no answer the second time", time.Hour, func(s *fakeSlurm) { s.script("squeue", "mkdir $0.once 2>/dev/null") },
			"", "nothing was touched, since Slurm's jobs are unknown: squeue "},
		{"no counter", time.Hour, func(s *fakeSlurm) { s.script("scontrol", "echo BOOT_TIME = 1000") }, "", "nothing was touched, since Slurm's jobs are unknown: scontrol "},
		{"a lost state, or another cluster's: the counter has not passed the job", time.Hour, lost,
			"", "nothing was touched: there is workflow slurm/bb12 of job 12, but Slurm's next job id"},
		{"also for an object that is young", time.Second, lost, "", "nothing was touched"},
		{"slurmctld was just started", time.Hour, func(s *fakeSlurm) { s.controller(30*time.Second, 1000) }, "slurmctld was started less than 1m0s ago", ""},
		{"the object was just made", 30 * time.Second, func(*fakeSlurm) {}, "workflow slurm/bb12 is younger than 1m0s", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSlurm(t)
			tt.slurm(s)
			verdicts, err := s.guard().Judge(t.Context(), []duty.Object{{Name: "workflow slurm/bb12", JobID: 12, Made: time.Now().Add(-tt.made)}})
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, Verdict{Why: tt.why}, verdicts[0])
		})
	}
}

// One job that the lost counter has not passed is enough: those below it may be new
// jobs with the ids of old ones.
func TestALostStateProtectsAllJobs(t *testing.T) {
	s := newSlurm(t)
	s.jobs("7|RUNNING|a|c1")
	s.controller(time.Hour, 8)
	_, err := s.guard().Judge(t.Context(), []duty.Object{{Name: "a", JobID: 3}, {Name: "workflow slurm/bb900", JobID: 900}})
	require.ErrorContains(t, err, "workflow slurm/bb900 of job 900")
}

func TestAJobOfAnotherClusterOfTheFederationIsKept(t *testing.T) {
	s := newSlurm(t)
	s.controller(time.Hour, 2<<26+5)
	verdicts, err := s.guard().Judge(t.Context(), []duty.Object{{JobID: 1<<26 + 3}, {JobID: 2<<26 + 3}})
	require.NoError(t, err)
	assert.False(t, verdicts[0].Over)
	assert.True(t, verdicts[0].Stuck)
	assert.Contains(t, verdicts[0].Why, "submitted to another cluster of the federation")
	assert.True(t, verdicts[1].Over)
}

// slurmctld is asked little, however much there is.
func TestTheQuestionsToSlurmAreFew(t *testing.T) {
	s := newSlurm(t)
	var objects []duty.Object
	for id := uint32(1); id <= 100; id++ {
		objects = append(objects, duty.Object{JobID: id}, duty.Object{JobID: id, Allocation: true})
	}
	_, err := s.guard().Judge(t.Context(), objects)
	require.NoError(t, err)
	asked := s.asked()
	require.Len(t, asked, 3)
	for i, command := range []string{"squeue ", "squeue ", "scontrol show config"} {
		assert.True(t, strings.HasPrefix(asked[i], command), asked[i])
	}

	// Jobs that live need no second question, and no jobs no question.
	s = newSlurm(t)
	s.jobs("1|RUNNING|a|c1")
	_, err = s.guard().Judge(t.Context(), []duty.Object{{JobID: 1}})
	require.NoError(t, err)
	assert.Len(t, s.asked(), 1)
	s = newSlurm(t)
	_, err = s.guard().Judge(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprint([]string{""}), fmt.Sprint(s.asked()))
}
