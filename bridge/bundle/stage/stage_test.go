package stage

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// stored is the driver of a job, and the API that it works with.
func stored(t *testing.T) (*Driver, *kubetest.Store) {
	t.Helper()
	store := kubetest.NewStore(t)
	logger := logrus.New()
	logger.SetOutput(t.Output())
	client, err := kube.New(kube.Options{Kubeconfig: store.Kubeconfig(), RequestTimeout: 5 * time.Second, Log: logrus.NewEntry(logger)})
	require.NoError(t, err)
	return &Driver{Kube: client, Job: theJob, Log: logrus.NewEntry(logger)}, store
}

// setOf is a bundle with a phase for each object.
func setOf(t *testing.T, wait string, objects ...string) Set {
	t.Helper()
	set := Set{Bundle: "b", Instance: "b", Namespace: "ns", DeleteTimeout: time.Second}
	for _, text := range objects {
		u := object(t, text)
		u.SetNamespace(set.Namespace)
		bundle.Mark(u, bundle.Facts{Job: theJob}, set.Bundle, set.Instance)
		set.Phases = append(set.Phases, bundle.Phase{Name: u.GetName(), Wait: wait, Objects: []*unstructured.Unstructured{u}})
	}
	return set
}

const configMapM = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}}"

// finish answers the lists of a phase with objects that have done their work.
func finish(store *kubetest.Store, path string, status kubetest.Object) {
	store.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && len(store.Paths()) > 1 {
			for _, p := range store.Paths() {
				if p == path {
					store.Change(path, kubetest.Object{"status": status})
				}
			}
		}
		return false
	}
}

func TestWhatHasDoneItsWorkMayGoBeforeTheJobStarts(t *testing.T) {
	for path, tt := range map[string]struct {
		text   string
		status kubetest.Object
	}{
		"ns/jobs/j":      {"{apiVersion: batch/v1, kind: Job, metadata: {name: j}}", kubetest.Object{"conditions": []any{kubetest.Object{"type": "Complete", "status": "True"}}}},
		"ns/workflows/w": {"{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: w}}", kubetest.Object{"phase": "Succeeded"}},
	} {
		d, store := stored(t)
		set := setOf(t, "", tt.text, configMapM)
		finish(store, path, tt.status)
		require.NoError(t, d.Bring(t.Context(), set, time.Minute))
		require.NoError(t, d.Ready(t.Context(), set))
		store.Change(path, nil) // its ttl
		require.NoError(t, d.Ready(t.Context(), set), path)
		store.Change("ns/configmaps/m", nil)
		require.EqualError(t, d.Ready(t.Context(), set), "bundle b: configmap ns/m: missing")
	}

	d, store := stored(t)
	set := setOf(t, bundle.WaitNone, configMapM)
	require.NoError(t, d.Bring(t.Context(), set, time.Minute))
	store.Change("ns/configmaps/m", nil)
	require.NoError(t, d.Ready(t.Context(), set), "what is not waited for is not needed")
}

func TestAFullNamespaceIsNoReasonToRefuseAJob(t *testing.T) {
	d, store := stored(t)
	message := `pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`
	store.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		kubetest.Status(w, 403, "Forbidden", message)
		return true
	}
	set := setOf(t, "", "{apiVersion: v1, kind: Pod, metadata: {name: p}}")
	assert.NoError(t, d.Check(t.Context(), set), "it is waited for when the job is staged")
	message = `pods "p" is forbidden: violates PodSecurity "restricted:latest"`
	assert.Error(t, d.Check(t.Context(), set))
}

// reconcile may end a Lease that it listed before the job was requeued.
func TestTheEndOfARunLeavesTheObjectsOfALaterOne(t *testing.T) {
	d, store := stored(t)
	require.NoError(t, d.Bring(t.Context(), setOf(t, "", configMapM), time.Minute))
	store.Change("ns/configmaps/m", kubetest.Object{"metadata": kubetest.Object{"ownerReferences": []any{kubetest.Object{"uid": "later"}}}})
	require.NoError(t, d.End(t.Context(), "ns"))
	assert.Equal(t, []string{"ns/configmaps/m"}, store.Paths())
}

func TestWhatFailsAtTheEndIsNotTriedForEver(t *testing.T) {
	d, store := stored(t)
	set := setOf(t, "", configMapM)
	set.Last = setOf(t, "", "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: w}}").Phases
	require.NoError(t, d.Bring(t.Context(), set, time.Minute))
	finish(store, "ns/workflows/w", kubetest.Object{"phase": "Failed", "message": "no space"})
	for range lastTries {
		require.ErrorContains(t, d.End(t.Context(), "ns"), "no space")
	}
	made := store.Count(http.MethodPost, "/workflows")
	require.NoError(t, d.End(t.Context(), "ns"))
	assert.Equal(t, made, store.Count(http.MethodPost, "/workflows"))
	assert.Empty(t, store.Paths())
}

// once answers the first request that matches with 409, as a server whose object changes does.
func once(store *kubetest.Store, matches func(*http.Request) bool) {
	var done atomic.Bool
	store.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !matches(r) || !done.CompareAndSwap(false, true) {
			return false
		}
		kubetest.Status(w, 409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again")
		return true
	}
}

func TestAConflictIsNoReasonToLeaveAnything(t *testing.T) {
	for name, part := range map[string]string{"an object": "/configmaps/m", "its Lease": "/leases/"} {
		d, store := stored(t)
		set := setOf(t, "", configMapM)
		once(store, func(r *http.Request) bool { return r.Method == http.MethodPatch })
		require.NoError(t, d.Bring(t.Context(), set, time.Minute), "noting how far it is")
		once(store, func(r *http.Request) bool { return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, part) })
		require.NoError(t, d.End(t.Context(), "ns"))
		assert.Empty(t, store.Paths(), name)
	}
}

// The hook before it was killed; Slurm may be late with the next one.
func TestAnotherAttemptHasAllTheTime(t *testing.T) {
	d, store := stored(t)
	set := setOf(t, "", "{apiVersion: v1, kind: Pod, metadata: {name: p}}")
	killed, kill := context.WithCancel(t.Context())
	go func() {
		defer kill()
		for !slices.Contains(store.Paths(), "ns/pods/p") && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	require.Error(t, d.Bring(killed, set, time.Hour))
	for _, path := range store.Paths() {
		if strings.Contains(path, "/leases/") {
			store.Change(path, kubetest.Object{"metadata": kubetest.Object{"annotations": kubetest.Object{annotationBegun: "2020-01-01T00:00:00Z"}}})
		}
	}
	require.NoError(t, d.Claim(t.Context(), set))
	store.Change("ns/pods/p", kubetest.Object{"status": kubetest.Object{"phase": "Succeeded"}})
	require.NoError(t, d.Bring(t.Context(), set, time.Minute))
	assert.Zero(t, store.Count(http.MethodDelete, ""), "and goes on with what there is")
}
