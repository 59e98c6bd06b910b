package dwssim

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
