package dwssim

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// recordedRabbits is the machine that the recordings of NNF were made on.
var recordedRabbits = map[string][]string{
	"r1": {"c01", "c02", "c03", "c04"}, "r2": {"c05", "c06", "c07", "c08"}, "r3": {"c09", "c10", "c11", "c12"},
}

// machine is NNF and DWS with one clock, and objects in memory.
type machine struct {
	t   *testing.T
	nnf *nnf
	now time.Time
	// saw gets each Workflow that is written, if set.
	saw func(*Workflow)
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	options := NNF{Rabbits: recordedRabbits, External: []string{"x01"}}
	m := &machine{t: t, nnf: newNNF(options, api{&memory{objects: map[memoryKey]*unstructured.Unstructured{}}, "v1alpha7"}, t.Logf), now: epoch}
	require.NoError(t, m.nnf.install(t.Context()))
	m.refresh()
	return m
}

// refresh is what follows a change of a Storage or the SystemConfiguration.
func (m *machine) refresh() {
	m.t.Helper()
	for range 2 {
		require.NoError(m.t, m.nnf.keepStorages(m.t.Context()))
	}
}

// submit creates a Workflow as a workload manager does, and lets it come to rest.
func (m *machine) submit(name string, jobID int32, user uint32, directives ...string) *Workflow {
	m.t.Helper()
	w := &Workflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/v1alpha7", Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "UID"},
		Spec: WorkflowSpec{DesiredState: Proposal, WLMID: "slurm", JobID: intstr.FromInt32(jobID),
			UserID: user, GroupID: 1001, DWDirectives: directives},
	}
	require.NoError(m.t, normal.validateCreate(w))
	require.NoError(m.t, normal.mutateCreate(w))
	return m.settle(w)
}

// desire asks for a state and lets the Workflow come to rest.
func (m *machine) desire(w *Workflow, state string) *Workflow {
	m.t.Helper()
	return m.settle(desire(m.t, w, state))
}

// pass does the same, and demands that the state is reached.
func (m *machine) pass(w *Workflow, state string) *Workflow {
	m.t.Helper()
	w = m.desire(w, state)
	require.True(m.t, Ready(state)(w), "%s: %s %+v", state, w.Status.Message, w.Status.Drivers)
	return w
}

// settle carries out all plans until there is nothing left to do now.
func (m *machine) settle(w *Workflow) *Workflow {
	m.t.Helper()
	for range 100 {
		m.now = m.now.Add(time.Millisecond)
		write, acted := m.act(w)
		if write != nil {
			if w.DeletionTimestamp == nil {
				require.NoError(m.t, normal.validateUpdate(w, write))
			}
			w = write
			if m.saw != nil {
				m.saw(w)
			}
		} else if !acted {
			return w
		}
	}
	require.Fail(m.t, "the machine does not come to rest")
	return nil
}

func (m *machine) act(w *Workflow) (*Workflow, bool) {
	m.t.Helper()
	if p := next(w, m.now, true); p.write != nil {
		computes := m.nnf.api.client.Resource(ComputesResource("v1alpha7")).Namespace(w.Namespace)
		if p.createComputes {
			object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": Group + "/v1alpha7", "kind": "Computes"}}
			object.SetName(w.Name)
			_, err := computes.Create(m.t.Context(), object, metav1.CreateOptions{})
			require.NoError(m.t, err)
		}
		if p.deleteComputes {
			require.NoError(m.t, computes.Delete(m.t.Context(), w.Name, metav1.DeleteOptions{}))
		}
		return p.write, true
	}
	s, err := m.nnf.act(m.t.Context(), w, m.now)
	require.NoError(m.t, err)
	return s.write, len(s.changes) > 0
}

// delete deletes a Workflow and lets it come to rest; it is gone if it has no finalizers then.
func (m *machine) delete(w *Workflow) *Workflow {
	m.t.Helper()
	w = w.deepCopy()
	w.DeletionTimestamp = &metav1.Time{Time: m.now}
	return m.settle(w)
}

// fill writes allocation sets into a Servers.
func (m *machine) fill(name string, sets []ServersSet) {
	m.t.Helper()
	servers := m.servers(name)
	servers.Spec.AllocationSets = sets
	require.NoError(m.t, m.nnf.api.write(m.t.Context(), change{update, kindServers, servers}))
}

// place fills the Servers with one set on these rabbits.
func (m *machine) place(name, label string, size int64, storage ...ServersStorage) {
	m.t.Helper()
	m.fill(name, []ServersSet{{AllocationSize: size, Label: label, Storage: storage}})
}

func (m *machine) servers(name string) *Servers {
	m.t.Helper()
	servers, err := read[Servers](m.t.Context(), m.nnf.api, kindServers, "default", name)
	require.NoError(m.t, err)
	require.NotNil(m.t, servers, "Servers %s", name)
	return servers
}

func (m *machine) instance(name string) *PersistentStorageInstance {
	m.t.Helper()
	instance, err := read[PersistentStorageInstance](m.t.Context(), m.nnf.api, kindPersistent, "default", name)
	require.NoError(m.t, err)
	return instance
}

// use writes the job's nodes into the Computes.
func (m *machine) use(w *Workflow, nodes ...string) {
	m.t.Helper()
	computes := m.nnf.api.client.Resource(ComputesResource("v1alpha7")).Namespace(w.Namespace)
	object, err := computes.Get(m.t.Context(), w.Name, metav1.GetOptions{})
	require.NoError(m.t, err)
	data := []any{}
	for _, node := range nodes {
		data = append(data, map[string]any{"name": node})
	}
	object.Object["data"] = data
	_, err = computes.Update(m.t.Context(), object, metav1.UpdateOptions{})
	require.NoError(m.t, err)
}

func (m *machine) mounts() []*ClientMount {
	m.t.Helper()
	mounts, err := list[ClientMount](m.t.Context(), m.nnf.api, kindClientMount, "", "")
	require.NoError(m.t, err)
	slices.SortFunc(mounts, func(a, b *ClientMount) int { return strings.Compare(a.Namespace, b.Namespace) })
	return mounts
}

// allFree demands that no byte of any rabbit is taken.
func (m *machine) allFree() {
	m.t.Helper()
	for rabbit := range recordedRabbits {
		assert.EqualValues(m.t, drivesOfRabbit*m.nnf.options.DriveBytes, m.nnf.ledger.free(rabbit), rabbit)
	}
}

// recorded reads a file of recordings into a map.
func recorded[T any](t *testing.T, name string) map[string]T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "nnf", name))
	require.NoError(t, err)
	entries := map[string]T{}
	require.NoError(t, json.Unmarshal(text, &entries))
	require.NotEmpty(t, entries)
	return entries
}

// omitted are fields that the recordings do not have.
var omitted = []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "lastUpdate",
	"lastHB", "taskID", "completeTime", "desiredStateChange", "readyChange", "elapsedTimeLastState"}

// plain is an object as the recordings have it.
func plain(t *testing.T, object any) any {
	t.Helper()
	encoded, err := json.Marshal(object)
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal(encoded, &value))
	return simplify(value)
}

func simplify(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for _, field := range omitted {
			delete(value, field)
		}
		for name, field := range value {
			_, isText := field.(string)
			switch {
			case isText && (strings.HasSuffix(name, ".uid") || strings.HasSuffix(name, "_uid")):
				value[name] = "UID"
			case isText && name == "mgsAddresses":
				value[name] = "NID"
			case name == "finalizers":
				list, _ := field.([]any)
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
			case field == false && (name == "forceReady" || name == "hurry"):
				delete(value, name) // the default
			default:
				value[name] = simplify(field)
			}
		}
	case []any:
		for i := range value {
			value[i] = simplify(value[i])
		}
	}
	return value
}

// same compares an object with its recording, field by field.
func same(t *testing.T, expected, got any) {
	t.Helper()
	want, err := json.MarshalIndent(simplify(expected), "", " ")
	require.NoError(t, err)
	have, err := json.MarshalIndent(plain(t, got), "", " ")
	require.NoError(t, err)
	assert.Equal(t, string(want), string(have))
}

// get reads an object as it is.
func (m *machine) get(k kind, namespace, name string) map[string]any {
	m.t.Helper()
	object, err := m.nnf.api.of(k, namespace).Get(context.Background(), name, metav1.GetOptions{})
	require.NoError(m.t, err)
	return object.Object
}
