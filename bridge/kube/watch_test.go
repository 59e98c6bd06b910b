package kube

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// labelled makes the Workflow have a label, or makes it.
func labelled(value string) func(kubetest.Object) kubetest.Object {
	return func(o kubetest.Object) kubetest.Object {
		if o == nil {
			o = kubetest.Object{"apiVersion": kubetest.Group + "/" + kubetest.Version, "kind": "Workflow",
				"metadata": kubetest.Object{"name": "bb12", "namespace": "slurm", "uid": "u1"}}
		}
		kubetest.Part(kubetest.Meta(o), "labels")["is"] = value
		return o
	}
}

// watched is a watch of the Workflow from a version on.
func watched(t *testing.T, s *kubetest.Workflows, version string) *Watch {
	t.Helper()
	client, err := New(Options{Kubeconfig: s.Kubeconfig(), RequestTimeout: 10 * time.Second, UserAgent: "test"})
	require.NoError(t, err)
	gvr := schema.GroupVersionResource{Group: kubetest.Group, Version: kubetest.Version, Resource: "workflows"}
	w := client.Objects(gvr, "slurm").Watch(Selection{Fields: "metadata.name=bb12"}, version)
	t.Cleanup(w.Stop)
	return w
}

func lists(s *kubetest.Workflows) int {
	return s.Count("GET", "/workflows?") - s.Count("GET", "watch=true")
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until returns when the watch tells that the Workflow has a label, listed or changed.
func (w *Watch) until(t *testing.T, value string) {
	t.Helper()
	ctx := bounded(t)
	is := func(u *unstructured.Unstructured) bool { return u != nil && u.GetLabels()["is"] == value }
	for {
		change, err := w.Next(ctx)
		require.NoError(t, err)
		if is(change.Object) || len(change.All) == 1 && is(&change.All[0]) {
			return
		}
	}
}

func TestAWatchBeginsWithAListOrBehindAVersion(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(labelled("a"))
	version := kubetest.Meta(s.Current())["resourceVersion"].(string)
	change, err := watched(t, s, "").Next(bounded(t))
	require.NoError(t, err)
	assert.True(t, change.Listed)
	assert.Len(t, change.All, 1)

	w := watched(t, s, version)
	s.Change(labelled("b"))
	change, err = w.Next(bounded(t))
	require.NoError(t, err)
	assert.Equal(t, "b", change.Object.GetLabels()["is"])
	s.Change(func(kubetest.Object) kubetest.Object { return nil })
	change, err = w.Next(bounded(t))
	require.NoError(t, err)
	assert.True(t, change.Gone)
	assert.Equal(t, 1, lists(s), "the list of the first watch and no other")
}

func TestAWatchIsReplacedWhateverEndsIt(t *testing.T) {
	for name, resumes := range map[string]bool{"a young one by a list": false, "a steady one from where it was": true} {
		t.Run(name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(labelled("a"))
			w := watched(t, s, "")
			w.until(t, "a")
			s.Change(labelled("b"))
			w.until(t, "b")
			before := lists(s)
			if resumes {
				w.opened = w.opened.Add(-watchLife)
			}
			s.CutWatches()
			s.Change(labelled("c")) // what no watch was there to tell
			w.until(t, "c")
			again := lists(s) - before
			assert.Equal(t, resumes, again == 0, "%d lists", again)
			assert.Equal(t, resumes, !w.objects.client.starting(), "one that was cut may have lost its server")
		})
	}
}

func TestWatchesThatFailAtTheirBeginning(t *testing.T) {
	tests := []struct {
		name  string
		fail  func(w http.ResponseWriter)
		fatal bool
	}{
		{"410 as an answer", func(w http.ResponseWriter) { kubetest.Status(w, 410, "Expired", "too old resource version") }, false},
		{"410 as an event", func(w http.ResponseWriter) {
			kubetest.JSON(w, 200, kubetest.Object{"type": "ERROR", "object": kubetest.Object{
				"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}})
		}, false},
		{"overload", func(w http.ResponseWriter) { kubetest.Status(w, 429, "TooManyRequests", "later") }, false},
		{"nonsense", func(w http.ResponseWriter) { _, _ = w.Write([]byte("hello")) }, false},
		{"connection cut", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, false},
		{"forbidden", func(w http.ResponseWriter) { kubetest.Status(w, 403, "Forbidden", `cannot watch resource "workflows"`) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(labelled("a"))
			var failed atomic.Int32
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("watch") != "true" || !tt.fatal && failed.Add(1) > 2 {
					return false
				}
				tt.fail(w)
				return true
			}
			w := watched(t, s, "1")
			if tt.fatal {
				_, err := w.Next(bounded(t))
				require.ErrorContains(t, err, "watch workflows in slurm with metadata.name=bb12: cannot watch")
				assert.Equal(t, 1, s.Count("GET", "watch=true"))
				return
			}
			w.until(t, "a")
			s.Change(labelled("b"))
			w.until(t, "b")
		})
	}
}

// An object that has not changed for long has a version that no watch can begin at any
// more. Reading it again does not make it any newer; a list has the server's version.
func TestAnObjectThatHasNotChangedForLongIsWatchedAllTheSame(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(labelled("a"))
	version := kubetest.Meta(s.Current())["resourceVersion"].(string)
	s.Pass()
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
		if r.URL.Query().Get("watch") != "true" || from >= 1000 {
			return false
		}
		kubetest.Status(w, 410, "Expired", "too old resource version")
		return true
	}
	w := watched(t, s, version)
	w.until(t, "a")
	s.Change(labelled("b"))
	change, err := w.Next(bounded(t))
	require.NoError(t, err)
	assert.NotNil(t, change.Object, "by the watch, not by another list")
}

// brokenWatch is a client with a defect of ours.
type brokenWatch struct{ dynamic.ResourceInterface }

func (brokenWatch) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	panic("no watch")
}

func TestAPanicWhileAWatchIsOpenedIsTheCallersError(t *testing.T) {
	w := watched(t, kubetest.NewWorkflows(t), "1")
	w.objects.api = brokenWatch{w.objects.api}
	_, err := w.Next(bounded(t))
	require.ErrorContains(t, err, "watch workflows in slurm with metadata.name=bb12: internal error: no watch: please report it")
}

func TestAWatchOutlivesTheContextOfOneNext(t *testing.T) {
	s := kubetest.NewWorkflows(t)
	s.Change(labelled("a"))
	w := watched(t, s, "")
	w.until(t, "a")
	s.Change(labelled("b"))
	w.until(t, "b")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Next(over)
	require.ErrorIs(t, err, context.Canceled)
	s.Change(labelled("c"))
	w.until(t, "c")
	assert.Equal(t, 1, s.Count("GET", "watch=true"))
}

func TestAListIsReadInPagesAndAnewWhenItsRestIsTooOld(t *testing.T) {
	var pages atomic.Int32
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		item := func(name string) kubetest.Object {
			return kubetest.Object{"apiVersion": "v1", "kind": "Node", "metadata": kubetest.Object{"name": name}}
		}
		meta, items := kubetest.Object{"resourceVersion": "7"}, []any{item("c2")}
		switch next := r.URL.Query().Get("continue"); {
		case next == "":
			meta["continue"], items = "more", []any{item("c1")}
		case pages.Add(1) == 1:
			kubetest.Status(w, 410, "Expired", "the provided continue parameter is too old")
			return
		}
		kubetest.JSON(w, 200, kubetest.Object{"kind": "NodeList", "apiVersion": "v1", "metadata": meta, "items": items})
	})
	client, err := New(Options{Kubeconfig: s.Kubeconfig(), RequestTimeout: 10 * time.Second, UserAgent: "test"})
	require.NoError(t, err)
	all, err := client.Objects(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}, "").List(bounded(t), Selection{})
	require.NoError(t, err)
	var names []string
	for _, node := range all {
		names = append(names, node.GetName())
	}
	assert.Equal(t, "c1 c2", strings.Join(names, " "))
}
