package services

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
)

// controllerOf makes the node's files those of the controller too.
func (n *node) controllerOf(kubeconfig string) {
	n.t.Helper()
	text, err := os.ReadFile(n.config)
	require.NoError(n.t, err)
	n.write("slurmk8s.toml", 0o644, strings.Replace(string(text), "[kubernetes]\n", fmt.Sprintf("[kubernetes]\nkubeconfig = %q\n", kubeconfig), 1))
}

func TestReconcileRemovesTheServicesOfJobsThatAreOver(t *testing.T) {
	w := newWorld(t)
	w.install()
	n := w.newNode(site{kubeconfig: "/nonexistent"})
	admin := w.client(w.server.Kubeconfig())
	for job := uint32(21); job <= 24; job++ {
		r := w.registrar(job)
		r.Kube = admin
		_, err := r.Register(t.Context(), w.specs(fmt.Sprintf("name=s%d,port=1,endpoints=both", job)))
		require.NoError(t, err)
	}
	other := w.registrar(25)
	other.Job.Cluster = "other"
	_, err := other.Register(t.Context(), w.specs("others:1"))
	require.NoError(t, err)
	foreign := w.create(service.Services, plainService("foreign").Object)

	// The controller's shipped rights are enough.
	w.bind("User", "slurm-controller", "slurmk8s-reconcile")
	path, err := w.server.UserKubeconfig("slurm-controller")
	require.NoError(t, err)
	n.controllerOf(path)

	n.squeue("exit 1")
	all := len(w.names())
	assert.Contains(t, n.run("reconcile", "--config", n.config), "nothing was touched, since Slurm's jobs are unknown")
	assert.Len(t, w.names(), all)

	n.squeue(`printf '21|RUNNING|root|c1\n22|PENDING|root|\n23|COMPLETED|root|c1\n26|RUNNING|root|c1\n'`)
	out := n.run("reconcile", "--config", n.config, "--dry-run")
	assert.Regexp(t, `^0 `, out)
	assert.Contains(t, out, fmt.Sprintf("service %s/s24 (job 24 is over): would be removed", w.namespace))
	assert.Len(t, w.names(), all)

	out = n.run("reconcile", "--config", n.config)
	assert.Regexp(t, `^0 `, out)
	assert.Equal(t, 9, strings.Count(out, ": removed\n"), out)
	assert.Equal(t, []string{"leases/slurm-alps-21", "leases/slurm-other-25", "services/foreign", "services/others", "services/s21",
		"endpointslices/others.other.25.c1", "endpointslices/s21.alps.21.c1", "endpoints/s21"}, w.names(),
		"22 was requeued, 23 is over, 24 is forgotten")
	assert.Equal(t, foreign, w.get(service.Services, "foreign"))
	assert.Equal(t, "0 ", n.run("reconcile", "--config", n.config), "again")
}

func TestReconcileOnANodeDoesWhatItsEpilogCouldNot(t *testing.T) {
	w := newWorld(t)
	w.install()
	n := w.newNode(site{kubeconfig: w.credential("c1")})
	for _, job := range []string{"31", "32"} {
		s := n.start(n.fields("JOB_ID="+job, "K8S_REGISTER=name=s"+job+",port=8888,ready=none"))
		assert.Contains(t, s.reply(), "CODE=0")
		require.NoError(t, s.cmd.Process.Kill())
		_ = s.cmd.Wait()
	}
	n.squeue("echo '31|RUNNING|root|c1'")
	run := func() string {
		return n.runWith([]string{"SLURMD_NODENAME=c1"}, "reconcile", "--config", n.config)
	}
	assert.Equal(t, "0 services that were made on node c1 (job 32 is over): removed\n", run())
	assert.Equal(t, []string{"leases/slurm-alps-31", "services/s31", "endpointslices/s31.alps.31.c1"}, w.names())
	assert.True(t, n.marked(31))
	assert.False(t, n.marked(32))
	n.squeue("true")
	assert.Contains(t, run(), "job 31 is over): removed")
	assert.Empty(t, w.names())
	assert.Equal(t, "0 ", run())
}

// The API server is down at the end of a job: the epilog fails no node, and what it
// leaves is found later.
func TestAnOutageAtTheEndOfAJob(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	s.reply()
	w.server.StopAPIServer()
	answer := s.end()
	var epilog string
	func() {
		defer func() { require.NoError(t, w.server.StartAPIServer(t.Context())) }()
		assert.Equal(t, "CODE=3", answer[0])
		epilog = n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1", "DEADLINE_MS=500")
	}()
	assert.Regexp(t, `^0 MESSAGE=left to reconcile: .*connection refused`, epilog)
	assert.True(t, n.marked(12), "for the next time")
	assert.Len(t, w.names(), 3)
	n.squeue("true")
	assert.Contains(t, n.runWith([]string{"SLURMD_NODENAME=c1"}, "reconcile", "--config", n.config), "job 12 is over): removed")
	assert.Empty(t, w.names())
	assert.NoFileExists(t, filepath.Join(n.dir, "run", "job.12"))
}
