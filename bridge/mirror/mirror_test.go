package mirror

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// site is both sides, with a node c0, c1, ... for each machine.
type site struct {
	t     *testing.T
	slurm *slurmtest.Nodes
	kube  *kubetest.Store
	o     Options
}

func newSite(t *testing.T, nodes int) *site {
	t.Helper()
	s := &site{t: t, slurm: slurmtest.NewNodes(t, t.TempDir()), kube: kubetest.NewStore(t)}
	logger := logrus.New()
	logger.SetOutput(t.Output())
	client, err := kube.New(kube.Options{Kubeconfig: s.kube.Kubeconfig(), RequestTimeout: time.Second, Log: logrus.NewEntry(logger)})
	require.NoError(t, err)
	cfg := slurmconf.Default().Nodes
	cfg.Mirror, cfg.MirrorMaxNodes, cfg.APITimeout = slurmconf.MirrorBoth, "100%", slurmconf.Duration(time.Second)
	s.o = Options{Nodes: node.New(client, &cfg, "alps", logrus.NewEntry(logger)), Slurm: slurm.Commands{Dir: s.slurm.Dir}, MinAge: time.Minute}
	for i := range nodes {
		name := fmt.Sprintf("c%d", i)
		s.slurm.Set(name, "IDLE", "")
		_, err := client.Objects(node.Nodes, "").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}}},
		}})
		require.NoError(t, err)
	}
	return s
}

// run returns what was done, and what is wrong.
func (s *site) run() ([]string, string) {
	s.t.Helper()
	results, err := Run(s.t.Context(), s.o)
	done := []string{}
	for _, r := range results {
		text := r.Node + " " + r.Action.String()
		if r.Err != nil {
			text += ": " + r.Err.Error()
		}
		done = append(done, text)
	}
	if err != nil {
		return done, err.Error()
	}
	return done, ""
}

func (s *site) node(name string) *unstructured.Unstructured {
	s.t.Helper()
	u, err := s.o.Nodes.Of(s.t.Context(), name)
	require.NoError(s.t, err)
	require.NotNil(s.t, u, name)
	return u
}

// kubectl patches a Node as a person does.
func (s *site) kubectl(name, patch string) {
	s.t.Helper()
	_, err := s.o.Nodes.Kube.Objects(node.Nodes, "").Patch(s.t.Context(), name, []byte(patch))
	require.NoError(s.t, err)
}

func (s *site) cordon(name string) { s.kubectl(name, `{"spec":{"unschedulable":true}}`) }

func (s *site) closed(name string) bool {
	closed, _, _ := unstructured.NestedBool(s.node(name).Object, "spec", "unschedulable")
	return closed
}

func TestARoundTripOnEachSide(t *testing.T) {
	s := newSite(t, 3)
	s.slurm.Set("c0", "MIXED+DRAIN", "bad DIMM")
	s.cordon("c1")
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0 close in Kubernetes (draining: bad DIMM in Slurm)", "c1 drain in Slurm (cordoned in Kubernetes)"}, done)
	assert.True(t, s.closed("c0"))
	assert.Equal(t, "alps: draining: bad DIMM", s.node("c0").GetAnnotations()[node.AnnotationDrained])
	assert.Equal(t, "alps=drain", s.node("c0").GetAnnotations()[node.AnnotationHolders])
	state, reason := s.slurm.Get("c1")
	assert.Equal(t, "IDLE+DRAIN slurmk8s: cordoned in Kubernetes", state+" "+reason)
	assert.Equal(t, 1, s.kube.Count("POST", "/events"), "an Event tells that the node was closed")

	done, wrong = s.run()
	assert.Empty(t, done, "what was done is a reason for nothing")
	assert.Empty(t, wrong)

	s.slurm.Set("c0", "IDLE", "")
	s.kubectl("c1", `{"spec":{"unschedulable":null}}`)
	done, wrong = s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0 open in Kubernetes (resumed in Slurm)", "c1 undrain in Slurm (open in Kubernetes)"}, done)
	assert.False(t, s.closed("c0"))
	assert.Empty(t, s.node("c0").GetAnnotations())
	assert.Empty(t, s.node("c0").GetLabels())
	state, reason = s.slurm.Get("c1")
	assert.Equal(t, "IDLE ", state+" "+reason)
}

// Whoever takes a node from Kubernetes cordons it first.
func TestANodeThatKubernetesNoLongerHasStaysDrainedUntilAllIsTakenBack(t *testing.T) {
	s := newSite(t, 3)
	s.cordon("c0")
	s.cordon("c1")
	_, wrong := s.run()
	require.Empty(t, wrong)
	s.slurm.Set("c1", "IDLE+DRAIN", "bad DIMM")
	for _, name := range []string{"c0", "c1"} {
		require.NoError(t, s.o.Nodes.Kube.Objects(node.Nodes, "").Delete(t.Context(), name, metav1.Preconditions{}))
	}
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Empty(t, done, "the machine may be about to go")
	s.o.Undo = true
	done, wrong = s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0 undrain in Slurm (no longer in Kubernetes)"}, done, "the other drain is a person's")
	state, reason := s.slurm.Get("c0")
	assert.Equal(t, "IDLE ", state+" "+reason)
}

func TestARunIsOneQuestionToEachSideAndOneRequestForEachChange(t *testing.T) {
	s := newSite(t, 20)
	s.o.Nodes.Cfg.Mirror = slurmconf.MirrorBoth
	before := len(s.kube.Requests())
	s.slurm.Asked()
	_, wrong := s.run()
	require.Empty(t, wrong)
	assert.Equal(t, []string{"--all show node"}, s.slurm.Asked())
	assert.Len(t, s.kube.Requests(), before+1)

	for i := range 5 {
		s.slurm.Set(fmt.Sprintf("c%d", i), "IDLE+DRAIN", "bad DIMM")
		s.cordon(fmt.Sprintf("c%d", 10+i))
	}
	before = len(s.kube.Requests())
	done, wrong := s.run()
	require.Empty(t, wrong)
	assert.Len(t, done, 10)
	const five = "c10,c11,c12,c13,c14"
	assert.Equal(t, []string{"--all show node", "--all show node " + five, "update NodeName=" + five + " State=DRAIN Reason=slurmk8s: cordoned in Kubernetes"}, s.slurm.Asked())
	assert.Len(t, s.kube.Requests(), before+1+2*5, "a list, and for each node a patch and an Event")
}

func TestAnErrorIsNoAnswer(t *testing.T) {
	s := newSite(t, 2)
	s.slurm.Set("c0", "IDLE+DRAIN", "slurmk8s: cordoned in Kubernetes") // and open in Kubernetes
	s.slurm.Set("c1", "IDLE+DRAIN", "bad DIMM")

	t.Run("slurmctld is away", func(t *testing.T) {
		s.slurm.Away(true)
		done, wrong := s.run()
		assert.Empty(t, done)
		assert.Contains(t, wrong, "mirror: no node was touched: scontrol --all show node: slurm_load_node error: Unable to contact slurm controller")
		s.slurm.Away(false)
	})
	t.Run("the API server is away", func(t *testing.T) {
		s.kube.Before = func(w http.ResponseWriter, _ *http.Request) bool {
			kubetest.Status(w, http.StatusForbidden, "Forbidden", "no")
			return true
		}
		done, wrong := s.run()
		assert.Empty(t, done)
		assert.Contains(t, wrong, "mirror: no node was touched: list nodes: ")
		s.kube.Before = nil
	})
	t.Run("slurmctld has only begun: what closes is done, what opens is not", func(t *testing.T) {
		s.slurm.Started(time.Now())
		done, wrong := s.run()
		assert.Empty(t, wrong)
		assert.Equal(t, []string{"c1 close in Kubernetes (drained: bad DIMM in Slurm)"}, done)
		s.slurm.Started(time.Now().Add(-time.Hour))
	})
	t.Run("a Node that is gone", func(t *testing.T) {
		s.slurm.Set("c9", "IDLE+DRAIN", "slurmk8s: NotReady in Kubernetes")
		done, _ := s.run()
		assert.Equal(t, []string{"c0 undrain in Slurm (open in Kubernetes)"}, done)
	})
	t.Run("one node of Kubernetes that does not take a change costs the others nothing", func(t *testing.T) {
		s.slurm.Set("c0", "IDLE+FAIL", "")
		s.slurm.Set("c1", "IDLE", "")
		s.kube.Before = func(w http.ResponseWriter, r *http.Request) bool {
			if refused := r.Method == "PATCH" && strings.HasSuffix(r.URL.Path, "/c0"); refused {
				kubetest.Status(w, http.StatusForbidden, "Forbidden", "not this one")
				return true
			}
			return false
		}
		done, wrong := s.run()
		assert.Empty(t, wrong)
		assert.Equal(t, []string{"c0 close in Kubernetes (failing in Slurm): patch node c0: not this one (HTTP 403)", "c1 open in Kubernetes (resumed in Slurm)"}, done)
	})
}

func TestTheBrake(t *testing.T) {
	s := newSite(t, 10)
	s.o.Nodes.Cfg.MirrorMaxNodes = "20%"
	for i := range 3 {
		s.cordon(fmt.Sprintf("c%d", i))
	}
	s.slurm.Set("c5", "IDLE+DRAIN", "slurmk8s: cordoned in Kubernetes")
	s.slurm.Set("c6", "DOWN", "Not responding")
	done, wrong := s.run()
	assert.Equal(t, `mirror: held back: 3 of the 10 nodes that Slurm and Kubernetes share would be drained in Slurm, and one run does that to 2 at most `+
		`(nodes.mirror_max_nodes = "20%"); "slurmk8s reconcile --force" does it now`, wrong)
	assert.Equal(t, []string{"c5 undrain in Slurm (open in Kubernetes)", "c6 close in Kubernetes (down: Not responding in Slurm)"}, done, "the other side, and what opens, goes on")

	s.o.Force = true
	done, wrong = s.run()
	assert.Empty(t, wrong)
	assert.Len(t, done, 3)
}

// What makes each node drain itself, such as an error in a name, must not drain the cluster.
func TestTheBrakeOfNodesThatMirrorThemselves(t *testing.T) {
	s := newSite(t, 10)
	s.o.Nodes.Cfg.MirrorMaxNodes = "20%"
	for i := range 10 {
		s.cordon(fmt.Sprintf("c%d", i))
	}
	drained := func() (names []string) {
		for i := range 10 {
			if state, _ := s.slurm.Get(fmt.Sprintf("c%d", i)); state == "IDLE+DRAIN" {
				names = append(names, fmt.Sprintf("c%d", i))
			}
		}
		return names
	}
	for i := range 10 {
		s.o.Node = fmt.Sprintf("c%d", i)
		done, wrong := s.run()
		if i < 2 {
			assert.Empty(t, wrong)
			continue
		}
		assert.Empty(t, done)
		assert.Equal(t, `mirror: held back: node `+s.o.Node+` would be drained in Slurm: with it that is 3 of Slurm's 10 nodes, and 2 at most do so by themselves `+
			`(nodes.mirror_max_nodes = "20%"); "slurmk8s reconcile --force" on the node does it now`, wrong)
	}
	assert.Equal(t, []string{"c0", "c1"}, drained())

	s.o.Force = true
	_, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0", "c1", "c9"}, drained())
	s.o.Force = false

	s.kubectl("c9", `{"spec":{"unschedulable":null}}`)
	_, wrong = s.run()
	assert.Empty(t, wrong, "what opens is not held back")
	assert.Equal(t, []string{"c0", "c1"}, drained())

	s.slurm.Set("c1", "IDLE+DRAIN", "bad DIMM") // a person's drain is no sign of an error of slurmk8s
	s.o.Node = "c2"
	_, wrong = s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0", "c1", "c2"}, drained())
}

func TestANodeDoesNotCloseItselfWhileSlurmHasManyNodesClosed(t *testing.T) {
	s := newSite(t, 10)
	s.o.Nodes.Cfg.MirrorMaxNodes = "2"
	for i := range 3 {
		s.slurm.Set(fmt.Sprintf("c%d", i), "DOWN", "Not responding")
	}
	s.o.Node = "c0"
	done, wrong := s.run()
	assert.Empty(t, done)
	assert.Contains(t, wrong, "mirror: held back: node c0 would be closed in Kubernetes: with it that is 3 of Slurm's 10 nodes, and 2 at most")
	assert.False(t, s.closed("c0"))
	s.slurm.Set("c2", "IDLE", "")
	_, wrong = s.run()
	assert.Empty(t, wrong)
	assert.True(t, s.closed("c0"))
}

// Nodes that drain themselves in one moment see each other only afterwards.
func TestNodesThatDrainThemselvesAtOnce(t *testing.T) {
	s := newSite(t, 6)
	s.o.Nodes.Cfg.MirrorMaxNodes = "2"
	s.o.Node = "c0"
	drain := Action{Drain, "cordoned"}
	s.slurm.Set("c1", "IDLE+DRAIN", reasonFor("cordoned"))
	require.NoError(t, s.o.inSlurm(t.Context(), drain, []string{"c0"}))
	state, _ := s.slurm.Get("c0")
	assert.Equal(t, "IDLE+DRAIN", state)

	s.slurm.Set("c0", "IDLE", "")
	s.slurm.Set("c2", "IDLE+DRAIN", reasonFor("cordoned"))
	require.ErrorContains(t, s.o.inSlurm(t.Context(), drain, []string{"c0"}), "with it that is 3 of Slurm's 6 nodes")
	state, _ = s.slurm.Get("c0")
	assert.Equal(t, "IDLE", state, "it was one too many")
}

func TestADryRunChangesNothing(t *testing.T) {
	s := newSite(t, 2)
	s.cordon("c0")
	s.slurm.Set("c1", "IDLE+DRAIN", "bad DIMM")
	s.o.DryRun = true
	before := len(s.kube.Requests())
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0 drain in Slurm (cordoned in Kubernetes)", "c1 close in Kubernetes (drained: bad DIMM in Slurm)"}, done)
	assert.Len(t, s.kube.Requests(), before+1)
	assert.False(t, slices.ContainsFunc(s.slurm.Asked(), func(line string) bool { return strings.HasPrefix(line, "update") }))
}

// What is left of the moment between a look and the change is the time of one command.
func TestAPersonsOrderInBetweenStands(t *testing.T) {
	s := newSite(t, 4)
	s.cordon("c0")
	s.slurm.Set("c1", "IDLE+DRAIN", "slurmk8s: cordoned in Kubernetes")
	changes := []change{}
	for _, name := range []string{"c0", "c1"} {
		states, err := s.o.Slurm.NodeRecords(t.Context(), name)
		require.NoError(t, err)
		m := machine{states[name], s.node(name)}
		for _, a := range bothWays.decide(m.slurm, kubeNode{Closure: s.o.Nodes.Closure(m.kube)}) {
			changes = append(changes, change{a, m})
		}
	}
	require.Len(t, changes, 2)
	s.slurm.Set("c0", "IDLE+DRAIN", "mine")
	s.slurm.Set("c1", "IDLE+DRAIN", "mine too")
	left, err := s.o.trust(t.Context(), changes)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAChangeOfTheNodeInBetweenIsKept(t *testing.T) {
	s := newSite(t, 1)
	read := s.node("c0")
	s.kubectl("c0", `{"metadata":{"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim","slurmk8s.io/changed":"cordon"}},"spec":{"unschedulable":true}}`)
	require.NoError(t, s.o.Nodes.Drain(t.Context(), read, "drained: bad DIMM"))
	assert.Equal(t, "alps/12/0=reclaim,alps=drain", s.node("c0").GetAnnotations()[node.AnnotationHolders])
	require.NoError(t, s.o.Nodes.Release(t.Context(), "c0", node.RunOf(12, 0)))
	assert.True(t, s.closed("c0"), "the job's end opened a node that Slurm drains")
	require.NoError(t, s.o.Nodes.Undrain(t.Context(), s.node("c0")))
	assert.False(t, s.closed("c0"))
}

func TestANodeComparesItselfOnly(t *testing.T) {
	s := newSite(t, 2)
	s.o.Node = "c1"
	s.cordon("c0")
	s.cordon("c1")
	before := len(s.kube.Requests())
	s.slurm.Asked()
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c1 drain in Slurm (cordoned in Kubernetes)"}, done)
	assert.Len(t, s.kube.Requests(), before+1)
	assert.Equal(t, 0, s.kube.Count("GET", "/nodes?"))
	const drain = "update NodeName=c1 State=DRAIN Reason=slurmk8s: cordoned in Kubernetes"
	assert.Equal(t, []string{"--all show node c1", "--all show node", "--all show node c1", drain, "--all show node"}, s.slurm.Asked(),
		"all nodes are asked for only by one that drains itself")

	s.o.Node = "login"
	done, wrong = s.run()
	assert.Empty(t, done)
	assert.Empty(t, wrong, "a host that Kubernetes does not know")
}

func TestAllThatWasDoneCanBeTakenBack(t *testing.T) {
	s := newSite(t, 4)
	s.cordon("c0")
	s.slurm.Set("c1", "IDLE+DRAIN", "bad DIMM")
	s.slurm.Set("c2", "IDLE+DRAIN", "mine")
	s.cordon("c3")
	_, wrong := s.run()
	require.Empty(t, wrong)
	s.slurm.Set("c3", "IDLE+DRAIN", "also mine")
	s.o.Undo = true
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Equal(t, []string{"c0 undrain in Slurm (open in Kubernetes)", "c1 open in Kubernetes (resumed in Slurm)", "c2 open in Kubernetes (resumed in Slurm)"}, done)
	done, _ = s.run()
	assert.Empty(t, done)
	_, reason := s.slurm.Get("c3")
	assert.Equal(t, "also mine", reason)
	assert.True(t, s.closed("c3"))
}

func TestANodeThatTheSiteLeavesOut(t *testing.T) {
	s := newSite(t, 1)
	s.kubectl("c0", `{"metadata":{"annotations":{"slurmk8s.io/mirror":"off"}},"spec":{"unschedulable":true}}`)
	done, wrong := s.run()
	assert.Empty(t, wrong)
	assert.Empty(t, done)
}

func TestTheCommandsOfSlurmMayBeMissing(t *testing.T) {
	s := newSite(t, 1)
	s.o.Slurm.Dir = filepath.Join(t.TempDir(), "none")
	_, wrong := s.run()
	assert.Contains(t, wrong, "scontrol is not in ")
}
