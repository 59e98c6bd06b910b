package workflow

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func onNodes(names string) *Job {
	j := *theJob
	j.Nodes = strings.Fields(names)
	return &j
}

func (p *provider) state() string {
	return fmt.Sprint(kubetest.Part(p.Current(), "spec")["desiredState"])
}

func (p *provider) note() any {
	return kubetest.Part(kubetest.Meta(p.Current()), "annotations")[annotationPlacement]
}

func TestStorageOfNodesIsPlacedOnThoseThatTheJobGot(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(50*gib))
	d := p.driver(t)

	_, err := d.Setup(bounded(t), theJob, nil)
	require.NoError(t, err)
	assert.Equal(t, "Proposal", p.state())
	assert.Equal(t, []string{"GET namespaces/slurm/directivebreakdowns/bb12-0"}, p.storageRequests())

	// Stage-in has nothing to do, whether Slurm polls or not, and asks nothing more.
	require.NoError(t, d.Request(bounded(t), theJob, DataIn))
	_, err = d.Poll(bounded(t), theJob, DataIn)
	require.NoError(t, err)
	_, err = d.Await(bounded(t), theJob, DataIn)
	require.NoError(t, err)
	assert.Equal(t, "Proposal", p.state())
	assert.Len(t, p.storageRequests(), 1)

	_, err = d.PreRun(bounded(t), onNodes("c01 c02 c05"))
	require.NoError(t, err)
	assert.Equal(t, "PreRun", p.state())
	assert.Equal(t, "xfs 53687091200 [r1:2 r2:1]", p.placement("bb12-0"))
	assert.Nil(t, p.note())
}

func TestNetworkStorageIsPlacedBeforeNodesAreKnown(t *testing.T) {
	p := newProvider(t)
	d := p.setUp(t, lustre(10*tib))
	assert.Equal(t, "Setup", p.state())
	assert.Equal(t, "ost 10995116277760 [r1:1]", p.placement("bb12-0"))
	_, err := d.Await(bounded(t), theJob, DataIn)
	require.NoError(t, err)
	assert.Equal(t, "DataIn", p.state())

	_, err = d.PreRun(bounded(t), onNodes("c01 c99"))
	require.EqualError(t, err, "DWS does not know node c99: SystemConfiguration default/default does not list it by the name that Slurm uses")
	assert.Equal(t, "DataIn", p.state())
	_, err = d.PreRun(bounded(t), onNodes("c01 c09"))
	require.NoError(t, err)
	assert.Equal(t, "PreRun", p.state())
}

func TestAProviderWithoutServersIsAskedForNothingMore(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal)
	d := p.driver(t)
	_, err := d.Setup(bounded(t), theJob, nil)
	require.NoError(t, err)
	assert.Equal(t, "Setup", p.state())
	_, err = d.PreRun(bounded(t), onNodes("any"))
	require.NoError(t, err)
	assert.Equal(t, "PreRun", p.state())
	assert.Empty(t, p.storageRequests())
}

func TestAKilledHookIsRunAgain(t *testing.T) {
	t.Run("all Servers were filled: they are kept", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, xfs(50*gib))
		d := p.driver(t)
		o, err := d.find(bounded(t), "bb12")
		require.NoError(t, err)
		_, _, err = d.placed(bounded(t), o, strings.Fields("c01 c05"))
		require.NoError(t, err)
		// Meanwhile others have come; what this job was promised is its own.
		p.others("other", "r1", 20*tib-60*gib)
		_, err = d.PreRun(bounded(t), onNodes("c01 c05"))
		require.NoError(t, err)
		assert.Equal(t, "xfs 53687091200 [r1:1 r2:1]", p.placement("bb12-0"))
		assert.Equal(t, 1, p.Count("PATCH", "/servers/"))
	})
	// killed is a Workflow whose pre_run was killed when its storage was placed for the nodes.
	killed := func(t *testing.T, nodes string) (*provider, *Driver) {
		p := newProvider(t)
		p.in(Proposal, xfs(50*gib))
		d := p.driver(t)
		o, err := d.find(bounded(t), "bb12")
		require.NoError(t, err)
		_, _, err = d.placed(bounded(t), o, strings.Fields(nodes))
		require.NoError(t, err)
		return p, d
	}
	t.Run("somebody else placed at the same time: looked at before they are kept", func(t *testing.T) {
		p, d := killed(t, "c01 c05")
		p.others("other", "r1", 20*tib)
		_, err := d.PreRun(bounded(t), onNodes("c01 c05"))
		require.ErrorContains(t, err, "xfs needs 50.00 GiB on r1 for node c01")
		assert.Empty(t, p.placement("bb12-0"))
	})
	t.Run("for other nodes: placed again", func(t *testing.T) {
		p, d := killed(t, "c01 c05")
		_, err := d.PreRun(bounded(t), onNodes("c09 c10 c05"))
		require.NoError(t, err)
		assert.Equal(t, "xfs 53687091200 [r2:1 r3:2]", p.placement("bb12-0"))
	})
	t.Run("set up for other nodes: the job is put back", func(t *testing.T) {
		p, d := killed(t, "c01 c05")
		p.Change(is(Setup, Setup, true, "Completed"))
		_, err := d.PreRun(bounded(t), onNodes("c01 c02"))
		require.EqualError(t, err, "the storage was made for other nodes, on r1, r2 [#DW 0]")
		assert.Equal(t, "Setup", p.state())
		_, err = d.PreRun(bounded(t), onNodes("c02 c06"))
		require.NoError(t, err)
	})
	t.Run("some were filled: all are placed again", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, xfs(50*gib), lustre(tib))
		d := p.driver(t)
		ctx, kill := context.WithCancel(bounded(t))
		p.onWritten = func(string) { kill() }
		_, err := d.PreRun(ctx, onNodes("c01 c05"))
		require.Error(t, err)
		require.NotEmpty(t, p.placement("bb12-0")+p.placement("bb12-1"))
		require.True(t, p.placement("bb12-0") == "" || p.placement("bb12-1") == "")
		p.onWritten = nil
		_, err = d.PreRun(bounded(t), onNodes("c01 c05"))
		require.NoError(t, err)
		assert.Equal(t, "xfs 53687091200 [r1:1 r2:1]", p.placement("bb12-0"))
		assert.Equal(t, "ost 1099511627776 [r1:1]", p.placement("bb12-1"))
	})
}

func TestServersThatChangeMeanwhileAreReadAgain(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(50*gib))
	var once sync.Once
	p.onPatch = func(string) {
		once.Do(func() { p.put("servers/slurm/bb12-0", kubetest.Object{"spec": kubetest.Object{}}) })
	}
	_, err := p.driver(t).PreRun(bounded(t), onNodes("c01"))
	require.NoError(t, err)
	assert.Equal(t, "xfs 53687091200 [r1:1]", p.placement("bb12-0"))
}

// The first run's Teardown leaves the instance that it made.
func TestAJobThatIsRunAgainFindsThePersistentInstanceThatItMade(t *testing.T) {
	for name, test := range map[string]struct {
		id, submitted, restarts string // of the second run; the first is 12, 1000, 0
		refused                 bool
	}{
		"after a restart of slurmctld":      {id: "12", submitted: "1000", restarts: "0"},
		"requeued":                          {id: "12", submitted: "2000", restarts: "1"},
		"another job that has its id":       {id: "12", submitted: "2000", restarts: "0", refused: true},
		"another job":                       {id: "112", submitted: "1000", restarts: "0", refused: true},
		"another job whose id begins so":    {id: "1", submitted: "1000", restarts: "1", refused: true},
		"a Slurm that tells no run (22.05)": {id: "12", submitted: "1000", restarts: ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			b := lustre(tib)
			storage := kubetest.Part(kubetest.Part(b, "status"), "storage")
			storage["lifetime"], storage["reference"] = "persistent", kubetest.Object{"namespace": "slurm", "name": "data"}
			p.in(Proposal, b)
			p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{}})
			run := func(uid, id, submitted, restarts string) {
				p.in(Proposal, b)
				p.Change(func(o kubetest.Object) kubetest.Object {
					meta := kubetest.Meta(o)
					meta["uid"] = uid
					kubetest.Part(meta, "labels")[job.LabelJobID] = id
					notes := kubetest.Part(meta, "annotations")
					notes[job.AnnotationSubmitTime] = submitted
					if delete(notes, job.AnnotationRestart); restarts != "" {
						notes[job.AnnotationRestart] = restarts
					}
					return o
				})
			}
			d := p.driver(t)
			run("u1", "12", "1000", "0")
			_, err := d.Setup(bounded(t), theJob, nil)
			require.NoError(t, err)
			require.Equal(t, "ost 1099511627776 [r1:1]", p.placement("data"))

			run("u2", test.id, test.submitted, test.restarts)
			_, err = d.Setup(bounded(t), theJob, nil)
			if test.refused {
				require.ErrorContains(t, err, "persistent storage data exists already")
			} else {
				require.NoError(t, err)
				assert.Equal(t, "Setup", p.state())
			}
			assert.Equal(t, 1, p.Count("PATCH", "/servers/"))
		})
	}
}

// Recorded from NNF: the breakdown then names no location.
func TestPersistentStorageThatIsStillBeingMadeIsWaitedFor(t *testing.T) {
	for fsType, state := range map[string]string{"lustre": "DataIn", "xfs": "Proposal"} {
		t.Run(fsType, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, kubetest.Object{"spec": kubetest.Object{"directive": "#DW persistentdw name=data"},
				"status": kubetest.Object{"ready": true, "compute": kubetest.Object{"constraints": kubetest.Object{}}}})
			made := func(state string) {
				p.put("persistentstorageinstances/slurm/data", kubetest.Object{"spec": kubetest.Object{"fsType": fsType, "userID": 1000},
					"status": kubetest.Object{"state": state, "servers": kubetest.Object{"namespace": "slurm", "name": "data"}}})
			}
			made("Creating")
			p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{
				"label": fsType, "allocationSize": gib, "storage": []any{kubetest.Object{"name": "r1", "allocationCount": 2}}}}}})
			d := p.driver(t)
			_, err := d.Setup(bounded(t), theJob, nil)
			require.NoError(t, err)
			assert.Equal(t, "Proposal", p.state())
			assert.Equal(t, "persistent storage data is not ready to be used: it is Creating [#DW persistentdw name=data]", p.note())
			_, err = d.Poll(bounded(t), theJob, DataIn)
			require.ErrorIs(t, err, ErrBusy)

			made("Active")
			_, err = d.Await(bounded(t), theJob, DataIn)
			require.NoError(t, err)
			assert.Equal(t, state, p.state())
			if fsType == "xfs" {
				_, err = d.PreRun(bounded(t), onNodes("c01 c05"))
				require.EqualError(t, err, "persistent storage data has 0 allocations on r2, and the job has 1 node there: it was made on r1")
				_, err = d.PreRun(bounded(t), onNodes("c01 c02"))
				require.NoError(t, err)
			}
		})
	}
}

func TestBbstatSaysWhyAJobWaitsAndWhereItsStorageIs(t *testing.T) {
	p := newProvider(t)
	p.others("other", "r1", 20*tib)
	p.in(Proposal, xfs(50*gib))
	d := p.driver(t)
	status := func() string {
		text, err := d.Status(bounded(t), theJob, 1000, false)
		require.NoError(t, err)
		return text
	}
	_, err := d.Setup(bounded(t), theJob, nil)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(status(), " placement=for-nodes"), status())
	_, err = d.PreRun(bounded(t), onNodes("c01"))
	require.Error(t, err)
	assert.Contains(t, status(), " placement=xfs_needs_50.00_GiB_on_r1_for_node_c01,_and_0.00_GiB_is_free_[#DW_0]")
	_, err = d.PreRun(bounded(t), onNodes("c12 c05"))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(status(), " rabbits=r2,r3"), status())
	assert.NotContains(t, status(), "placement=")
}

func TestTheInventoryTellsWhatIsFreeAndWhoseStorageThereIs(t *testing.T) {
	p := newProvider(t)
	p.others("other", "r1", 5*tib)
	p.objects["storages/default/r2"]["status"].(kubetest.Object)["status"] = "Offline"
	p.put("persistentstorageinstances/slurm/data", kubetest.Object{
		"spec":   kubetest.Object{"fsType": "xfs", "userID": 0, "consumerReferences": []any{kubetest.Object{"namespace": "slurm", "name": "bb7-0"}}},
		"status": kubetest.Object{"state": "Active", "servers": kubetest.Object{"namespace": "slurm", "name": "data"}}})
	p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{
		"label": "xfs", "allocationSize": int64(tib), "storage": []any{kubetest.Object{"name": "r3", "allocationCount": 2}}}}}})
	cfg, client, log := newClient(t, p.Workflows, nil)
	inventory, err := TakeInventory(bounded(t), cfg, client, log)
	require.NoError(t, err)
	assert.Equal(t, &Inventory{
		Rabbits: []placement.Room{
			{Rabbit: "r1", Free: 15 * tib, Total: 20 * tib, Nodes: []string{"c01", "c02", "c03", "c04"}},
			{Rabbit: "r2", Fault: "Offline", Free: 20 * tib, Total: 20 * tib, Nodes: []string{"c05", "c06", "c07", "c08"}},
			{Rabbit: "r3", Free: 18 * tib, Total: 20 * tib, Nodes: []string{"c09", "c10", "c11", "c12"}},
		},
		Persistent: []Persistent{{Name: "data", Type: "xfs", State: "Active", Rabbits: []string{"r3"}, UsedBy: []string{"slurm/bb7-0"}}},
	}, inventory)

	one, err := inventory.Find("data")
	require.NoError(t, err)
	assert.Empty(t, one.Rabbits)
	assert.Len(t, one.Persistent, 1)
	_, err = inventory.Find("r9")
	assert.EqualError(t, err, `there is no rabbit and no persistent storage "r9"`)
}

// NNF goes on with changed Servers, and counts what we cannot see.
func TestStorageIsPlacedElsewhereIfTheProviderHasNoRoom(t *testing.T) {
	full := func(p *provider, rabbit string) {
		p.Change(func(o kubetest.Object) kubetest.Object {
			o = is(Setup, Setup, false, "Error")(o)
			kubetest.Part(o, "status")["message"] = "DW Directive 0: WLM error: " + rabbit + ": insufficient capacity available"
			return o
		})
	}
	t.Run("on another rabbit", func(t *testing.T) {
		p := newProvider(t)
		d := p.setUp(t, lustre(tib))
		require.Equal(t, "ost 1099511627776 [r1:1]", p.placement("bb12-0"))
		p.onWritten = func(string) { p.Change(is(Setup, Setup, true, "Completed")) }
		full(p, "r1")
		_, err := d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 1099511627776 [r2:1]", p.placement("bb12-0"))
	})
	t.Run("an error of before the change is not another one", func(t *testing.T) {
		p := newProvider(t)
		d := p.setUp(t, lustre(tib))
		told := make(chan struct{}, 10)
		p.onWritten = func(string) {
			full(p, "r1")
			told <- struct{}{}
		}
		full(p, "r1")
		ctx := bounded(t)
		go func() {
			select {
			case <-told:
				p.Change(is(Setup, Setup, true, "Completed"))
			case <-ctx.Done():
			}
		}()
		_, err := d.Await(ctx, theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 1099511627776 [r2:1]", p.placement("bb12-0"))
	})
	t.Run("later if there is no other now", func(t *testing.T) {
		p := newProvider(t)
		p.others("other", "r2", 19*tib)
		p.others("another", "r3", 19*tib)
		d := p.setUp(t, lustre(10*tib))
		full(p, "r1")
		require.NoError(t, d.Request(bounded(t), theJob, DataIn))
		_, err := d.Poll(bounded(t), theJob, DataIn)
		require.ErrorIs(t, err, ErrBusy)
		assert.Equal(t, "ost 10995116277760 [r1:1]", p.placement("bb12-0"))
		p.remove("servers/their/another")
		p.onWritten = func(string) { p.Change(is(Setup, Setup, true, "Completed")) }
		_, err = d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 10995116277760 [r3:1]", p.placement("bb12-0"))
	})
	t.Run("data_in that does not poll waits for that", func(t *testing.T) {
		p := newProvider(t)
		p.others("other", "r2", 19*tib)
		p.others("another", "r3", 19*tib)
		d := p.setUp(t, lustre(10*tib))
		full(p, "r1")
		lists := p.Count("GET", "/servers")
		go func() {
			for p.Count("GET", "/servers") == lists && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			p.remove("servers/their/another")
		}()
		p.onWritten = func(string) { p.Change(is(Setup, Setup, true, "Completed")) }
		_, err := d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 10995116277760 [r3:1]", p.placement("bb12-0"))
	})
	t.Run("not longer than Setup may take", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, lustre(55*tib))
		d := p.driver(t)
		d.cfg.Workflows.Timeouts.Setup = slurmconf.Duration(time.Minute)
		_, err := d.Setup(bounded(t), theJob, nil)
		require.NoError(t, err)
		full(p, "r1")
		p.Change(func(o kubetest.Object) kubetest.Object {
			kubetest.Part(kubetest.Meta(o), "annotations")[annotationStateSince] = "2026-01-01T00:00:00Z"
			return o
		})
		_, err = d.Poll(bounded(t), theJob, DataIn)
		require.ErrorContains(t, err, "r1: insufficient capacity available")
	})
	t.Run("an error of the API server is not the job's", func(t *testing.T) {
		p := newProvider(t)
		d := p.setUp(t, lustre(tib))
		full(p, "r1")
		p.Before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/servers") {
				kubetest.Status(w, 503, "ServiceUnavailable", "later")
				return true
			}
			return p.serve(w, r)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Poll(short, theJob, DataIn)
		require.Error(t, err)
		var failed *DriverError
		assert.NotErrorAs(t, err, &failed)
	})
	t.Run("next to a persistent Lustre", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, uses("data"), lustre(tib))
		p.put("persistentstorageinstances/slurm/data", kubetest.Object{"spec": kubetest.Object{"fsType": "lustre", "userID": 1000},
			"status": kubetest.Object{"state": "Active"}})
		d := p.driver(t)
		_, err := d.Setup(bounded(t), theJob, nil)
		require.NoError(t, err)
		p.onWritten = func(string) { p.Change(is(Setup, Setup, true, "Completed")) }
		full(p, "r1")
		_, err = d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 1099511627776 [r2:1]", p.placement("bb12-1"))
	})
	t.Run("a rabbit that was full before is not tried again", func(t *testing.T) {
		p := newProvider(t)
		d := p.setUp(t, lustre(tib))
		p.onWritten = func(string) {
			if !strings.Contains(p.placement("bb12-0"), "r3") {
				full(p, "r2")
			} else {
				p.Change(is(Setup, Setup, true, "Completed"))
			}
		}
		full(p, "r1")
		_, err := d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "ost 1099511627776 [r3:1]", p.placement("bb12-0"))
	})
	t.Run("nor on other rabbits than those of the job's nodes", func(t *testing.T) {
		p := newProvider(t)
		p.in(Setup, xfs(tib))
		full(p, "r1")
		_, err := p.driver(t).Await(bounded(t), theJob, DataIn)
		require.ErrorContains(t, err, "r1: insufficient capacity available")
		assert.Zero(t, p.Count("PATCH", "/servers/"))
	})
}
