package workflow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
)

// onDead is a driver whose Slurm has these nodes as down: "c02 c03".
func (p *provider) onDead(t *testing.T, nodes string) *Driver {
	d := p.driver(t)
	slurmctld := slurmtest.NewNodes(t, t.TempDir())
	d.cfg.SlurmBinDir = slurmctld.Dir
	slurmctld.Set("c01", "IDLE", "")
	for _, node := range strings.Fields(nodes) {
		slurmctld.Set(node, "DOWN+NOT_RESPONDING", "")
	}
	slurmctld.Away(nodes == "unknown")
	return d
}

// waitsIn is a job on c01 and c02 whose Workflow has been in a state for long.
func (p *provider) waitsIn(state State) {
	p.put("computes/slurm/bb12", kubetest.Object{"data": []any{kubetest.Object{"name": "c01"}, kubetest.Object{"name": "c02"}}})
	p.in(state, xfs(50*gib))
	p.Change(func(o kubetest.Object) kubetest.Object {
		o = is(state, state, false, "DriverWait")(o)
		kubetest.Part(kubetest.Meta(o), "annotations")[annotationStateSince] = time.Now().Add(-time.Hour).Format(time.RFC3339)
		return o
	})
}

// told is what the provider was told of nodes: "computes=c01 disabled=c02 ours=c02".
func (p *provider) told() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var computes, off []string
	data, _ := p.objects["computes/slurm/bb12"]["data"].([]any)
	for _, node := range data {
		computes = append(computes, fmt.Sprint(node.(kubetest.Object)["name"]))
	}
	status := p.objects["systemstatuses/default/default"]
	ours := any(nil)
	if status != nil {
		for _, node := range []string{"c01", "c02", "c09"} {
			if kubetest.Part(kubetest.Part(status, "data"), "nodes")[node] == disabled {
				off = append(off, node)
			}
		}
		ours = kubetest.Part(kubetest.Meta(status), "annotations")[annotationDisabled+"hpc"]
	}
	return fmt.Sprintf("computes=%s disabled=%s ours=%v", strings.Join(computes, ","), strings.Join(off, ","), ours)
}

func (p *provider) disabledBefore(nodes kubetest.Object, ours string) {
	p.put("systemstatuses/default/default", kubetest.Object{"data": kubetest.Object{"nodes": nodes},
		"metadata": kubetest.Object{"annotations": kubetest.Object{annotationDisabled + "hpc": ours}}})
}

func TestAStateDoesNotWaitForDeadNodes(t *testing.T) {
	for name, test := range map[string]struct {
		state  State
		before func(*provider)
		told   string
	}{
		"PreRun mounts on the others":  {state: PreRun, told: "computes=c01 disabled= ours=<nil>"},
		"PostRun":                      {state: PostRun, told: "computes=c01 disabled=c02 ours=c02"},
		"Teardown":                     {state: Teardown, told: "computes=c01,c02 disabled=c02 ours=c02"},
		"in addition to somebody's":    {PostRun, func(p *provider) { p.disabledBefore(kubetest.Object{"c09": disabled}, "") }, "computes=c01 disabled=c02,c09 ours=c02"},
		"in addition to our own":       {PostRun, func(p *provider) { p.disabledBefore(kubetest.Object{"c09": disabled}, "c09") }, "computes=c01 disabled=c02,c09 ours=c02,c09"},
		"somebody has done it already": {PostRun, func(p *provider) { p.disabledBefore(kubetest.Object{"c02": disabled}, "c07") }, "computes=c01 disabled=c02 ours=c07"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.before != nil {
				test.before(p)
			}
			p.waitsIn(test.state)
			go func() { // as NNF does, which goes on then
				for p.told() != test.told && t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				p.Change(is(test.state, test.state, true, "Completed"))
			}()
			d := p.onDead(t, "c02")
			o, err := d.find(bounded(t), "bb12")
			require.NoError(t, err)
			_, err = d.await(bounded(t), o)
			require.NoError(t, err)
			assert.Equal(t, test.told, p.told())
		})
	}
}

func TestAStateWaitsForNodesThatAreNotKnownToBeDead(t *testing.T) {
	for name, nodes := range map[string]string{"all live": "", "Slurm does not answer": "unknown"} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.waitsIn(PostRun)
			asked := p.Count("GET", "/computes/")
			go func() {
				for p.Count("GET", "/computes/") == asked && t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				p.Change(is(PostRun, PostRun, true, "Completed"))
			}()
			_, err := p.onDead(t, nodes).Await(bounded(t), theJob, PostRun)
			require.NoError(t, err)
			assert.Equal(t, "computes=c01,c02 disabled= ours=<nil>", p.told())
		})
	}
}

func TestNodesThatLiveAgainAreWaitedForAgain(t *testing.T) {
	nodes := func() kubetest.Object { return kubetest.Object{"c01": disabled, "c02": disabled, "c09": disabled} }
	t.Run("reconcile enables those that we have disabled", func(t *testing.T) {
		p := newProvider(t)
		p.disabledBefore(nodes(), "c01,c02")
		require.NoError(t, p.onDead(t, "c02").EnableLiving(bounded(t)))
		assert.Equal(t, "computes= disabled=c02,c09 ours=c02", p.told())
	})
	t.Run("nothing is changed if Slurm does not answer", func(t *testing.T) {
		p := newProvider(t)
		p.disabledBefore(nodes(), "c01,c02")
		require.Error(t, p.onDead(t, "unknown").EnableLiving(bounded(t)))
		assert.Equal(t, "computes= disabled=c01,c02,c09 ours=c01,c02", p.told())
	})
	t.Run("a job that begins on them enables them before it mounts", func(t *testing.T) {
		p := newProvider(t)
		p.disabledBefore(nodes(), "c01,c02")
		p.in(Proposal, xfs(50*gib))
		_, err := p.onDead(t, "").PreRun(bounded(t), onNodes("c01 c09"))
		require.NoError(t, err)
		assert.Equal(t, "computes= disabled=c02,c09 ours=c02", p.told())
	})
}

// Seen with NNF: the drives' namespaces run out, which is no error to it.
func TestARabbitWithoutNamespacesIsARabbitWithoutRoom(t *testing.T) {
	exhausted := func(p *provider, rabbit string) {
		p.Change(func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "DriverWait")(o)
			kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW 0"}
			kubetest.Part(o, "status")["message"] = "DW Directive 0: Internal error: could not allocate storage"
			kubetest.Part(o, "status")["drivers"] = []any{kubetest.Object{"dwdIndex": 0, "watchState": "Setup", "status": "Running",
				"message": "Internal error: could not allocate storage",
				"error": "internal error: storage resource error: slurm/bb12-0: Node: " + rabbit + ": unable to allocate NVMe namespaces for allocation 0: " +
					"could not create storage pool: Internal Error: Create Volume Failure: Could not find free namespace"}}
			return o
		})
	}
	t.Run("Lustre is placed elsewhere", func(t *testing.T) {
		p := newProvider(t)
		d := p.setUp(t, lustre(tib))
		p.onWritten = func(string) {
			p.Change(func(o kubetest.Object) kubetest.Object {
				delete(kubetest.Part(o, "status"), "drivers")
				return is(Setup, Setup, true, "Completed")(o)
			})
		}
		exhausted(p, "r1")
		_, err := d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 1099511627776 [r2:1]", p.placement("bb12-0"))
	})
	t.Run("a job with storage of its nodes is put back", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, xfs(tib))
		d := p.driver(t)
		exhausted(p, "r1")
		o, err := d.find(bounded(t), "bb12")
		require.NoError(t, err)
		_, err = d.await(bounded(t), o)
		require.EqualError(t, err, "r1 has no NVMe namespace left for [#DW 0]: it can make this storage only when that of another job is gone")
		assert.True(t, noRoom(err), "the job is not cancelled for that")
	})
}

func TestSetupThatSaysNothingDoesNotWaitForEver(t *testing.T) {
	p := newProvider(t)
	p.in(Setup, xfs(tib))
	p.Change(func(o kubetest.Object) kubetest.Object {
		o = is(Setup, Setup, false, "DriverWait")(o)
		kubetest.Part(kubetest.Meta(o), "annotations")[annotationStateSince] = time.Now().Add(-time.Hour).Format(time.RFC3339)
		kubetest.Part(o, "status")["message"] = "DW Directive 0: allocation set not ready"
		return o
	})
	_, err := p.driver(t).Await(bounded(t), theJob, Setup)
	require.EqualError(t, err, `Setup not done after 10m0s: DW Directive 0: allocation set not ready: look at "slurmk8s storage" and at the provider's controllers on its rabbits`)
}
