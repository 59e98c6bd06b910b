package workflow

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

func TestAJobWaitsForRoomInProposal(t *testing.T) {
	p := newProvider(t)
	for _, r := range []string{"r1", "r2", "r3"} {
		p.others("other-"+r, r, 19*tib)
	}
	d := p.setUp(t, lustre(10*tib))
	assert.Equal(t, "Proposal", p.state())
	assert.Equal(t, "ost needs 10.00 TiB, and 3.00 TiB is free: r1 1.00 TiB, r2 1.00 TiB, r3 1.00 TiB [#DW 0]", p.note())

	require.NoError(t, d.Request(bounded(t), theJob, DataIn))
	_, err := d.Poll(bounded(t), theJob, DataIn)
	require.ErrorIs(t, err, ErrBusy)
	assert.Equal(t, "Proposal", p.state())

	p.remove("servers/their/other-r2")
	require.NoError(t, d.Request(bounded(t), theJob, DataIn))
	_, err = d.Poll(bounded(t), theJob, DataIn)
	require.NoError(t, err)
	assert.Equal(t, "DataIn", p.state())
	assert.Equal(t, "ost 10995116277760 [r2:1]", p.placement("bb12-0"))
	assert.Nil(t, p.note())
}

// Before Slurm 24.05 slurm_bb_data_in waits itself.
func TestDataInWaitsForRoom(t *testing.T) {
	p := newProvider(t)
	for _, r := range []string{"r1", "r2", "r3"} {
		p.others("other-"+r, r, 19*tib)
	}
	p.in(Proposal, lustre(10*tib))
	go func() {
		for p.note() == nil && t.Context().Err() == nil {
		}
		p.remove("servers/their/other-r3")
	}()
	_, err := p.driver(t).Await(bounded(t), theJob, DataIn)
	require.NoError(t, err)
	assert.Equal(t, "ost 10995116277760 [r3:1]", p.placement("bb12-0"))
}

func TestWhatTheMachineDoesNotHaveIsRefusedAtOnce(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, lustre(61*tib))
	_, err := p.driver(t).Setup(bounded(t), theJob, nil)
	require.EqualError(t, err, "ost needs 61.00 TiB, and 60.00 TiB is free: r1 20.00 TiB, r2 20.00 TiB, r3 20.00 TiB [#DW 0]")
	assert.Equal(t, "Proposal", p.state())
}

func TestNoRoomOnTheJobsNodesFailsTheirPreRun(t *testing.T) {
	p := newProvider(t)
	p.others("other", "r2", 20*tib)
	p.in(Proposal, xfs(50*gib))
	_, err := p.driver(t).PreRun(bounded(t), onNodes("c01 c05"))
	require.EqualError(t, err, "xfs needs 50.00 GiB on r2 for node c05, and 0.00 GiB is free [#DW 0]")
	assert.Equal(t, "Proposal", p.state())
	assert.Empty(t, p.placement("bb12-0"))
}

func TestAPersistentInstanceOfThatNameIsNotOverwritten(t *testing.T) {
	p := newProvider(t)
	b := lustre(tib)
	storage := kubetest.Part(kubetest.Part(b, "status"), "storage")
	storage["lifetime"], storage["reference"] = "persistent", kubetest.Object{"namespace": "slurm", "name": "data"}
	p.in(Proposal, b)
	p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{
		"label": "ost", "allocationSize": 5, "storage": []any{kubetest.Object{"name": "r1", "allocationCount": 1}}}}}})
	_, err := p.driver(t).Setup(bounded(t), theJob, nil)
	require.EqualError(t, err, "persistent storage data exists already: use it, or choose another name [#DW 0]")
	assert.Zero(t, p.Count("PATCH", "/servers/"))
	assert.Equal(t, "Proposal", p.state())
}

func TestWhatADirectivesBreakdownSaysIsTheJobsError(t *testing.T) {
	p := newProvider(t)
	b := xfs(1)
	kubetest.Part(b, "status")["error"] = kubetest.Object{"userMessage": "no such profile", "debugMessage": "x not found"}
	p.in(Proposal, b)
	_, err := p.driver(t).Setup(bounded(t), theJob, nil)
	var failed *DriverError
	require.ErrorAs(t, err, &failed)
	assert.EqualError(t, err, "Proposal failed: no such profile (x not found) [#DW 0]")
}

// Another workload manager, or a second Slurm cluster, does not hold our lock.
func TestAPromiseIsTakenBackWhereSomebodyElseMadeItToo(t *testing.T) {
	t.Run("and made again where there is room", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, lustre(15*tib))
		var once sync.Once
		p.onWritten = func(string) { once.Do(func() { p.others("their", "r1", 15*tib) }) }
		_, err := p.driver(t).Setup(bounded(t), theJob, nil)
		require.NoError(t, err)
		assert.Equal(t, "ost 16492674416640 [r2:1]", p.placement("bb12-0"))
		assert.Equal(t, 3, p.Count("PATCH", "/servers/"))
	})
	t.Run("and not for ever", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, xfs(15*tib))
		p.onWritten = func(string) {
			if p.placement("bb12-0") != "" {
				p.others("their", "r1", 15*tib)
			} else {
				p.remove("servers/their/their")
			}
		}
		_, err := p.driver(t).PreRun(bounded(t), onNodes("c01"))
		require.EqualError(t, err, "somebody else places storage at the same time: r1 has 20.00 TiB, and 30.00 TiB is promised")
		assert.Empty(t, p.placement("bb12-0"))
		assert.Equal(t, "Proposal", p.state())
	})
}

func TestFiftyJobsAtOnceArePromisedNoMoreThanThereIs(t *testing.T) {
	p := newProvider(t)
	d := p.driver(t)
	var refused atomic.Int32
	var jobs sync.WaitGroup
	for i := range 50 {
		name := fmt.Sprintf("bb%d-0", 100+i)
		p.put("servers/slurm/"+name, kubetest.Object{"spec": kubetest.Object{}})
		jobs.Go(func() {
			o := &object{Name: fmt.Sprintf("bb%d", 100+i), Namespace: "slurm", UID: types.UID(name)}
			asked := placement.Breakdown{Directive: "#DW", Ready: true, Servers: types.NamespacedName{Namespace: "slurm", Name: name},
				Sets: []placement.Set{{Label: "ost", Strategy: "AllocateAcrossServers", Minimum: 3 * tib, Count: 1}}}
			if err := d.place(bounded(t), o, []placement.Breakdown{asked}, nil, nil); err != nil {
				assert.True(t, noRoom(err), err)
				refused.Add(1)
			}
		})
	}
	jobs.Wait()
	promised := map[string]int{}
	for i := range 50 {
		if at := p.placement(fmt.Sprintf("bb%d-0", 100+i)); at != "" {
			promised[at]++
		}
	}
	assert.Equal(t, map[string]int{"ost 3298534883328 [r1:1]": 6, "ost 3298534883328 [r2:1]": 6, "ost 3298534883328 [r3:1]": 6}, promised)
	assert.EqualValues(t, 50-18, refused.Load())
}

func TestPersistentStorageThatAJobUses(t *testing.T) {
	made := func(fsType string, change func(spec, status, meta kubetest.Object)) func(*provider) {
		return func(p *provider) {
			o := kubetest.Object{"spec": kubetest.Object{"fsType": fsType, "userID": 1000},
				"status": kubetest.Object{"state": "Active", "servers": kubetest.Object{"namespace": "slurm", "name": "data"}}}
			if change != nil {
				change(kubetest.Part(o, "spec"), kubetest.Part(o, "status"), kubetest.Meta(o))
			}
			p.put("persistentstorageinstances/slurm/data", o)
			p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{
				"label": fsType, "allocationSize": gib, "storage": []any{kubetest.Object{"name": "r1", "allocationCount": 2}}}}}})
		}
	}
	for name, test := range map[string]struct {
		made  func(*provider)
		nodes string
		setup string // its error
		waits string // why it waits
		state string // after setup
		run   string // the error of pre_run
	}{
		"Lustre is everywhere, and staged early": {made: made("lustre", nil), nodes: "c12", state: "Setup"},
		"xfs waits for its nodes":                {made: made("xfs", nil), nodes: "c01 c04", state: "Proposal"},
		"xfs is not for others":                  {made: made("xfs", nil), nodes: "c01 c05", state: "Proposal", run: "persistent storage data has 0 allocations on r2, and the job has 1 node there: it was made on r1"},
		"xfs is not for fewer":                   {made: made("gfs2", nil), nodes: "c01", state: "Proposal", run: "persistent storage data was made for 2 nodes, and the job has 1"},
		"none of that name":                      {made: func(*provider) {}, state: "Proposal", setup: "persistent storage data does not exist [#DW 0]"},
		"of another user":                        {made: made("xfs", func(spec, _, _ kubetest.Object) { spec["userID"] = 7 }), state: "Proposal", setup: "persistent storage data belongs to another user [#DW 0]"},
		"of another user who has opened it to all": {made: made("lustre", func(spec, _, meta kubetest.Object) {
			spec["userID"] = 7
			meta["annotations"] = kubetest.Object{annotationIgnoreUID: "true"}
		}), nodes: "c01", state: "Setup"},
		"degraded, which Setup would refuse": {made: made("xfs", func(_, status, _ kubetest.Object) { status["state"] = "Degraded" }), state: "Proposal", waits: "persistent storage data is not ready to be used: it is Degraded [#DW 0]"},
		"in use by another job, which PreRun would wait for": {made: made("xfs", func(spec, _, _ kubetest.Object) {
			spec["consumerReferences"] = []any{kubetest.Object{"namespace": "slurm", "name": "bb12-0"}, kubetest.Object{"namespace": "slurm", "name": "bb7-0"}}
		}), state: "Proposal", waits: "persistent storage data is in use by slurm/bb7-0 [#DW 0]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, uses("data"))
			test.made(p)
			d := p.driver(t)
			_, err := d.Setup(bounded(t), theJob, nil)
			if test.setup != "" {
				require.EqualError(t, err, test.setup)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.state, p.state())
			if test.waits != "" {
				assert.Equal(t, test.waits, p.note())
				_, err = d.Poll(bounded(t), theJob, DataIn)
				assert.ErrorIs(t, err, ErrBusy)
				return
			}
			_, err = d.PreRun(bounded(t), onNodes(test.nodes))
			if test.run != "" {
				require.EqualError(t, err, test.run)
				assert.Equal(t, "Proposal", p.state())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "PreRun", p.state())
		})
	}
}

// NNF judges it in Teardown, after the job.
func TestPersistentStorageThatAJobDestroys(t *testing.T) {
	const destroy = "#DW destroy_persistent name=data"
	for name, test := range map[string]struct {
		owner     int
		consumers []any
		refused   string
		waits     string
	}{
		"its own":              {owner: 1000},
		"of another user":      {owner: 7, refused: "persistent storage data belongs to another user [" + destroy + "]"},
		"in use by other jobs": {owner: 1000, consumers: []any{kubetest.Object{"namespace": "slurm", "name": "bb7-0"}}, waits: "persistent storage data is in use by slurm/bb7-0 [" + destroy + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal)
			p.Change(func(o kubetest.Object) kubetest.Object {
				kubetest.Part(o, "spec")["dwDirectives"] = []any{destroy}
				return o
			})
			p.put("persistentstorageinstances/slurm/data", kubetest.Object{"status": kubetest.Object{"state": "Active"},
				"spec": kubetest.Object{"fsType": "xfs", "userID": test.owner, "consumerReferences": test.consumers}})
			d := p.driver(t)
			_, err := d.Setup(bounded(t), theJob, []string{destroy})
			if test.refused != "" {
				require.EqualError(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			if test.waits == "" {
				assert.Equal(t, "Setup", p.state())
				return
			}
			assert.Equal(t, "Proposal", p.state())
			assert.Equal(t, test.waits, p.note())
			_, err = d.Poll(bounded(t), theJob, DataIn)
			require.ErrorIs(t, err, ErrBusy)
		})
	}
}
