package nodes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/mirror"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// mirroring is a host on which slurmk8s compares its node, with the kubelet's credential.
type mirroring struct {
	*host
	slurmctld *slurmtest.Nodes
}

func (w *world) newMirroring(more ...string) *mirroring {
	w.t.Helper()
	h := w.newHost(append([]string{`mirror = "both"`}, more...)...)
	m := &mirroring{h, slurmtest.NewNodes(w.t, h.dir)}
	m.slurmctld.Set(h.node, "IDLE", "")
	m.condition("Ready", "True", time.Hour)
	return m
}

// condition is what the kubelet says, and for how long it has.
func (m *mirroring) condition(name, status string, age time.Duration) {
	m.t.Helper()
	_, err := m.admin.Resource(node.Nodes).Patch(m.t.Context(), m.node, types.StrategicMergePatchType, fmt.Appendf(nil,
		`{"status":{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":%q}]}}`, name, status, time.Now().Add(-age).UTC().Format(time.RFC3339)),
		metav1.PatchOptions{}, "status")
	require.NoError(m.t, err)
}

func (m *mirroring) reconcile(more ...string) string {
	m.t.Helper()
	return m.run(append([]string{"reconcile", "--config", m.config, "--node", m.node}, more...)...)
}

// inSlurm is "STATE REASON".
func (m *mirroring) inSlurm() string {
	state, reason := m.slurmctld.Get(m.node)
	return strings.TrimSpace(state + " " + reason)
}

func TestEachSideOfANodeLearnsFromTheOther(t *testing.T) {
	w := newWorld(t)
	each := func(name string, test func(t *testing.T, m *mirroring)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			test(t, w.newMirroring())
		})
	}
	said := func(m *mirroring, what string) string { return "0 node " + m.node + ": " + what + ": done" }
	const drained = "IDLE+DRAIN slurmk8s: %s in Kubernetes"

	for name, state := range map[string]string{
		"drained": "IDLE+DRAIN", "draining": "MIXED+DRAIN", "failing": "IDLE+FAIL", "down": "DOWN", "in maintenance": "IDLE+MAINTENANCE+RESERVED",
	} {
		each("in Slurm it is "+name, func(t *testing.T, m *mirroring) {
			before := m.state(m.node)
			m.slurmctld.Set(m.node, state, "bad DIMM")
			assert.Equal(t, "0 "+closeLine(m, name)+": would be done", m.reconcile("--dry-run"))
			assert.Equal(t, before, m.state(m.node), "by a dry run")
			assert.Equal(t, "0 "+closeLine(m, name)+": done", m.reconcile())
			assert.True(t, m.cordoned(m.node))
			assert.Equal(t, "0 ", m.reconcile())
			assert.Equal(t, state+" bad DIMM", m.inSlurm(), "our cordon is no reason to drain")
			m.slurmctld.Set(m.node, "IDLE", "")
			assert.Equal(t, said(m, "open in Kubernetes (resumed in Slurm)"), m.reconcile())
			assert.Equal(t, before, m.state(m.node))
		})
	}
	for name, tt := range map[string]struct{ begin, end func(*mirroring) }{
		"cordoned": {func(m *mirroring) { m.cordon(m.node) }, func(m *mirroring) { m.uncordon(m.node) }},
		"NotReady": {func(m *mirroring) { m.condition("Ready", "Unknown", time.Hour) }, func(m *mirroring) { m.condition("Ready", "True", time.Hour) }},
		"DiskPressure": {func(m *mirroring) { m.condition("DiskPressure", "True", time.Hour) },
			func(m *mirroring) { m.condition("DiskPressure", "False", time.Hour) }},
		"ToBeDeletedByClusterAutoscaler": {
			func(m *mirroring) {
				m.patchNode(m.node, `{"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]}}`)
			},
			func(m *mirroring) { m.patchNode(m.node, `{"spec":{"taints":null}}`) }},
	} {
		each("in Kubernetes it is "+name, func(t *testing.T, m *mirroring) {
			tt.begin(m)
			before := m.state(m.node)
			assert.Equal(t, said(m, "drain in Slurm ("+name+" in Kubernetes)"), m.reconcile())
			assert.Equal(t, fmt.Sprintf(drained, name), m.inSlurm())
			assert.Equal(t, "0 ", m.reconcile())
			assert.Equal(t, before, m.state(m.node), "our drain is no reason to cordon")
			tt.end(m)
			assert.Equal(t, said(m, "undrain in Slurm (open in Kubernetes)"), m.reconcile())
			assert.Equal(t, "IDLE", m.inSlurm())
		})
	}
	each("a kubelet that comes and goes", func(t *testing.T, m *mirroring) {
		for range 3 {
			m.condition("Ready", "Unknown", time.Second)
			assert.Equal(t, "0 ", m.reconcile())
			m.condition("Ready", "True", time.Second)
			assert.Equal(t, "0 ", m.reconcile())
		}
		m.condition("Ready", "Unknown", time.Hour)
		m.reconcile()
		for range 3 {
			m.condition("Ready", "True", time.Second)
			assert.Equal(t, "0 ", m.reconcile())
			m.condition("Ready", "Unknown", time.Second)
			assert.Equal(t, "0 ", m.reconcile())
		}
		assert.Equal(t, fmt.Sprintf(drained, "NotReady"), m.inSlurm())
	})
	each("a person's reason", func(t *testing.T, m *mirroring) {
		m.cordon(m.node)
		m.reconcile()
		m.slurmctld.Set(m.node, "IDLE+DRAIN", "slurmk8s: cordoned in Kubernetes, and I want it so")
		m.uncordon(m.node)
		assert.Contains(t, m.reconcile(), "close in Kubernetes (drained: slurmk8s: cordoned in Kubernetes, and I want it so in Slurm): done")
		assert.Equal(t, "IDLE+DRAIN slurmk8s: cordoned in Kubernetes, and I want it so", m.inSlurm())
	})
	each("Slurm drains while a job has the node", func(t *testing.T, m *mirroring) {
		before := m.state(m.node)
		m.slurm("squeue", "echo '12|RUNNING|alice|"+m.node+"'")
		assert.Regexp(t, "^0", m.prolog(12))
		m.slurmctld.Set(m.node, "ALLOCATED+DRAIN", "bad DIMM")
		assert.Contains(t, m.reconcile(), "close in Kubernetes (draining: bad DIMM in Slurm): done")
		assert.Equal(t, "alps/12/0=reclaim,alps=drain", m.holders(m.node))
		assert.Equal(t, "0 ", m.epilog(12))
		assert.True(t, m.cordoned(m.node), "the job's end opened it")
		m.slurmctld.Set(m.node, "IDLE+DRAIN", "bad DIMM")
		m.reconcile()
		assert.Equal(t, "alps: drained: bad DIMM", m.get(m.node).GetAnnotations()[node.AnnotationDrained])
		m.slurmctld.Set(m.node, "IDLE", "")
		m.reconcile()
		assert.Equal(t, before, m.state(m.node))
	})
	each("others have drained themselves already", func(t *testing.T, m *mirroring) {
		for i := range 3 {
			m.slurmctld.Set(fmt.Sprintf("other%d", i), "IDLE+DRAIN", "slurmk8s: cordoned in Kubernetes")
		}
		m.cordon(m.node)
		assert.Contains(t, m.reconcile(), "1 slurmk8s: mirror: held back: node "+m.node+" would be drained in Slurm: with it that is 4 of Slurm's 4 nodes, and 1 at most")
		assert.Equal(t, "IDLE", m.inSlurm())
		assert.Equal(t, said(m, "drain in Slurm (cordoned in Kubernetes)"), m.reconcile("--force"))
		assert.Equal(t, fmt.Sprintf(drained, "cordoned"), m.inSlurm())
	})
	each("one side does not answer", func(t *testing.T, m *mirroring) {
		m.cordon(m.node)
		m.slurmctld.Away(true)
		assert.Contains(t, m.reconcile(), "1 slurmk8s: mirror: no node was touched: scontrol --all show node "+m.node+": ")
		m.slurmctld.Away(false)
		m.reconcile()
		m.uncordon(m.node)
		config, err := os.ReadFile(m.config)
		require.NoError(t, err)
		credential, err := os.ReadFile(m.kubeletCredential(m.node))
		require.NoError(t, err)
		nowhere := m.write("nowhere.conf", 0o600, strings.ReplaceAll(string(credential), m.server.Config().Host, "https://127.0.0.1:1"))
		m.write("nowhere.toml", 0o644, regexp.MustCompile(`(?m)^kubeconfig = .*$`).ReplaceAllString(string(config), fmt.Sprintf("kubeconfig = %q", nowhere)))
		out := m.run("reconcile", "--config", filepath.Join(m.dir, "nowhere.toml"), "--node", m.node, "--limit", "2s")
		assert.Contains(t, out, "mirror: no node was touched: get node "+m.node)
		assert.Equal(t, fmt.Sprintf(drained, "cordoned"), m.inSlurm())
	})
}

// closeLine is what is printed of a node that is in such a state in Slurm.
func closeLine(m *mirroring, state string) string {
	if state != "in maintenance" {
		state += ": bad DIMM"
	} else {
		state = "in a maintenance reservation"
	}
	return "node " + m.node + ": close in Kubernetes (" + state + " in Slurm)"
}

// People, jobs and slurmk8s act in any order. The end is what the last person on each side
// wanted, and nobody's order was undone.
func TestAnAdministratorsCordonAndDrainInAnyOrder(t *testing.T) {
	w := newWorld(t)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, server: w.server, admin: w.admin, namespace: w.namespace}
			m := w.newMirroring()
			random := rand.New(rand.NewPCG(seed, 5))
			job, runs, reasons := 12, false, 0
			cordons, drains := false, ""
			base := func() string {
				if runs {
					return "ALLOCATED"
				}
				return "IDLE"
			}
			inSlurm := func(base string) { // the job begins or ends
				_, reason := m.slurmctld.Get(m.node)
				if state, _ := m.slurmctld.Get(m.node); strings.HasSuffix(state, "+DRAIN") {
					base += "+DRAIN"
				}
				m.slurmctld.Set(m.node, base, reason)
			}
			steps := []func() string{
				func() string { // of two who cordon, Kubernetes does not see the later one
					m.uncordon(m.node)
					m.cordon(m.node)
					cordons = true
					return "cordon"
				},
				func() string { m.uncordon(m.node); cordons = false; return "uncordon" },
				func() string {
					reasons++
					drains = fmt.Sprintf("reason %d", reasons)
					m.slurmctld.Set(m.node, base()+"+DRAIN", drains)
					return "drain"
				},
				func() string { m.slurmctld.Set(m.node, base(), ""); drains = ""; return "resume" },
				func() string {
					if runs {
						require.Equal(t, "0 ", m.epilog(job))
						job++
						m.slurm("squeue", "true")
					} else {
						require.Regexp(t, "^0", m.prolog(job))
						m.slurm("squeue", fmt.Sprintf("echo '%d|RUNNING|alice|%s'", job, m.node))
					}
					runs = !runs
					inSlurm(base())
					return "job"
				},
				func() string { return "reconcile " + m.reconcile() },
			}
			story := []string{}
			for range 14 {
				story = append(story, steps[random.IntN(len(steps))]())
			}
			if runs {
				story = append(story, steps[4]())
			}
			for range 2 {
				story = append(story, m.reconcile())
			}
			require.Equal(t, "0 ", m.reconcile(), "it has not settled: %s", story)
			want := "IDLE"
			switch {
			case drains != "":
				want = "IDLE+DRAIN " + drains
			case cordons:
				want = "IDLE+DRAIN slurmk8s: cordoned in Kubernetes"
			}
			assert.Equal(t, want, m.inSlurm(), "%s", story)
			assert.Equal(t, cordons || drains != "", m.cordoned(m.node), "%s", story)
			assert.Equal(t, cordons, w.driver(m.kubeletCredential(m.node), settings()).Closure(m.get(m.node)).Cordoned, "%s", story)
		})
	}
}

// The shipped role is enough for the controller, and no right of it is for nothing.
func TestTheControllerMirrorsAllNodes(t *testing.T) {
	w := newWorld(t)
	_, objects, err := manifests.With("slurmk8s-node-mirror")
	require.NoError(t, err)
	rules, _, err := unstructured.NestedSlice(objects[0].Object, "rules")
	require.NoError(t, err)
	slurmctld := slurmtest.NewNodes(t, t.TempDir())
	names := []string{}
	for range 4 {
		m := &mirroring{host: &host{world: w, node: w.newNode()}}
		m.condition("Ready", "True", time.Hour)
		names = append(names, m.node)
		slurmctld.Set(m.node, "IDLE", "")
	}
	for _, block := range []string{slurmconf.BlockCordon, slurmconf.BlockTaint} {
		cfg := settings()
		cfg.Mirror, cfg.Block, cfg.MirrorMaxNodes = slurmconf.MirrorBoth, block, "2"
		o := mirror.Options{Nodes: w.driver(w.userWith(rules), cfg), Slurm: slurm.Commands{Dir: slurmctld.Dir}}
		run := func() int {
			results, err := mirror.Run(t.Context(), o)
			require.NoError(t, err)
			for _, r := range results {
				require.NoError(t, r.Err)
			}
			return len(results)
		}
		eventually.True(t, "the rights are in force", func() bool { _, err := mirror.Run(t.Context(), o); return err == nil })
		before := w.state(names[0])
		slurmctld.Set(names[0], "IDLE+DRAIN", "bad DIMM")
		w.cordon(names[1])
		require.Equal(t, 2, run())
		require.Zero(t, run())
		assert.Equal(t, block == slurmconf.BlockCordon, w.cordoned(names[0]))
		state, reason := slurmctld.Get(names[1])
		assert.Equal(t, "IDLE+DRAIN slurmk8s: cordoned in Kubernetes", state+" "+reason)
		if block == slurmconf.BlockTaint { // which is beside a cordon: a person's shows while ours is there
			w.cordon(names[0])
			slurmctld.Set(names[0], "IDLE", "")
			require.Equal(t, 2, run())
			state, _ := slurmctld.Get(names[0])
			assert.Equal(t, "IDLE+DRAIN", state)
			assert.True(t, w.cordoned(names[0]))
			w.uncordon(names[0])
		}
		slurmctld.Set(names[0], "IDLE", "")
		w.uncordon(names[1])
		run()
		assert.Equal(t, before, w.state(names[0]))

		for _, name := range names[:3] {
			w.cordon(name)
		}
		results, err := mirror.Run(t.Context(), o)
		assert.Empty(t, results)
		require.ErrorContains(t, err, "held back: 3 of the 4 nodes")
		for _, name := range names[:3] {
			w.uncordon(name)
		}
		require.Zero(t, run())
	}
}
