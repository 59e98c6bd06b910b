package dwssim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
