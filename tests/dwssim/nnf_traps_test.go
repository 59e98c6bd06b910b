package dwssim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What NNF does that nobody would guess. The words, and what each ends in, were recorded; the
// numbers are those of the traps in the reference.

const jobXFS = "#DW jobdw type=xfs capacity=50GB name=scratch"

// onR1 are so many allocations of jobXFS on r1.
func onR1(count int) ServersStorage { return ServersStorage{AllocationCount: count, Name: "r1"} }

// setUp takes a job with jobXFS to DataIn.
func (m *machine) setUp(name string, storage ...ServersStorage) *Workflow {
	m.t.Helper()
	w := m.submit(name, 1, 1001, jobXFS)
	m.place(name+"-0", "xfs", 50314572800, storage...)
	return m.pass(m.pass(w, Setup), DataIn)
}

// end tears a Workflow down and deletes it, and looks at what is left.
func (m *machine) end(w *Workflow) {
	m.t.Helper()
	w = m.delete(m.pass(w, Teardown))
	assert.Empty(m.t, w.Finalizers)
	m.allFree()
	assert.Empty(m.t, m.mounts())
}

// hang is Sim.SetHung.
func (m *machine) hang(names ...string) {
	m.t.Helper()
	m.annotateSystem(HungAnnotation, strings.Join(names, ","))
}

func (m *machine) annotateSystem(annotation, value string) {
	m.t.Helper()
	system, err := read[SystemConfiguration](m.t.Context(), m.nnf.api, kindSystem, SystemNamespace, "default")
	require.NoError(m.t, err)
	system.Annotations = map[string]string{annotation: value}
	require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{update, kindSystem, system}))
}

func (m *machine) annotateStorage(rabbit, annotation, value string) {
	m.t.Helper()
	storage, err := read[Storage](m.t.Context(), m.nnf.api, kindStorage, SystemNamespace, rabbit)
	require.NoError(m.t, err)
	storage.Annotations = map[string]string{annotation: value}
	require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{update, kindStorage, storage}))
	m.refresh()
}

// disable writes SystemStatus.
func (m *machine) disable(node string) {
	m.t.Helper()
	status := &SystemStatus{Data: SystemStatusData{Nodes: map[string]string{node: "Disabled"}}}
	status.Name, status.Namespace = "default", SystemNamespace
	require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{create, kindSystemStatus, status}))
}

// says demands that a Workflow waits, or has failed, with these words.
func says(t *testing.T, w *Workflow, status, message, driverError string) {
	t.Helper()
	assert.False(t, w.Status.Ready)
	assert.Equal(t, status, w.Status.Status)
	assert.Equal(t, message, w.Status.Message)
	found := ""
	for _, driver := range driversOf(w, w.Status.State) {
		if driver.Error != "" {
			found = driver.Error
		}
	}
	assert.Equal(t, driverError, found)
}

func TestT24AnErrorInSetupHeals(t *testing.T) {
	tests := []struct {
		name     string
		wrong    []ServersStorage
		size     int64
		expected map[string]ServersStatusStorage
		ready    bool
	}{
		{"nothing was written", nil, 0, map[string]ServersStatusStorage{"r2": {50314608640, true}}, true},
		{"a rabbit that does not exist", []ServersStorage{{1, "r9"}}, 50314572800, map[string]ServersStatusStorage{"r2": {50314608640, true}}, true},
		{"no room: it is never ready in Servers", []ServersStorage{onR1(1)}, 36283883716608,
			map[string]ServersStatusStorage{"r1": {0, false}, "r2": {50314608640, true}}, false},
		{"no room on the second: the first keeps its own", []ServersStorage{onR1(1), {2, "r3"}}, 18691697672192,
			map[string]ServersStatusStorage{"r1": {18691697672192, true}, "r3": {0, false}, "r2": {50314608640, true}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, jobXFS)
			if test.wrong != nil {
				m.place("bb1-0", "xfs", test.size, test.wrong...)
			}
			w = m.desire(w, Setup)
			require.Equal(t, Error, w.Status.Status)
			m.place("bb1-0", "xfs", 50314572800, ServersStorage{1, "r2"})
			w = m.settle(w)
			require.True(t, Ready(Setup)(w), w.Status.Message)
			status := m.servers("bb1-0").Status
			assert.Equal(t, test.expected, status.AllocationSets[0].Storage)
			assert.Equal(t, test.ready, status.Ready)
			w = m.pass(w, DataIn)
			m.use(w, "c05")
			m.end(m.pass(w, PreRun))
		})
	}
}

func TestServersThatChangeAfterSetupChangeNothing(t *testing.T) {
	m := newMachine(t)
	w := m.setUp("bb1", onR1(1))
	m.place("bb1-0", "xfs", 50314572800, onR1(1), ServersStorage{2, "r2"})
	w = m.settle(w)
	status := m.servers("bb1-0").Status
	assert.Equal(t, map[string]ServersStatusStorage{"r1": {50314608640, true}, "r2": {0, false}}, status.AllocationSets[0].Storage)
	assert.True(t, status.Ready)
	m.use(w, "c01")
	m.end(m.pass(w, PreRun))
}

func TestARabbitThatDoesNothingIsWaitedFor(t *testing.T) {
	m := newMachine(t)
	m.hang("r1")
	w := m.submit("bb1", 1, 1001, jobXFS)
	m.place("bb1-0", "xfs", 50314572800, onR1(1))
	w = m.desire(w, Setup)
	says(t, w, DriverWait, "DW Directive 0: allocation set not ready", "")
	m.now = m.now.Add(5 * time.Minute)
	w = m.settle(w)
	says(t, w, TransientCondition, "DW Directive 0: Internal error: could not allocate storage",
		"internal error: storage resource error: default/bb1-0: Node: r1: NnfNodeBlockStorage has not been reconciled after 300 seconds")
	m.end(w)
}

func TestT1TheCapacityOfAStorageIsWhatWasFreeWhenALinkChanged(t *testing.T) {
	m := newMachine(t)
	capacity := func() int64 {
		storage, err := read[Storage](t.Context(), m.nnf.api, kindStorage, SystemNamespace, "r1")
		require.NoError(t, err)
		return storage.Status.Capacity
	}
	const total, taken = 18 * (2 << 40), 50314608640
	w := m.setUp("bb1", onR1(1))
	m.refresh()
	assert.EqualValues(t, total, capacity())
	m.annotateStorage("r1", LinksAnnotation, "c03=Offline")
	assert.EqualValues(t, total-taken, capacity())
	m.end(w)
	m.refresh()
	assert.EqualValues(t, total-taken, capacity())
	m.annotateStorage("r1", LinksAnnotation, "")
	assert.EqualValues(t, total, capacity())
}

func TestProfilesThatWereNotRecorded(t *testing.T) {
	lustre, err := parseDirective("#DW jobdw type=lustre capacity=1TB name=scratch")
	require.NoError(t, err)
	sets, refused := DefaultProfiles()["exclusivecombined"].allocationSets(lustre)
	require.Nil(t, refused)
	assert.Equal(t, "mgtmdt", sets[1].Label)
	assert.Equal(t, []Colocation{{Key: "", Type: "exclusive"}}, sets[1].Constraints.Colocation, "T11: not lustre-mgt any more")
	sets, refused = DefaultProfiles()["labels"].allocationSets(lustre)
	require.Nil(t, refused)
	assert.Equal(t, []string{"site/pool=fast", storageLabel + "=Rabbit"}, sets[0].Constraints.Labels)
	assert.Equal(t, []string{"site/pool=fast", "site/meta", storageLabel + "=Rabbit"}, sets[1].Constraints.Labels)
}

func TestAThousandNodesMountOneLustre(t *testing.T) {
	m := newMachine(t)
	var nodes []string
	for i := range 1000 {
		nodes = append(nodes, fmt.Sprintf("n%04d", i))
	}
	system, err := read[SystemConfiguration](t.Context(), m.nnf.api, kindSystem, SystemNamespace, "default")
	require.NoError(t, err)
	for _, node := range nodes {
		system.Spec.ExternalComputeNodes = append(system.Spec.ExternalComputeNodes, ExternalNode{node})
	}
	require.NoError(t, m.nnf.api.write(t.Context(), change{update, kindSystem, system}))
	w := m.submit("bb1", 1, 1001, "#DW jobdw type=lustre capacity=1TB name=scratch")
	m.fill("bb1-0", []ServersSet{
		{AllocationSize: 1e12, Label: "ost", Storage: []ServersStorage{{1, "r2"}}},
		{AllocationSize: 5368709120, Label: "mgtmdt", Storage: []ServersStorage{{1, "r1"}}},
	})
	w = m.pass(m.pass(w, Setup), DataIn)
	m.use(w, nodes...)
	w = m.pass(w, PreRun)
	assert.Len(t, m.nodes(), len(nodes)+1, "and the rabbit of the OST")
	m.end(w)
}

func TestT6NNFDoesNotLookAtTheHealthOfARabbit(t *testing.T) {
	for _, status := range []string{"Drained", "Offline", "Degraded"} {
		m := newMachine(t)
		m.annotateStorage("r1", StatusAnnotation, status)
		storage, err := read[Storage](t.Context(), m.nnf.api, kindStorage, SystemNamespace, "r1")
		require.NoError(t, err)
		assert.Equal(t, status, storage.Status.Status)
		assert.Equal(t, status == "Degraded", storage.Status.RebootRequired)
		m.end(m.setUp("bb1", onR1(1)))
	}
}

func TestT6ASecondMGSOnARabbitIsAnError(t *testing.T) {
	m := newMachine(t)
	lustre := func(name string) *Workflow {
		w := m.submit(name, 1, 1001, "#DW jobdw type=lustre capacity=1TB name=scratch")
		m.fill(name+"-0", []ServersSet{
			{AllocationSize: 1e12, Label: "ost", Storage: []ServersStorage{{1, "r2"}}},
			{AllocationSize: 5368709120, Label: "mgtmdt", Storage: []ServersStorage{{1, "r1"}}},
		})
		return m.desire(w, Setup)
	}
	first := lustre("bb1")
	require.True(t, first.Status.Ready)
	second := lustre("bb2")
	says(t, second, Error, "DW Directive 0: WLM error: could not allocate storage", "wlm error: storage resource error: default/bb2-0: "+
		"could not get available fsname: could not get NnfLustreMGT for address: r1@tcp: multiple MGTs found for address r1@tcp")
	m.delete(m.pass(first, Teardown))
	second = m.settle(second)
	assert.True(t, Ready(Setup)(second), "none is final")
	m.end(second)
}

func TestT21PoolsRunOut(t *testing.T) {
	m := newMachine(t)
	for range poolsOfRabbit {
		_, err := m.nnf.ledger.allocate("r1", poolKey{"default/other", "xfs", 0}, 1<<20, 1, false)
		require.NoError(t, err)
		m.nnf.ledger.rabbits["r1"].pools[len(m.nnf.ledger.rabbits["r1"].pools)-1].servers = "default/others"
	}
	w := m.submit("bb1", 1, 1001, jobXFS)
	m.place("bb1-0", "xfs", 50314572800, onR1(1))
	w = m.desire(w, Setup)
	says(t, w, DriverWait, "DW Directive 0: Internal error: could not allocate storage",
		"internal error: storage resource error: default/bb1-0: Node: r1: unable to allocate NVMe namespaces for allocation 0: could not create storage pool: "+
			"could not allocate storage pool: Error 500: Internal Server Error, Retry-Delay: 0s, Resource: #StorageService.v1_5_0.StorageService, "+
			"Cause: Failed to allocate storage volumes, Internal Error: Create Volume Failure: Could not find free namespace")
	m.nnf.ledger.release("default/others")
	assert.True(t, Ready(Setup)(m.settle(w)))
}

func TestFencedNodesFailGFS2(t *testing.T) {
	m := newMachine(t)
	w := m.submit("bb1", 1, 1001, "#DW jobdw type=gfs2 capacity=50GB name=scratch")
	m.place("bb1-0", "gfs2", 50314572800, onR1(2))
	w = m.pass(m.pass(w, Setup), DataIn)
	m.annotateStorage("r1", LinksAnnotation, "c03=Fenced")
	m.use(w, "c02", "c03")
	w = m.desire(w, PreRun)
	says(t, w, Error, "DW Directive 0: Internal error: Workflow failed: compute nodes [c03] were fenced during the job",
		"internal error: compute nodes have been fenced: [c03]")
	m.end(w)
}

func TestACopyThatFails(t *testing.T) {
	m := newMachine(t)
	w := m.submit("bb1", 1, 1001, jobXFS, "#DW copy_in source=/lus/global/in destination=$DW_JOB_scratch/in")
	m.place("bb1-0", "xfs", 50314572800, onR1(1))
	w = m.pass(w, Setup)
	m.annotateSystem(CopyAnnotation, "dcp failed (rig)")
	w = m.desire(w, DataIn)
	says(t, w, Error, "DW Directive 1: Internal error: data movement operation failed during 'DataIn', message: dcp failed (rig)",
		"internal error: data movement operation failed during 'DataIn', message: dcp failed (rig)")
	m.end(w)
}

func TestWatchersSeeEachStateBeginAndWait(t *testing.T) {
	m := newMachine(t)
	var seen []string
	m.saw = func(w *Workflow) {
		for _, driver := range driversOf(w, w.Status.State) {
			line := w.Status.State + " " + driver.Status + " " + driver.Message
			if len(seen) == 0 || seen[len(seen)-1] != line {
				seen = append(seen, line)
			}
		}
	}
	w := m.setUp("bb1", onR1(1))
	m.use(w, "c01")
	w = m.pass(m.pass(w, PreRun), PostRun)
	m.pass(m.pass(w, DataOut), Teardown)
	assert.Equal(t, []string{
		"Proposal Pending ", "Proposal Running status pending", "Proposal Completed ",
		"Setup Pending ", "Setup Running allocation set not ready", "Setup Completed ",
		"PreRun Pending ", "PreRun Running pending mount", "PreRun Completed ",
		"PostRun Pending ", "PostRun Running pending unmount", "PostRun Completed ",
		"Teardown Pending ", "Teardown Running delete", "Teardown Completed ",
	}, seen)
}

func TestADelayPostponesEachState(t *testing.T) {
	m := newMachine(t)
	w := m.submit("bb1", 1, 1001, jobXFS+" delay=1m")
	require.False(t, w.Status.Ready)
	assert.Equal(t, "DW Directive 0: status pending", w.Status.Message)
	m.now = m.now.Add(time.Minute)
	w = m.settle(w)
	require.True(t, Ready(Proposal)(w))
	m.place("bb1-0", "xfs", 50314572800, onR1(1))
	w = m.desire(w, Setup)
	require.False(t, w.Status.Ready)
	m.now = m.now.Add(time.Minute)
	require.True(t, Ready(Setup)(m.settle(w)))
}

func TestALustreWithAnMGSOfAPool(t *testing.T) {
	m := newMachine(t)
	lustre := func(name string) *Workflow {
		w := m.submit(name, 1, 1001, "#DW jobdw type=lustre capacity=1TB name=scratch profile=extpool")
		m.fill(name+"-0", []ServersSet{
			{AllocationSize: 1e12, Label: "ost", Storage: []ServersStorage{{1, "r2"}}},
			{AllocationSize: 5368709120, Label: "mdt", Storage: []ServersStorage{{1, "r2"}}},
		})
		return m.desire(w, Setup)
	}
	w := lustre("bb1")
	says(t, w, Error, "DW Directive 0: User error: no MGSs found for pool: mypool",
		"user error: could not create NnfStorage: CreateOrUpdate failed for NnfStorage: default/bb1-0: no MGSs found for pool: mypool")
	m.end(w)

	mgt := m.submit("bb2", 2, 1001, "#DW create_persistent type=lustre name=mgt1 profile=standalone")
	m.place("mgt1", "mgt", 5368709120, onR1(1))
	mgt = m.pass(mgt, Setup)
	for _, state := range []string{DataIn, PreRun, PostRun, DataOut, Teardown} {
		mgt = m.pass(mgt, state)
	}
	require.Empty(t, m.delete(mgt).Finalizers)
	assert.Equal(t, map[string]string{standaloneLabel: "mypool"}, m.instance("mgt1").Labels)

	w = lustre("bb3")
	require.True(t, w.Status.Ready, w.Status.Message)
	assert.Equal(t, []ObjectReference{{Kind: "NnfStorage", Namespace: "default", Name: "bb3-0"}}, m.instance("mgt1").Spec.ConsumerReferences)
	require.Empty(t, m.delete(m.pass(w, Teardown)).Finalizers)
	assert.Empty(t, m.instance("mgt1").Spec.ConsumerReferences)
}

func TestADriveThatIsTakenIsNotTakenTwice(t *testing.T) {
	l := newLedger(2 << 40)
	l.addRabbit("r1")
	granted := 0
	for i := range 100 {
		if _, err := l.allocate("r1", poolKey{string(rune('a' + i)), "xfs", 0}, 5<<40, 1, true); err == nil {
			granted++
		}
	}
	assert.Equal(t, 6, granted, "320 GiB of 16 drives each: 6 of them on a drive, on 18 drives")
	for _, free := range l.rabbits["r1"].free {
		assert.GreaterOrEqual(t, free, int64(0))
	}
}

func TestRabbitsAreNamedOnTheCommandLine(t *testing.T) {
	rabbits, err := ParseRabbits("r1=c01,c02;r2=c03")
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"r1": {"c01", "c02"}, "r2": {"c03"}}, rabbits)
	for _, wrong := range []string{"", "r1", "r1=", "=c01", "r1=c01;", "r1=c01;r1=c02"} {
		_, err := ParseRabbits(wrong)
		assert.Error(t, err, wrong)
	}
}
