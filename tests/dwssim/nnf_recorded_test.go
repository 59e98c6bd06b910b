package dwssim

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// kindOf finds a kind by its name.
func kindOf(t *testing.T, name string) kind {
	t.Helper()
	for _, k := range nnfKinds {
		if k.name == name {
			return k
		}
	}
	require.Fail(t, "no such kind", name)
	return kind{}
}

// proposal is one kind of directive after Proposal.
type proposal struct {
	Objects []map[string]any `json:"objects"`
	// The Servers and the instance of a create_persistent that was carried on with.
	AfterSetup []map[string]any `json:"after-setup"`
}

func TestBreakdownsAreThoseOfNNF(t *testing.T) {
	proposals := recorded[proposal](t, "proposals.json")
	for name, expected := range proposals {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for _, instance := range []string{"create-xfs", "create-gfs2", "create-lustre"} {
				if name != instance {
					m.provide(proposals[instance].AfterSetup)
				}
			}
			want := &Workflow{}
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(expected.Objects[0], want))
			if name == "persistentdw-xfs-while-creating" {
				m.creating("pxfs")
			}
			w := m.submit(want.Name, want.Spec.JobID.IntVal, want.Spec.UserID, want.Spec.DWDirectives...)
			require.True(t, Ready(Proposal)(w), w.Status.Message)
			for _, object := range expected.Objects {
				recorded := &unstructured.Unstructured{Object: object}
				switch recorded.GetKind() {
				case "Workflow":
					same(t, object, w)
				case "PersistentStorageInstance":
					if name == "persistentdw-xfs-while-creating" || name == "destroy-xfs" {
						continue // that was another Workflow's
					}
					same(t, object, m.get(kindPersistent, "default", recorded.GetName()))
				default:
					same(t, object, m.get(kindOf(t, recorded.GetKind()), "default", recorded.GetName()))
				}
			}
		})
	}
}

// provide puts persistent instances and their Servers there, as a create_persistent leaves them.
func (m *machine) provide(objects []map[string]any) {
	m.t.Helper()
	for _, object := range objects {
		made := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(object)}
		k := kindOf(m.t, made.GetKind())
		if k == kindPersistent {
			made.SetLabels(nil)
			made.SetOwnerReferences(nil)
		}
		require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{create, k, made}))
	}
	m.recoverLedger()
}

func (m *machine) recoverLedger() {
	m.t.Helper()
	require.NoError(m.t, m.nnf.recover(m.t.Context()))
}

// creating sets an instance back to where it has no storage yet.
func (m *machine) creating(name string) {
	m.t.Helper()
	instance := m.instance(name)
	instance.Status.State = "Creating"
	require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{updateStatus, kindPersistent, instance}))
}

func TestProposalRefusalsAreThoseOfNNF(t *testing.T) {
	type refusal struct {
		Directives      []string
		UserID          uint32
		Verdict         string
		Status, Message string
		Drivers         []Driver
		Breakdowns      []*ResourceError `json:"breakdownErrors"`
	}
	instances := recorded[proposal](t, "proposals.json")["create-xfs"].AfterSetup
	for name, expected := range recorded[refusal](t, "proposal-refusals.json") {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.provide(instances)
			m.nnf.options.NoTLSSecret = name == "requires without the TLS secret in default"
			if expected.UserID == 0 {
				expected.UserID = 1001
			}
			w := m.submit("bb201", 201, expected.UserID, expected.Directives...)
			assert.Equal(t, expected.Verdict == "ready", w.Status.Ready)
			assert.Equal(t, expected.Status, w.Status.Status)
			assert.Equal(t, expected.Message, w.Status.Message)
			got := driversOf(w, Proposal)
			require.Len(t, got, len(expected.Drivers))
			for i, driver := range expected.Drivers {
				if driver.Status == Running {
					continue // it was on its way to Completed
				}
				assert.Equal(t, driver, got[i])
			}
			for i, expected := range expected.Breakdowns {
				made, err := read[DirectiveBreakdown](t.Context(), m.nnf.api, kindBreakdown, "default", nameOf(w, i))
				require.NoError(t, err)
				assert.Equal(t, expected, made.Status.Error)
			}
		})
	}
}

// driversOf are NNF's drivers of a state, without times.
func driversOf(w *Workflow, state string) []Driver {
	var drivers []Driver
	for _, driver := range w.Status.Drivers {
		if driver.WatchState == state {
			driver.CompleteTime = nil
			drivers = append(drivers, driver)
		}
	}
	return drivers
}

func TestSetupAnswersAsNNFDoes(t *testing.T) {
	type outcome struct {
		Directives      []string
		AllocationSets  []ServersSet
		Verdict         string
		Status, Message string
		Drivers         []Driver
		ServersStatus   map[string]any
	}
	for name, expected := range recorded[outcome](t, "setup.json") {
		if name == "CRD validation of the patch" {
			continue // see TestNNFOnAnAPIServer
		}
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, expected.Directives...)
			require.True(t, Ready(Proposal)(w))
			m.fill("bb1-0", expected.AllocationSets)
			w = m.desire(w, Setup)
			assert.Equal(t, expected.Verdict == "ready", w.Status.Ready)
			assert.Equal(t, expected.Status, w.Status.Status)
			assert.Equal(t, expected.Message, w.Status.Message)
			for i := range expected.Drivers {
				expected.Drivers[i].Error = asHere(expected.Drivers[i].Error)
			}
			got := driversOf(w, Setup)
			for i := range got {
				got[i].Error = asHere(got[i].Error)
			}
			assert.Equal(t, expected.Drivers, got)
			same(t, expected.ServersStatus, m.servers("bb1-0").Status)
			w = m.pass(w, Teardown)
			w = m.delete(w)
			assert.Empty(t, w.Finalizers)
			m.allFree()
		})
	}
}

var (
	recordedName = regexp.MustCompile(`bb\d+-0`)
	// What was free then depends on what else was there.
	recordedFree = regexp.MustCompile(`Available: \d+`)
)

func asHere(text string) string {
	text = recordedName.ReplaceAllString(text, "bb1-0")
	if !strings.Contains(text, "Requested: 1168231104512") { // two pools: what the first has left
		text = recordedFree.ReplaceAllString(text, "Available: FREE")
	}
	return text
}

func TestPlacementsAreAcceptedAsByNNF(t *testing.T) {
	type placement struct {
		Directives   []string
		Servers      map[string][]ServersSet
		Status       map[string]map[string]any `json:"Servers.status"`
		Nodes        []string
		ClientMounts [][]any // node, number of mounts, whether all are ready
	}
	for name, expected := range recorded[placement](t, "vectors.json") {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, expected.Directives...)
			for servers, sets := range expected.Servers {
				m.fill(strings.Replace(servers, "WF", "bb1", 1), sets)
			}
			w = m.pass(w, Setup)
			for servers, status := range expected.Status {
				same(t, status, m.servers(regexp.MustCompile(`^bb\d+`).ReplaceAllString(servers, "bb1")).Status)
			}
			w = m.pass(w, DataIn)
			if expected.Nodes != nil {
				m.use(w, expected.Nodes...)
				w = m.pass(w, PreRun)
				mounts := [][]any{}
				for _, mount := range m.mounts() {
					mounts = append(mounts, []any{mount.Namespace, float64(len(mount.Spec.Mounts)), mount.Status.AllReady})
				}
				assert.ElementsMatch(t, expected.ClientMounts, mounts)
				w = m.pass(w, PostRun)
			}
			w = m.pass(w, Teardown)
			m.delete(w)
			assert.Empty(t, m.mounts())
			if !strings.Contains(expected.Directives[0], "create_persistent") {
				m.allFree()
			}
		})
	}
}

func TestLivesAreThoseOfNNF(t *testing.T) {
	type state struct {
		Servers      []map[string]any
		Workflow     json.RawMessage
		ClientMounts []map[string]any
	}
	type life struct {
		Nodes                            []string
		Setup, PreRun, PostRun, Teardown state
	}
	for name, expected := range recorded[life](t, "lives.json") {
		t.Run(name, func(t *testing.T) {
			recorded := workflowOf(t, expected.Setup.Workflow)
			m := newMachine(t)
			w := m.submit(recorded.Name, recorded.Spec.JobID.IntVal, recorded.Spec.UserID, recorded.Spec.DWDirectives...)
			servers := Servers{}
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(expected.Setup.Servers[0], &servers))
			m.fill(nameOf(w, 0), servers.Spec.AllocationSets)
			check := func(at state) {
				t.Helper()
				same(t, asMap(t, at.Workflow), w)
				same(t, at.Servers[0]["status"], m.servers(nameOf(w, 0)).Status)
				if at.ClientMounts == nil {
					return
				}
				mounts := m.mounts()
				require.Len(t, mounts, len(at.ClientMounts))
				for _, object := range at.ClientMounts {
					mount := &unstructured.Unstructured{Object: object}
					got := m.get(kindClientMount, mount.GetNamespace(), mount.GetName())
					if mount.GetKind() == "" { // of the others, only the state was kept
						assert.Equal(t, object["status"], simplify(got["status"]))
						assert.Equal(t, "unmounted", got["spec"].(map[string]any)["desiredState"])
						continue
					}
					same(t, object, got)
				}
			}
			w = m.pass(w, Setup)
			check(expected.Setup)
			w = m.pass(w, DataIn)
			m.use(w, expected.Nodes...)
			w = m.pass(w, PreRun)
			check(expected.PreRun)
			w = m.pass(w, PostRun)
			check(expected.PostRun)
			w = m.pass(w, DataOut)
			w = m.pass(w, Teardown)
			check(expected.Teardown)
			w = m.delete(w)
			assert.Empty(t, w.Finalizers)
			m.allFree()
		})
	}
}

// asMap is the one object of a recorded state.
func asMap(t *testing.T, text json.RawMessage) map[string]any {
	t.Helper()
	objects := []map[string]any{}
	if json.Unmarshal(text, &objects) == nil {
		return objects[0]
	}
	object := map[string]any{}
	require.NoError(t, json.Unmarshal(text, &object))
	return object
}

func workflowOf(t *testing.T, text json.RawMessage) *Workflow {
	t.Helper()
	w := &Workflow{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(asMap(t, text), w))
	return w
}
