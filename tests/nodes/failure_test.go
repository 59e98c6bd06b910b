package nodes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/apiserver"
)

// refusal is the text with which the job's tasks fail on the host.
func (h *host) refusal(job int) string {
	h.t.Helper()
	data, _ := os.ReadFile(filepath.Join(h.dir, "run", fmt.Sprint("refuse.", job)))
	return string(data)
}

// runOnce makes squeue answer for one job that is in its first run.
func (h *host) runOnce(job int) {
	h.slurm("squeue", fmt.Sprintf(`case "$*" in *RestartCnt*) echo "%d 0";; *) echo "%d|%d|%s";; esac`, job, job, job, h.node))
}

func TestAnAPIServerThatIsAway(t *testing.T) {
	s := apiserver.ForTest(t, apiserver.Options{})
	tests := []struct {
		name    string
		disturb func(t *testing.T)
		heal    func(t *testing.T)
		reason  string
	}{
		{"stopped", func(*testing.T) { s.StopAPIServer() }, func(t *testing.T) { require.NoError(t, s.StartAPIServer(t.Context())) }, "connection refused"},
		{"hanging", func(t *testing.T) { require.NoError(t, s.PauseAPIServer()) }, func(t *testing.T) { require.NoError(t, s.ResumeAPIServer()) }, "no answer in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorldOn(t, s)
			hosts := map[string]*host{}
			for _, policy := range []string{"requeue", "proceed", "fail"} {
				hosts[policy] = w.newHost(fmt.Sprintf("on_error = %q", policy), `api_timeout = "4s"`)
				hosts[policy].runOnce(12)
			}
			holding := w.newHost()
			before := w.state(holding.node)
			require.Equal(t, "0 ", holding.prolog(7))
			tt.disturb(t)
			healed := false
			heal := func() {
				if !healed {
					healed = true
					tt.heal(t)
				}
			}
			defer heal()

			h := hosts["requeue"]
			out := h.prolog(12)
			assert.Contains(t, out, "3 MESSAGE=get node "+h.node+": ")
			assert.Contains(t, out, tt.reason)
			asked := h.asked()
			require.Greater(t, len(asked), 1)
			assert.Contains(t, asked[1], "scontrol update JobId=12 AdminComment=slurmk8s: node "+h.node+" could not be reclaimed from Kubernetes: get node")
			assert.Equal(t, "scontrol requeue 12", asked[len(asked)-1])
			assert.Contains(t, h.refusal(12), "node "+h.node+" could not be reclaimed from Kubernetes: get node "+h.node)

			h = hosts["proceed"]
			assert.Contains(t, h.prolog(12), "0 MESSAGE=starting the job anyway: get node ")
			assert.Empty(t, h.asked())
			assert.Empty(t, h.refusal(12))

			h = hosts["fail"]
			assert.Contains(t, h.prolog(12), "3 MESSAGE=get node ")
			assert.NotEmpty(t, h.refusal(12))
			asked = h.asked()
			require.Len(t, asked, 2, "its first node: its task says so")
			assert.Contains(t, asked[0], "squeue ")
			assert.Contains(t, asked[1], "scontrol update")

			// The epilogs of all of them: none fails, nor waits for Kubernetes to answer.
			for _, policy := range []string{"requeue", "proceed", "fail"} {
				assert.Contains(t, hosts[policy].epilog(12, "DEADLINE_MS=1500"), "0 MESSAGE=left to reconcile: ")
				assert.Empty(t, hosts[policy].refusal(12))
			}
			assert.Contains(t, holding.epilog(7, "DEADLINE_MS=1500"), "0 MESSAGE=left to reconcile: ")
			heal()
			for _, policy := range []string{"requeue", "proceed", "fail"} {
				assert.Equal(t, "0 ", hosts[policy].epilog(12))
				assert.Empty(t, hosts[policy].files())
			}
			assert.Equal(t, "0 ", holding.epilog(7))
			assert.Equal(t, before, w.state(holding.node))
		})
	}
}

func TestAnAPIServerThatGoesAwayAndComesBack(t *testing.T) {
	s := apiserver.ForTest(t, apiserver.Options{})
	w := newWorldOn(t, s)
	h := w.newHost(`api_timeout = "20s"`, `evict_timeout = "60s"`)
	before := w.state(h.node)
	w.newPod(h.node, "held", labelled("app", "held"))
	w.budget("held", "held", 1)
	done := make(chan string)
	go func() { done <- h.prolog(12) }()
	for !w.cordoned(h.node) {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	s.StopAPIServer()
	time.Sleep(time.Second)
	require.NoError(t, s.StartAPIServer(t.Context()))
	w.kubelet(h.node, 0)
	w.setPhase("held", "Succeeded") // and it need not leave any more
	assert.Equal(t, "0 ", <-done)
	assert.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, before, w.state(h.node))
}

func TestRefusalsOfTheUsersWords(t *testing.T) {
	w := newWorld(t)
	h := w.newHost(`reclaim = "request"`, `max_evict_timeout = "60s"`)
	for _, tt := range []struct{ field, want string }{
		{"K8S_NODES=both", "--k8s-nodes=both: must be one of reclaim, keep, lend"},
		{"K8S_EVICT_GRACE=0", "--k8s-evict-grace=0: this cluster allows 1 to 300 seconds"},
		{"K8S_EVICT_TIMEOUT=61", "--k8s-evict-timeout=61: this cluster allows 0 to 60 seconds"},
		{"K8S_EVICT_TIMEOUT=5:delete", "--k8s-evict-timeout=5:delete: jobs may not ask for delete on this cluster (nodes.job_policies)"},
	} {
		before := w.get(h.node)
		assert.Equal(t, "2 MESSAGE="+tt.want, h.prolog(12, tt.field))
		assert.Contains(t, h.refusal(12), tt.want)
		assert.Equal(t, "2 MESSAGE="+tt.want, h.run("hook", "k8s_check", "CONFIG="+h.config, tt.field), "at the prompt")
		assert.Equal(t, before, w.get(h.node))
		assert.Equal(t, "0 ", h.epilog(12))
		assert.Empty(t, h.files())
	}
}

// A job on several nodes: its task on the first one never learns of the second.
func TestAJobThatFailsOnAnotherThanItsFirstNodeIsCancelled(t *testing.T) {
	w := newWorld(t)
	h := w.newHost(`on_error = "fail"`)
	h.runOnce(12)
	w.newPod(h.node, "bare", unmanaged)
	before := w.state(h.node)
	assert.Contains(t, h.prolog(12, "NODELIST=a0,"+h.node), "3 MESSAGE=pod ")
	asked := h.asked()
	require.NotEmpty(t, asked)
	assert.Equal(t, "scancel 12", asked[len(asked)-1])
	assert.Equal(t, before, w.state(h.node), "undone at once")
	assert.Equal(t, []string{"refuse.12"}, h.files())
}

// A node whose pod nobody may evict is idle for Slurm, which would choose it for the job again.
func TestARequeuedJobIsKeptFromANodeThatStaysOccupied(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		pod    podOption
		config string
	}{
		"a pod without an owner":        {unmanaged, `unmanaged = "fail"`},
		"a pod that its owner forgot":   {uncontrolled, `unmanaged = "fail"`},
		"files of a pod":                {withEmptyDir, `emptydir = "fail"`},
		"a pod that may return at once": {toleratingAll, `tolerating = "fail"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			h := w.newHost(tt.config)
			h.slurm("squeue", `case "$*" in *RestartCnt*) echo "12 0";; *%x*) echo "12||other";; *) echo "12|12|`+h.node+`";; esac`)
			w.newPod(h.node, h.node, tt.pod)
			before := w.state(h.node)
			require.Contains(t, h.prolog(12), "3 MESSAGE=pod "+w.namespace+"/"+h.node)
			asked := h.asked()
			require.NotEmpty(t, asked)
			assert.Equal(t, "scontrol update JobId=12 ExcNodeList=other,"+h.node, asked[len(asked)-1])
			assert.Contains(t, asked, "scontrol requeue 12")
			assert.Equal(t, before, w.state(h.node), "undone at once")
			assert.Equal(t, []string{h.node}, w.pods(h.node))
		})
	}
}

// Another node had the job requeued, and it runs again elsewhere.
func TestALaterRunIsNotRequeued(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	h.slurm("squeue", `case "$*" in *RestartCnt*) echo "12 1";; *) echo "12|12|other";; esac`)
	w.newPod(h.node, "bare", unmanaged)
	assert.Contains(t, h.prolog(12), "3 MESSAGE=pod ")
	for _, asked := range h.asked() {
		assert.NotContains(t, asked, "scontrol requeue")
	}
}

// Killed at any instant of its life, a prolog leaves nothing that the epilog, or the
// same prolog again, does not put right.
func TestKilledAtAnyInstant(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	w.kubelet(h.node, 5*time.Millisecond)
	before := w.state(h.node)
	for i := range 30 {
		delay := time.Duration(i) * 4 * time.Millisecond
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			w.newPod(h.node, fmt.Sprint("p", i))
			for _, hook := range []string{"k8s_job_prolog", "k8s_job_epilog"} {
				if hook == "k8s_job_epilog" {
					require.Equal(t, "0 ", h.prolog(12))
				}
				cmd := exec.Command(slurmk8s(t), h.fields(hook, 12)...)
				require.NoError(t, cmd.Start())
				time.Sleep(delay)
				require.NoError(t, cmd.Process.Kill())
				_ = cmd.Wait()
				if hook == "k8s_job_prolog" && i%2 == 0 { // once more, then; or its end at once
					require.Equal(t, "0 ", h.prolog(12))
					assert.True(t, w.cordoned(h.node))
				}
				assert.Equal(t, "0 ", h.epilog(12))
				assert.Equal(t, before, w.state(h.node))
				assert.Empty(t, h.files())
			}
		})
	}
}
