package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

var everyPod = metav1.ListOptions{}

func deleted(event watch.Event) bool {
	u, ok := event.Object.(*unstructured.Unstructured)
	return ok && u.GetDeletionTimestamp() != nil
}

// slurmctld makes Slurm's commands answer: squeue the lines, and scontrol that it was
// started so long ago.
func (h *host) slurmctld(up time.Duration, lines string) {
	h.slurm("squeue", "printf '%s' '"+lines+"'")
	h.slurm("scontrol", fmt.Sprintf("echo 'BOOT_TIME               = %d'; echo 'NEXT_JOB_ID             = 1000'", time.Now().Add(-up).Unix()))
}

const gone = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"

func TestReconcileOnANode(t *testing.T) {
	w := newWorld(t)
	held := func(t *testing.T) (*host, map[string]any) {
		w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
		h := w.newHost()
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12))
		h.slurmctld(time.Hour, "")
		return h, before
	}
	reconcile := func(h *host) string { return h.run("reconcile", "--config", h.config, "--node", h.node) }
	given := func(h *host) string { return "0 hold of node " + h.node + " (job 12 is over): removed" }

	t.Run("a job that runs keeps its node", func(t *testing.T) {
		t.Parallel()
		h, _ := held(t)
		for _, state := range []string{"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED"} {
			h.slurmctld(time.Hour, fmt.Sprintf("12|%s|alice|a0,%s", state, h.node))
			assert.Equal(t, "0 ", reconcile(h), state)
			assert.True(t, h.cordoned(h.node), state)
		}
	})
	t.Run("one that is over does not", func(t *testing.T) {
		t.Parallel()
		h, before := held(t)
		h.slurmctld(time.Hour, "12|COMPLETED|alice|"+h.node)
		assert.Equal(t, given(h), reconcile(h))
		assert.Equal(t, before, h.state(h.node))
		assert.Empty(t, h.files())
		assert.Equal(t, "0 ", reconcile(h))
	})
	t.Run("one that Slurm has forgotten does not", func(t *testing.T) {
		t.Parallel()
		h, before := held(t)
		h.slurm("squeue", gone)
		assert.Equal(t, given(h), reconcile(h))
		assert.Equal(t, before, h.state(h.node))
	})
	t.Run("one that waits in the queue again, or runs elsewhere, does not", func(t *testing.T) {
		t.Parallel()
		for _, line := range []string{"12|PENDING|alice|", "12|REQUEUED|alice|", "12|RUNNING|alice|elsewhere", "12|COMPLETING|alice|elsewhere"} {
			h, before := held(t)
			h.slurmctld(time.Hour, line)
			assert.Equal(t, given(h), reconcile(h), line)
			assert.Equal(t, before, h.state(h.node))
		}
	})
	t.Run("after a boot, which empties run_dir", func(t *testing.T) {
		t.Parallel()
		h, before := held(t)
		require.NoError(t, os.RemoveAll(filepath.Join(h.dir, "run")))
		h.slurm("squeue", gone)
		assert.Equal(t, given(h), reconcile(h))
		assert.Equal(t, before, h.state(h.node))
	})
	t.Run("nothing is touched when slurmctld does not answer", func(t *testing.T) {
		t.Parallel()
		h, _ := held(t)
		h.slurm("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
		assert.Contains(t, reconcile(h), "1 slurmk8s: nothing was touched, since Slurm's jobs are unknown: squeue ")
		assert.True(t, h.cordoned(h.node))
	})
	t.Run("nor when the job took the node a moment ago", func(t *testing.T) {
		t.Parallel()
		h, _ := held(t)
		text, err := os.ReadFile(h.config)
		require.NoError(t, err)
		h.write("slurmk8s.toml", 0o644, strings.Replace(string(text), `min_age = "0s"`, `min_age = "1m"`, 1))
		h.slurm("squeue", gone)
		assert.Equal(t, "0 ", reconcile(h))
		assert.True(t, h.cordoned(h.node))
		file := filepath.Join(h.dir, "run", "nodes", "holder.12")
		require.NoError(t, os.Rename(file, file+".away")) // after a boot the Node object tells when
		assert.Equal(t, "0 ", reconcile(h))
		assert.True(t, h.cordoned(h.node))
		require.NoError(t, os.Rename(file+".away", file))
		then := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(file, then, then))
		assert.Equal(t, given(h), reconcile(h))
	})
	t.Run("nor on one answer of two", func(t *testing.T) {
		t.Parallel()
		h, _ := held(t)
		h.slurm("squeue", fmt.Sprintf("if mkdir %s/once 2>/dev/null; then true; else echo '12|RUNNING|alice|%s'; fi", h.dir, h.node))
		assert.Equal(t, "0 ", reconcile(h))
		assert.True(t, h.cordoned(h.node))
	})
	t.Run("a dry run changes nothing", func(t *testing.T) {
		t.Parallel()
		h, _ := held(t)
		h.slurm("squeue", gone)
		assert.Equal(t, "0 hold of node "+h.node+" (job 12 is over): would be removed", h.run("reconcile", "--config", h.config, "--node", h.node, "--dry-run"))
		assert.True(t, h.cordoned(h.node))
	})
	t.Run("a mark that no epilog removed", func(t *testing.T) {
		t.Parallel()
		h, before := held(t)
		require.Equal(t, "0 ", h.epilog(12))
		require.NoError(t, os.WriteFile(filepath.Join(h.dir, "run", "refuse.12"), []byte("x\n"), 0o644))
		h.slurm("squeue", gone)
		assert.Equal(t, given(h), reconcile(h))
		assert.Empty(t, h.files())
		assert.Equal(t, before, h.state(h.node))
	})
	t.Run("a prolog that was killed before it changed anything", func(t *testing.T) {
		t.Parallel()
		h, before := held(t)
		require.Equal(t, "0 ", h.epilog(12))
		require.NoError(t, os.WriteFile(filepath.Join(h.dir, "run", "nodes", "holder.12"), []byte("alps/12/0=reclaim "+h.node+"\n"), 0o644))
		h.slurm("squeue", gone)
		assert.Equal(t, given(h), reconcile(h))
		assert.Empty(t, h.files())
		assert.Equal(t, before, h.state(h.node))
	})
}

func TestReconcileOnTheController(t *testing.T) {
	w := newWorld(t)
	j := w.newJob(3)
	before := map[string]any{}
	for _, name := range j.nodes {
		before[name] = w.state(name)
	}
	require.Equal(t, "0 ", j.script("prolog-slurmctld"))
	// Another cluster's nodes are none of our business.
	w.patchNode(j.nodes[2], `{"metadata":{"annotations":{"slurmk8s.io/holders":"other/12/0=reclaim"}}}`)
	foreign := w.get(j.nodes[2])

	j.slurmctld(time.Hour, "12|RUNNING|alice|"+j.nodes[0]+","+j.nodes[1])
	assert.Equal(t, "0 ", j.run("reconcile", "--config", j.config))
	// Its second node is done with it.
	j.slurmctld(time.Hour, "12|COMPLETING|alice|"+j.nodes[0]+"\n13|RUNNING|alice|"+j.nodes[1])
	assert.Equal(t, "0 hold of node "+j.nodes[1]+" (job 12 is over): removed", j.run("reconcile", "--config", j.config))
	assert.True(t, w.cordoned(j.nodes[0]))
	assert.Equal(t, before[j.nodes[1]], w.state(j.nodes[1]))
	j.slurmctld(time.Hour, "")
	assert.Equal(t, "0 hold of node "+j.nodes[0]+" (job 12 is over): removed", j.run("reconcile", "--config", j.config))
	assert.Equal(t, before[j.nodes[0]], w.state(j.nodes[0]))
	assert.Equal(t, foreign, w.get(j.nodes[2]))
}
