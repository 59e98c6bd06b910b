package services

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Killed at any instant of its life, the program leaves nothing that the epilog
// does not find; and a step that comes instead does its work.
func TestKilledAtAnyInstant(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	spec := "K8S_REGISTER=name=a,port=8888,ready=none,endpoints=both;name=b,port=8889,host=all,ready=none"
	for delay := time.Duration(0); delay <= 90*time.Millisecond; delay += 6 * time.Millisecond {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			s := n.start(n.fields(spec))
			time.Sleep(delay)
			require.NoError(t, s.cmd.Process.Kill())
			_ = s.cmd.Wait()
			if delay%12 == 0 { // the next step of the job, or its epilog at once
				next := n.start(n.fields("STEP_ID=1", spec))
				require.Contains(t, next.reply(), "CODE=0")
				assert.Equal(t, []string{"CODE=0"}, next.end())
			}
			assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1"))
			assert.Empty(t, w.names())
			assert.False(t, n.marked(12))
		})
	}
}

// Killed while it takes its services away.
func TestKilledAtTheEnd(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	for delay := time.Duration(0); delay <= 30*time.Millisecond; delay += 5 * time.Millisecond {
		s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
		s.reply()
		s.send("ACTION=deregister")
		time.Sleep(delay)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1"))
		assert.Empty(t, w.names())
		assert.False(t, n.marked(12))
	}
}

// An API server that takes connections and answers nothing.
func TestDeadlinesHoldWhenNothingIsAnswered(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	healthy := n.start(n.fields("JOB_ID=13", "K8S_REGISTER=name=h,port=8888,ready=none"))
	require.Contains(t, healthy.reply(), "CODE=0")
	require.NoError(t, w.server.PauseAPIServer())
	resumed := false
	resume := func() {
		if !resumed {
			resumed = true
			require.NoError(t, w.server.ResumeAPIServer())
		}
	}
	defer resume()

	// The program's own limits are longer, and Kubernetes does not answer before all are done.
	s := n.start(n.fields("K8S_REGISTER=a:8888", "DEADLINE_MS=1500"))
	answer := s.reply()
	assert.Equal(t, "CODE=3", answer[0])
	assert.Contains(t, answer[1], "no answer in time")
	s.gone()

	healthy.send("ACTION=deregister", "DEADLINE_MS=1000")
	assert.Equal(t, "CODE=3", healthy.reply()[0])
	_ = healthy.in.Close()
	healthy.gone()

	assert.Contains(t, n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=13", "NODE=c1", "DEADLINE_MS=500"), "0 MESSAGE=left to reconcile")

	resume()
	for _, job := range []string{"12", "13"} {
		assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID="+job, "NODE=c1"))
	}
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12) || n.marked(13))
}

// Two jobs that start at once with one name: one has it, the other's step says why
// it has not, and the end of the loser harms nothing.
func TestTwoProgramsAndOneName(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	n.squeue(`printf '41|RUNNING|root|c1\n42|RUNNING|root|c1\n'`)
	a := n.start(n.fields("JOB_ID=41", "K8S_REGISTER=name=x,port=8888,ready=none"))
	b := n.start(n.fields("JOB_ID=42", "K8S_REGISTER=name=x,port=8888,ready=none"))
	first, second := a.reply(), b.reply()
	winner, loser := a, b
	if first[0] != "CODE=0" {
		first, second, winner, loser = second, first, b, a
	}
	require.Equal(t, "CODE=0", first[0])
	require.Equal(t, "CODE=2", second[0])
	assert.Regexp(t, `MESSAGE=service \S+/x belongs to job 4[12], which is running: choose another name or wait until it ends`, second[1])
	loser.gone()
	assert.Len(t, w.names(), 3)
	assert.Equal(t, []string{"CODE=0"}, winner.end())
	assert.Empty(t, w.names())
	log, err := os.ReadFile(n.dir + "/log")
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(log), "refused or failed"))
}
