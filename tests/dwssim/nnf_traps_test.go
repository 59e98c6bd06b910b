package dwssim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

const unable = "DW Directive 0: Internal error: unable to mount file system on client nodes"

func TestWrongNodesHangPreRunUntilComputesIsRight(t *testing.T) {
	tests := []struct {
		name         string
		nodes        []string
		message, err string
		mounted      []string // meanwhile
		mended       []string
	}{
		{"T4: the rabbit of a node has no allocation", []string{"c01", "c05"}, unable,
			`internal error: unable to create ClientMount resources: ClientMount.dataworkflowservices.github.io "default-bb1-0-computes" is invalid: ` +
				`spec.mounts: Invalid value: 0: spec.mounts in body should have at least 1 items`, []string{"c01"}, []string{"c01"}},
		{"T4: a node that is nowhere", []string{"c02", "zzz"}, unable,
			`internal error: unable to create ClientMount resources: namespaces "zzz" not found`, []string{"c02"}, []string{"c02"}},
		{"T5: more nodes than allocations", []string{"c01", "c02", "c03"}, "DW Directive 0: pending mount", "", nil, []string{"c01", "c02"}},
		{"T5: a node twice", []string{"c02", "c02"}, "DW Directive 0: pending mount", "", []string{"c02"}, []string{"c02"}},
		{"an external node has no local storage", []string{"c01", "x01"}, unable,
			`internal error: unable to create ClientMount resources: ClientMount.dataworkflowservices.github.io "default-bb1-0-computes" is invalid: ` +
				`spec.mounts: Invalid value: 0: spec.mounts in body should have at least 1 items`, []string{"c01"}, []string{"c01"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			w := m.setUp("bb1", onR1(2))
			m.use(w, test.nodes...)
			w = m.desire(w, PreRun)
			says(t, w, DriverWait, test.message, test.err)
			assert.Contains(t, w.Status.Env, "DW_JOB_scratch", "T9: it is there before the mounts are")
			assert.Equal(t, test.mounted, m.nodes())
			m.use(w, test.mended...)
			w = m.settle(w)
			assert.True(t, Ready(PreRun)(w), w.Status.Message)
			assert.Equal(t, test.mended, m.nodes())
			m.end(w)
		})
	}
}

// nodes are those with a ClientMount.
func (m *machine) nodes() []string {
	m.t.Helper()
	var nodes []string
	for _, mount := range m.mounts() {
		nodes = append(nodes, mount.Namespace)
	}
	return nodes
}

func TestFewerNodesThanAllocationsOrNoneAreAccepted(t *testing.T) {
	for _, nodes := range [][]string{{"c02"}, {}} {
		m := newMachine(t)
		w := m.setUp("bb1", onR1(2))
		m.use(w, nodes...)
		w = m.pass(w, PreRun)
		assert.Len(t, m.nodes(), len(nodes))
		m.end(w)
	}
}

func TestANodeThatIsAddedLaterIsMountedToo(t *testing.T) {
	m := newMachine(t)
	w := m.setUp("bb1", onR1(2))
	m.use(w, "c02")
	w = m.pass(w, PreRun)
	m.use(w, "c02", "c03")
	w = m.settle(w)
	assert.Equal(t, []string{"c02", "c03"}, m.nodes())
	m.end(w)
}

func TestANodeThatDoesNotMount(t *testing.T) {
	begin := func(t *testing.T) (*machine, *Workflow) {
		m := newMachine(t)
		w := m.setUp("bb1", onR1(2))
		m.hang("c03")
		m.use(w, "c02", "c03")
		w = m.desire(w, PreRun)
		says(t, w, DriverWait, "DW Directive 0: pending mount", "")
		return m, w
	}
	t.Run("T23: is dropped from Computes", func(t *testing.T) {
		m, w := begin(t)
		m.use(w, "c02")
		w = m.settle(w)
		require.True(t, Ready(PreRun)(w))
		w = m.pass(w, PostRun)
		assert.Equal(t, mounted, m.mounts()[1].Spec.DesiredState, "it is left alone")
		m.end(w)
	})
	t.Run("is disabled: PreRun waits, and after forceReady PostRun", func(t *testing.T) {
		m, w := begin(t)
		m.disable("c03")
		w = m.settle(w)
		require.False(t, w.Status.Ready)
		w.Spec.ForceReady = true
		w = m.settle(w)
		require.True(t, Ready(PreRun)(w))
		assert.Equal(t, "Forced Ready", w.Status.Message)
		w = m.desire(w, PostRun)
		says(t, w, DriverWait, "DW Directive 0: pending unmount", "")
		m.end(w) // it never touched the mount
	})
	t.Run("is a transient condition after five minutes, and heals", func(t *testing.T) {
		m, w := begin(t)
		m.now = m.now.Add(5 * time.Minute)
		w = m.settle(w)
		says(t, w, TransientCondition, unable,
			"internal error: unable to check ClientMount status: Node: c03: ClientMount has not been reconciled after 300 seconds")
		m.hang()
		w = m.settle(w)
		assert.True(t, Ready(PreRun)(w))
		m.end(w)
	})
}

func TestANodeThatDiesWhileItHasMounted(t *testing.T) {
	begin := func(t *testing.T, state, message string) (*machine, *Workflow) {
		m := newMachine(t)
		w := m.setUp("bb1", onR1(2))
		m.use(w, "c02", "c03")
		w = m.pass(w, PreRun)
		m.hang("c03")
		w = m.desire(w, state)
		says(t, w, DriverWait, "DW Directive 0: "+message, "")
		return m, w
	}
	t.Run("PostRun waits until SystemStatus disables it", func(t *testing.T) {
		m, w := begin(t, PostRun, pendingUnmount)
		m.disable("c03")
		w = m.settle(w)
		assert.True(t, Ready(PostRun)(w))
		m.end(w)
	})
	t.Run("PostRun waits until it is dropped from Computes; Teardown still does", func(t *testing.T) {
		m, w := begin(t, PostRun, pendingUnmount)
		m.use(w, "c02")
		w = m.settle(w)
		require.True(t, Ready(PostRun)(w))
		w = m.desire(w, Teardown)
		says(t, w, DriverWait, "DW Directive 0: delete", "")
		assert.Equal(t, []string{"c03"}, m.nodes())
		m.hang()
		m.end(m.settle(w))
	})
	t.Run("Teardown waits, hurry or not, until SystemStatus disables it", func(t *testing.T) {
		m, w := begin(t, Teardown, "delete")
		w.Spec.Hurry = true
		w = m.settle(w)
		require.False(t, w.Status.Ready)
		m.disable("c03")
		m.end(m.settle(w))
	})
	t.Run("a deletion without Teardown waits too", func(t *testing.T) {
		m, w := begin(t, PostRun, pendingUnmount)
		w = m.delete(w)
		assert.Contains(t, w.Finalizers, workflowFinalizer)
		m.hang()
		w = m.settle(w)
		assert.Empty(t, w.Finalizers)
		m.allFree()
	})
}

func TestAnErrorOfANodeIsTold(t *testing.T) {
	m := newMachine(t)
	w := m.setUp("bb1", onR1(2))
	m.hang("c03")
	m.use(w, "c02", "c03")
	w = m.desire(w, PreRun)
	mount := m.mounts()[1]
	mount.Status = &ClientMountStatus{Mounts: []MountStatus{{State: mounted}},
		Error: &ResourceError{Type: "Internal", Severity: "Minor", DebugMessage: "mount failed (rig)"}}
	require.NoError(t, m.nnf.api.write(t.Context(), change{updateStatus, kindClientMount, mount}))
	w = m.settle(w)
	says(t, w, DriverWait, "DW Directive 0: Internal error: mount/unmount failed",
		"internal error: unable to check ClientMount status: Node: c03: mount failed (rig)")
}

func TestT19AWorkflowInANamespaceThatNodesDoNotSeeNeverEnds(t *testing.T) {
	m := newMachine(t)
	m.nnf.options.Namespaces = []string{"elsewhere"}
	w := m.setUp("bb1", onR1(1))
	m.use(w, "c01")
	w = m.desire(w, PreRun)
	says(t, w, TransientCondition, unable, "internal error: unable to check ClientMount status: Node: c01: mount/unmount failed: "+
		"unable to build NnfNodeStorage: unable to find pinned storage profile: unable to get: default/bb1-0 because of unknown namespace for the cache")
	w = m.desire(w, Teardown)
	assert.False(t, w.Status.Ready)
}

func TestT22AnExternalNodeHangsPostRunUntilItIsDropped(t *testing.T) {
	m := newMachine(t)
	w := m.submit("bb1", 1, 1001, "#DW jobdw type=lustre capacity=1TB name=scratch")
	m.fill("bb1-0", []ServersSet{
		{AllocationSize: 1e12, Label: "ost", Storage: []ServersStorage{{1, "r2"}}},
		{AllocationSize: 5368709120, Label: "mgtmdt", Storage: []ServersStorage{{1, "r1"}}},
	})
	w = m.pass(m.pass(w, Setup), DataIn)
	m.use(w, "c02", "x01")
	w = m.pass(w, PreRun)
	assert.Equal(t, []string{"c02", "r2", "x01"}, m.nodes())
	w = m.desire(w, PostRun)
	says(t, w, DriverWait, "DW Directive 0: pending unmount", "")
	m.use(w, "c02")
	w = m.settle(w)
	assert.True(t, Ready(PostRun)(w))
	m.end(w)
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

// created is a persistent xfs with two allocations on r1 and one on r2.
func (m *machine) created(name string) {
	m.t.Helper()
	w := m.submit("create-"+name, 1, 1001, "#DW create_persistent type=xfs capacity=50GB name="+name)
	m.place(name, "xfs", 50314572800, onR1(2), ServersStorage{1, "r2"})
	w = m.pass(w, Setup)
	for _, state := range []string{DataIn, PreRun, PostRun, DataOut, Teardown} {
		w = m.pass(w, state)
	}
	require.Empty(m.t, m.delete(w).Finalizers)
	instance := m.instance(name)
	require.NotNil(m.t, instance)
	assert.Equal(m.t, "Active", instance.Status.State)
	assert.Empty(m.t, instance.OwnerReferences)
}

func TestAPersistentInstanceIsUsed(t *testing.T) {
	m := newMachine(t)
	m.created("pp")
	first := m.submit("bb1", 1, 1001, "#DW persistentdw name=pp")
	first = m.pass(first, Setup)
	assert.Equal(t, []ObjectReference{{Kind: "Workflow", Namespace: "default", Name: "bb1-0"}}, m.instance("pp").Spec.ConsumerReferences)
	m.use(first, "c02", "c03", "c05")
	first = m.pass(m.pass(first, DataIn), PreRun)
	path := mountPath(first, 0)
	assert.Equal(t, map[string]string{
		"DW_PERSISTENTS": "pp:" + path, "DW_PERSISTENT_": path, "DW_PERSISTENT_pp": path,
		"DW_WORKFLOW_NAME": "bb1", "DW_WORKFLOW_NAMESPACE": "default",
	}, first.Status.Env)

	second := m.submit("bb2", 2, 1001, "#DW persistentdw name=pp")
	second.UID = "UID2"
	second = m.pass(m.pass(second, Setup), DataIn)
	m.use(second, "c02")
	second = m.desire(second, PreRun)
	says(t, second, DriverWait, "DW Directive 0: pending mount", "")

	destroy := m.submit("bb3", 3, 1001, "#DW destroy_persistent name=pp")
	destroy = m.desire(destroy, Teardown)
	says(t, destroy, Error, "DW Directive 0: User error: persistent storage cannot be deleted while in use",
		"user error: persistent storage cannot be deleted with 2 consumers: PersistentStorage cannot be deleted with 2 consumers")
	require.Empty(t, m.delete(destroy).Finalizers)
	require.NotNil(t, m.instance("pp"))

	first = m.pass(first, PostRun)
	second = m.settle(second)
	require.True(t, Ready(PreRun)(second), "the first has unmounted")
	for _, w := range []*Workflow{first, second} {
		require.Empty(t, m.delete(m.pass(w, Teardown)).Finalizers)
	}
	assert.Empty(t, m.instance("pp").Spec.ConsumerReferences)

	other := m.submit("bb4", 4, 2002, "#DW destroy_persistent name=pp")
	other = m.desire(other, Teardown)
	says(t, other, Error, "DW Directive 0: User error: user ID does not match existing persistent storage",
		"user error: Existing persistent storage user ID 1001 does not match user ID 2002")
	m.delete(other)

	m.end(m.submit("bb5", 5, 1001, "#DW destroy_persistent name=pp"))
	assert.Nil(t, m.instance("pp"))
}

func TestAnInstanceMayBeOpenToOtherUsers(t *testing.T) {
	m := newMachine(t)
	m.created("pp")
	instance := m.instance("pp")
	instance.Annotations = map[string]string{ignoreUIDAnnotation: "true"}
	require.NoError(t, m.nnf.api.write(t.Context(), change{update, kindPersistent, instance}))
	assert.True(t, m.submit("bb1", 1, 2002, "#DW persistentdw name=pp").Status.Ready)
}

func TestT3AnInstanceMustBeActiveInSetup(t *testing.T) {
	m := newMachine(t)
	m.created("pp")
	instance := m.instance("pp")
	instance.Status.State = "Degraded"
	require.NoError(t, m.nnf.api.write(t.Context(), change{updateStatus, kindPersistent, instance}))
	w := m.submit("bb1", 1, 1001, "#DW persistentdw name=pp")
	require.True(t, Ready(Proposal)(w))
	w = m.desire(w, Setup)
	says(t, w, Error, "DW Directive 0: User error: PersistentStorage is not active", "user error: PersistentStorage is not active")
}

func TestT18ADestroyActsInTeardownWhateverCameBefore(t *testing.T) {
	for name, test := range map[string]struct {
		directives []string
		teardown   bool
		survives   bool
	}{
		"refused in Proposal":          {[]string{"#DW destroy_persistent name=pp", jobXFS}, true, false},
		"cancelled in Proposal":        {[]string{"#DW destroy_persistent name=pp"}, true, false},
		"deleted, and never torn down": {[]string{"#DW destroy_persistent name=pp"}, false, true},
		"refused, and never torn down": {[]string{"#DW destroy_persistent name=pp", jobXFS}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.created("pp")
			w := m.submit("bb1", 1, 1001, test.directives...)
			if test.teardown {
				w = m.pass(w, Teardown)
			}
			require.Empty(t, m.delete(w).Finalizers)
			assert.Equal(t, test.survives, m.instance("pp") != nil)
			if !test.survives {
				m.allFree()
			}
		})
	}
}

func TestT16CreatingAnInstanceAgainChangesItsDirectiveOnly(t *testing.T) {
	m := newMachine(t)
	m.created("pp")
	before := m.servers("pp").Spec
	const more = "#DW create_persistent type=xfs capacity=80GB name=pp"
	w := m.submit("bb1", 1, 1001, more)
	require.True(t, Ready(Proposal)(w))
	assert.Equal(t, more, m.instance("pp").Spec.DWDirective)
	assert.Equal(t, before, m.servers("pp").Spec)
	w = m.desire(w, Setup)
	says(t, w, Error, "DW Directive 0: WLM error: storage directive requirements were not satisfied",
		"wlm error: invalid Rabbit allocations for servers: default/pp: allocation set xfs specified insufficient capacity")
	require.Empty(t, m.delete(m.pass(w, Teardown)).Finalizers)
	assert.Equal(t, "Active", m.instance("pp").Status.State)
}

func TestACreateThatIsNotCarriedThroughLeavesNothing(t *testing.T) {
	const create = "#DW create_persistent type=xfs capacity=50GB name=pp"
	for name, run := range map[string]func(*machine, *Workflow) *Workflow{
		"Teardown from Proposal":        func(m *machine, w *Workflow) *Workflow { return m.pass(w, Teardown) },
		"Teardown after a failed Setup": func(m *machine, w *Workflow) *Workflow { return m.pass(m.desire(w, Setup), Teardown) },
		"deletion after Setup": func(m *machine, w *Workflow) *Workflow {
			m.place("pp", "xfs", 50314572800, onR1(1))
			return m.pass(w, Setup)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := run(m, m.submit("bb1", 1, 1001, create))
			require.Empty(t, m.delete(w).Finalizers)
			assert.Nil(t, m.instance("pp"))
			_, err := m.nnf.api.of(kindServers, "default").Get(t.Context(), "pp", metav1.GetOptions{})
			assert.Error(t, err)
			m.allFree()
		})
	}
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

func TestT10TheTokenComesWithAContainerThatRequiresIt(t *testing.T) {
	const (
		gfs2      = "#DW jobdw type=gfs2 capacity=50GB name=scratch"
		container = "#DW container name=box profile=example-success DW_JOB_foo_local_storage=scratch"
	)
	for name, test := range map[string]struct {
		directives []string
		token      bool
	}{
		"required, with a container":    {[]string{gfs2 + " requires=copy-offload", container}, true},
		"required, without a container": {[]string{gfs2 + " requires=copy-offload"}, false},
		"a container alone":             {[]string{gfs2, container}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, test.directives...)
			assert.Nil(t, w.Status.WorkflowToken)
			m.place("bb1-0", "gfs2", 50314572800, onR1(1), ServersStorage{1, "r2"})
			w = m.pass(w, Setup)
			secrets := m.nnf.api.of(kindSecret, "default")
			if !test.token {
				assert.Nil(t, w.Status.WorkflowToken)
				_, err := secrets.Get(t.Context(), "bb1-token", metav1.GetOptions{})
				assert.Error(t, err)
				return
			}
			assert.Equal(t, &WorkflowToken{SecretName: "bb1-token", SecretNamespace: "default"}, w.Status.WorkflowToken)
			text := func(secret, field string) string {
				object, err := secrets.Get(t.Context(), secret, metav1.GetOptions{})
				require.NoError(t, err)
				return object.Object["stringData"].(map[string]any)[field].(string)
			}
			token := text("bb1-token", "token")
			parts := strings.Split(token, ".")
			require.Len(t, parts, 3)
			signature := hmac.New(sha256.New, []byte(text("bb1-token-server", "token.key")))
			signature.Write([]byte(parts[0] + "." + parts[1]))
			assert.Equal(t, base64.RawURLEncoding.EncodeToString(signature.Sum(nil)), parts[2])
			w = m.pass(w, DataIn)
			m.use(w, "c01", "c05")
			w = m.pass(m.pass(w, PreRun), Teardown)
			text("bb1-token", "token") // it outlives Teardown
			m.end(w)
			_, err := secrets.Get(t.Context(), "bb1-token", metav1.GetOptions{})
			assert.Error(t, err)
		})
	}
}

func TestAContainersVariables(t *testing.T) {
	for name, test := range map[string]struct {
		profile string
		nodes   []string
		env     map[string]string
	}{
		"on the rabbits of the nodes": {"example-success", []string{"c05", "c01", "c02"}, map[string]string{
			"NNF_CONTAINER_DOMAIN": "default.svc.cluster.local", "NNF_CONTAINER_HOSTNAMES": "r1,r2", "NNF_CONTAINER_SUBDOMAIN": "bb1"}},
		"of MPI": {"example-mpi", []string{"c02"}, map[string]string{
			"NNF_CONTAINER_DOMAIN": "default.svc.cluster.local", "NNF_CONTAINER_HOSTNAMES": "bb1-launcher,bb1-worker-0", "NNF_CONTAINER_SUBDOMAIN": "bb1",
			"NNF_CONTAINER_PORTS": "5000", "NNF_CONTAINER_PORTS_example_mpi": "5000"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, "#DW jobdw type=gfs2 capacity=50GB name=scratch",
				"#DW container name=box profile="+test.profile+" DW_JOB_foo_local_storage=scratch")
			m.place("bb1-0", "gfs2", 50314572800, onR1(2), ServersStorage{1, "r2"})
			w = m.pass(m.pass(w, Setup), DataIn)
			for variable := range test.env {
				assert.NotContains(t, w.Status.Env, variable)
			}
			w = m.desire(w, PreRun)
			says(t, w, Error, "DW Directive 1: WLM error: unable to create/update Container Jobs: wlm error: error obtaining the target NNF nodes for containers: "+
				"the Computes resources does not specify any compute nodes",
				"wlm error: error obtaining the target NNF nodes for containers: the Computes resources does not specify any compute nodes")
			m.use(w, test.nodes...)
			w = m.settle(w)
			require.True(t, Ready(PreRun)(w), w.Status.Message)
			for variable, value := range test.env {
				assert.Equal(t, value, w.Status.Env[variable])
			}
			m.end(w)
		})
	}
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
