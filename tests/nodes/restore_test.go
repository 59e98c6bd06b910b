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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
)

func TestANodeIsEmptiedAndRestoredExactly(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	w.kubelet(h.node, 0)
	before := w.state(h.node)
	w.newPod(h.node, "a")
	w.newPod(h.node, "b", withEmptyDir)

	assert.Equal(t, "0 ", h.prolog(12))
	assert.Empty(t, w.pods(h.node))
	assert.True(t, w.cordoned(h.node))
	assert.Equal(t, "alps/12/0=reclaim", w.holders(h.node))
	assert.Equal(t, []string{"holder.12"}, h.files())

	assert.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, before, w.state(h.node))
	assert.Empty(t, h.files())
	assert.Empty(t, h.asked())
}

func TestTheSameNodeFiftyTimesInARow(t *testing.T) {
	w := newWorld(t)
	name := w.newNode()
	w.kubelet(name, 0)
	before := w.state(name)
	b := w.driver(w.kubeletCredential(name), settings())
	local := node.ClaimFilesIn(t.TempDir())
	for i := range uint32(50) {
		w.newPod(name, fmt.Sprint("p", i))
		_, err := b.Take(t.Context(), local, name, node.Claim{Cluster: cluster, JobID: 100 + i, Mode: node.Reclaim}, terms())
		require.NoError(t, err)
		require.Empty(t, w.pods(name))
		require.NoError(t, b.GiveBack(t.Context(), local, 100+i, 0))
		require.Equal(t, before, w.state(name))
	}
}

func TestTwoJobsOnOneNode(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	before := w.state(h.node)
	assert.Equal(t, "0 ", h.prolog(12))
	assert.Equal(t, "0 ", h.prolog(13))
	assert.Equal(t, "alps/12/0=reclaim,alps/13/0=reclaim", w.holders(h.node))
	assert.Equal(t, "0 ", h.epilog(12))
	assert.True(t, w.cordoned(h.node), "job 13 still has it")
	assert.Equal(t, "alps/13/0=reclaim", w.holders(h.node))
	assert.Equal(t, "0 ", h.epilog(13))
	assert.Equal(t, before, w.state(h.node))
	assert.Empty(t, h.files())
}

func TestAnAdministratorsCordonStays(t *testing.T) {
	tests := []struct {
		name                  string
		before, during, after func(w *world, name string)
		cordoned              bool
	}{
		{"from before the job", (*world).cordon, nil, nil, true},
		{"from before it, and lifted during it", (*world).cordon, (*world).uncordon, nil, false},
		{"lifted during the job, which had set it", nil, (*world).uncordon, nil, false},
		{"set during the job, which had set it: uncordon, cordon", nil, func(w *world, name string) { w.uncordon(name); w.cordon(name) }, nil, true},
		{"lifted and set again, from before the job", (*world).cordon, func(w *world, name string) { w.uncordon(name); w.cordon(name) }, nil, true},
		{"applied during the job", nil, func(w *world, name string) {
			_, err := w.admin.Resource(node.Nodes).Apply(w.t.Context(), name, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}, "spec": map[string]any{"unschedulable": true},
			}}, metav1.ApplyOptions{FieldManager: "fleet"})
			require.NoError(w.t, err)
		}, nil, true},
		{"from after the job", nil, nil, (*world).cordon, true},
		{"none", nil, nil, nil, false},
	}
	w := newWorld(t)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			h := w.newHost()
			do := func(f func(*world, string)) {
				if f != nil {
					f(w, h.node)
				}
			}
			do(tt.before)
			want := w.state(h.node)
			require.Equal(t, "0 ", h.prolog(20+i))
			assert.True(t, w.cordoned(h.node))
			do(tt.during)
			require.Equal(t, "0 ", h.epilog(20+i))
			do(tt.after)
			assert.Equal(t, tt.cordoned, w.cordoned(h.node))
			if tt.cordoned {
				want["spec"].(map[string]any)["unschedulable"] = true
			} else {
				delete(want["spec"].(map[string]any), "unschedulable")
			}
			assert.Equal(t, want, w.state(h.node))
		})
	}
}

// The second job closes it again, and the administrator's word counts in the end.
func TestANodeThatWasUncordonedDuringAJobIsClosedForTheNext(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	before := w.state(h.node)
	require.Equal(t, "0 ", h.prolog(12))
	w.uncordon(h.node)
	require.Equal(t, "0 ", h.prolog(13))
	assert.True(t, w.cordoned(h.node))
	require.Equal(t, "0 ", h.epilog(13))
	assert.True(t, w.cordoned(h.node))
	require.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, before, w.state(h.node))
}

func TestARequeuedJobsEarlierRunIsForgotten(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	before := w.state(h.node)
	require.Equal(t, "0 ", h.prolog(12))
	require.Equal(t, "0 ", h.prolog(12, "RESTART_COUNT=1"))
	assert.Equal(t, "alps/12/1=reclaim", w.holders(h.node))
	require.Equal(t, "0 ", h.epilog(12), "late, of the first run")
	assert.Equal(t, "alps/12/1=reclaim", w.holders(h.node))
	require.Equal(t, "0 ", h.epilog(12, "RESTART_COUNT=1"))
	assert.Equal(t, before, w.state(h.node))
}

func TestAnEpilogWithoutAProlog(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	w.cordon(h.node)
	before := w.get(h.node)
	assert.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, before, w.get(h.node), "not even written")
}

func TestAnnotationsOfOthersStay(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	w.patchNode(h.node, `{"metadata":{"annotations":{"slurmk8s.io/holders":"other/7/0=reclaim,of the future"}}}`)
	require.Equal(t, "0 ", h.prolog(12))
	assert.Equal(t, "alps/12/0=reclaim,of the future,other/7/0=reclaim", w.holders(h.node))
	require.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, "of the future,other/7/0=reclaim", w.holders(h.node))
	assert.True(t, w.cordoned(h.node), "the other cluster's job holds it")
}

func TestANodeThatKubernetesDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	t.Run("by its name", func(t *testing.T) {
		h := w.newHost()
		require.NoError(t, w.admin.Resource(node.Nodes).Delete(t.Context(), h.node, metav1.DeleteOptions{}))
		assert.Equal(t, "0 ", h.prolog(12))
		assert.Empty(t, h.files())
		assert.Equal(t, "0 ", h.epilog(12))
	})
	t.Run("without the kubelet's credential", func(t *testing.T) {
		h := w.newHost(`kubeconfig = "/etc/kubernetes/kubelet.conf"`)
		assert.Equal(t, "0 ", h.prolog(12))
		assert.Empty(t, h.asked())
	})
	t.Run("with a kubelet whose credential is in an unknown place", func(t *testing.T) {
		program := filepath.Join(t.TempDir(), "k3s-agent")
		sleep, err := os.ReadFile("/bin/sleep")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(program, sleep, 0o755))
		agent := exec.Command(program, "600")
		require.NoError(t, agent.Start())
		defer func() { _ = agent.Process.Kill(); _ = agent.Wait() }()
		h := w.newHost(`kubeconfig = "/etc/kubernetes/kubelet.conf"`)
		assert.Regexp(t, `^0 MESSAGE=a kubelet runs on this host \(process \d+ \(.*\)\), but its credential is in none of the usual places`, h.prolog(12))
		assert.Empty(t, h.asked())
	})
	t.Run("gone during the job", func(t *testing.T) {
		h := w.newHost()
		require.Equal(t, "0 ", h.prolog(12))
		require.NoError(t, w.admin.Resource(node.Nodes).Delete(t.Context(), h.node, metav1.DeleteOptions{}))
		assert.Equal(t, "0 ", h.epilog(12))
		assert.Empty(t, h.files())
	})
	t.Run("a credential that was configured and is not there is an error", func(t *testing.T) {
		h := w.newHost(`kubeconfig = "/nonexistent/kubeconfig"`)
		assert.Contains(t, h.prolog(12), "3 MESSAGE=nodes.kubeconfig: stat /nonexistent/kubeconfig")
	})
}

func TestATaintOfOurOwn(t *testing.T) {
	w := newWorld(t)
	for _, block := range []string{"taint", "both"} {
		t.Run(block, func(t *testing.T) {
			h := w.newHost(fmt.Sprintf("block = %q", block), `taint = "example.org/slurm=job"`, fmt.Sprintf("kubeconfig = %q", w.server.Kubeconfig()))
			before := w.state(h.node)
			require.Equal(t, "0 ", h.prolog(12))
			taints, _, _ := unstructured.NestedSlice(w.get(h.node).Object, "spec", "taints")
			assert.Equal(t, []any{
				map[string]any{"key": "site", "value": "hpc", "effect": "PreferNoSchedule"},
				map[string]any{"key": "example.org/slurm", "value": "job", "effect": "NoSchedule"},
			}, taints)
			assert.Equal(t, block == "both", w.cordoned(h.node))
			if block == "taint" { // an administrator's cordon is another thing
				w.cordon(h.node)
				before["spec"].(map[string]any)["unschedulable"] = true
			}
			require.Equal(t, "0 ", h.epilog(12))
			assert.Equal(t, before, w.state(h.node))
		})
	}
	t.Run("an administrator's taint of the same key stays", func(t *testing.T) {
		h := w.newHost(`block = "taint"`, fmt.Sprintf("kubeconfig = %q", w.server.Kubeconfig()))
		w.patchNode(h.node, `{"spec":{"taints":[{"key":"slurmk8s.io/reclaimed","effect":"NoSchedule"}]}}`)
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12))
		require.Equal(t, "0 ", h.epilog(12))
		assert.Equal(t, before, w.state(h.node))
	})
	t.Run("the only taint leaves no empty list", func(t *testing.T) {
		h := w.newHost(`block = "taint"`, fmt.Sprintf("kubeconfig = %q", w.server.Kubeconfig()))
		w.patchNode(h.node, `{"spec":{"taints":null}}`)
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12))
		require.Equal(t, "0 ", h.epilog(12))
		assert.Equal(t, before, w.state(h.node))
	})
}

func TestLend(t *testing.T) {
	w := newWorld(t)
	t.Run("with the kubelet's credential: a label", func(t *testing.T) {
		h := w.newHost()
		w.newPod(h.node, "guest")
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12, "K8S_NODES=lend"))
		assert.Equal(t, "true", w.get(h.node).GetLabels()[node.LabelLent])
		assert.False(t, w.cordoned(h.node))
		assert.Equal(t, []string{"guest"}, w.pods(h.node))
		require.Equal(t, "0 ", h.epilog(12))
		assert.Equal(t, before, w.state(h.node))
	})
	t.Run("with a taint", func(t *testing.T) {
		h := w.newHost(`block = "both"`, fmt.Sprintf("kubeconfig = %q", w.server.Kubeconfig()))
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12, "K8S_NODES=lend"))
		taints, _, _ := unstructured.NestedSlice(w.get(h.node).Object, "spec", "taints")
		assert.Contains(t, taints, map[string]any{"key": "slurmk8s.io/lent", "effect": "NoSchedule"})
		assert.False(t, w.cordoned(h.node))
		require.Equal(t, "0 ", h.epilog(12))
		assert.Equal(t, before, w.state(h.node))
	})
	t.Run("beside a job that reclaims", func(t *testing.T) {
		h := w.newHost()
		before := w.state(h.node)
		require.Equal(t, "0 ", h.prolog(12, "K8S_NODES=lend"))
		require.Equal(t, "0 ", h.prolog(13))
		assert.True(t, w.cordoned(h.node))
		require.Equal(t, "0 ", h.epilog(13))
		assert.False(t, w.cordoned(h.node))
		assert.Equal(t, "true", w.get(h.node).GetLabels()[node.LabelLent])
		require.Equal(t, "0 ", h.epilog(12))
		assert.Equal(t, before, w.state(h.node))
	})
}

func TestKeep(t *testing.T) {
	w := newWorld(t)
	h := w.newHost()
	w.newPod(h.node, "web")
	before := w.get(h.node)
	require.Equal(t, "0 ", h.prolog(12, "K8S_NODES=keep"))
	assert.Equal(t, before, w.get(h.node))
	assert.Equal(t, []string{"web"}, w.pods(h.node))
	assert.Empty(t, h.files())
	log, err := os.ReadFile(h.dir + "/log")
	require.NoError(t, err)
	assert.Empty(t, string(log), "every job's prolog would write there")
}

func TestNamesOfNodes(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name       string
		rule       func(h *host) string // node_name
		slurm      func(h *host) string // what Slurm calls the node
		nothing    bool                 // it is not one of Kubernetes's
		credential string
	}{
		{"the same", func(*host) string { return "same" }, func(h *host) string { return h.node }, false, ""},
		{"a suffix", func(h *host) string { return "suffix:" + h.node[len(h.node)-4:] }, func(h *host) string { return h.node[:len(h.node)-4] }, false, ""},
		{"a map file", func(h *host) string {
			return "map:" + h.write("nodes.map", 0o644, "# Slurm Kubernetes\nc0 x0\nc1\t"+h.node+" # this one\n")
		}, func(*host) string { return "c1" }, false, ""},
		{"a map file without the node", func(h *host) string { return "map:" + h.write("nodes.map", 0o644, "c0 x0\n") },
			func(*host) string { return "c1" }, true, ""},
		{"a label, by a credential that may list nodes", func(*host) string { return "label:example.org/slurm" }, func(h *host) string { return "slurm-" + h.node }, false, "admin"},
		{"a label, by the kubelet's credential", func(*host) string { return "label:example.org/slurm" }, func(h *host) string { return "slurm-" + h.node }, false, ""},
		{"a label that no node has", func(*host) string { return "label:example.org/slurm" }, func(*host) string { return "nobody" }, true, "admin"},
		{"a label that the kubelet's node has not", func(*host) string { return "label:example.org/slurm" }, func(*host) string { return "nobody" }, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			name := w.newNode()
			w.patchNode(name, fmt.Sprintf(`{"metadata":{"labels":{"example.org/slurm":"slurm-%s"}}}`, name))
			before := w.state(name)
			h := &host{world: w, node: name, dir: t.TempDir()}
			cfg := settings()
			cfg.NodeName = tt.rule(h)
			credential := w.kubeletCredential(name)
			if tt.credential == "admin" {
				credential = w.server.Kubeconfig()
			}
			b := w.driver(credential, cfg)
			local := node.ClaimFilesIn(t.TempDir())
			_, err := b.Take(t.Context(), local, tt.slurm(h), node.Claim{Cluster: cluster, JobID: 12, Mode: node.Reclaim}, terms())
			require.NoError(t, err)
			assert.Equal(t, !tt.nothing, w.cordoned(name))
			if !tt.nothing && tt.credential == "admin" { // and the other way round, for reconcile
				held, err := b.Claimed(t.Context())
				require.NoError(t, err)
				for i := range held {
					held[i].Changed = time.Time{}
				}
				assert.Contains(t, held, node.ClaimedNode{Name: name, SlurmName: tt.slurm(h), Claims: []node.Claim{{Cluster: cluster, JobID: 12, Mode: node.Reclaim}}})
			}
			require.NoError(t, b.GiveBack(t.Context(), local, 12, 0))
			assert.Equal(t, before, w.state(name))
		})
	}
}

// Slurm counts its jobs round: what a job of the same number left is its own, and the late
// end of an earlier one leaves the new one's node alone.
func TestANodeOfAJobWhoseNumberCameRoundAgain(t *testing.T) {
	w := newWorld(t)
	h, other := w.newHost(), w.newHost()
	before := w.state(h.node)
	assert.Equal(t, "0 ", h.prolog(12, "RESTART_COUNT=1"))
	// An earlier run's epilog, and the epilog of the number's former job on a node of its own.
	assert.Equal(t, "0 ", h.epilog(12, "RESTART_COUNT=0"))
	assert.Equal(t, "0 ", other.epilog(12))
	assert.Equal(t, cluster+"/12/1=reclaim", w.holders(h.node))
	assert.True(t, w.cordoned(h.node))
	assert.Equal(t, "0 ", h.epilog(12, "RESTART_COUNT=1"))
	assert.Equal(t, before, w.state(h.node))
}
