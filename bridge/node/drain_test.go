package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// emptied empties a node of ten pods. evict answers an eviction; an Event of a pod is reported to
// told, and the pods are gone when told has said so once.
func emptied(t *testing.T, evict func(name string), told func() (gone bool)) {
	const pods = 10
	gone := make(chan struct{})
	var once sync.Once
	pod := func(i int) kubetest.Object {
		return kubetest.Object{"apiVersion": "v1", "kind": "Pod",
			"metadata": kubetest.Object{"name": fmt.Sprintf("web-%d", i), "namespace": "web", "uid": fmt.Sprint(i), "resourceVersion": "7",
				"ownerReferences": []any{kubetest.Object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}}},
			"spec": kubetest.Object{"nodeName": "c1"}, "status": kubetest.Object{"phase": "Running"}}
	}
	server := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		event := kubetest.Object{"apiVersion": "v1", "kind": "Event", "metadata": kubetest.Object{"name": "e"}}
		switch {
		case strings.HasSuffix(r.URL.Path, "/eviction"):
			evict(path.Base(path.Dir(r.URL.Path)))
			kubetest.JSON(w, http.StatusCreated, kubetest.Object{"apiVersion": "v1", "kind": "Status", "status": "Success"})
		case strings.HasSuffix(r.URL.Path, "/default/events"):
			kubetest.JSON(w, http.StatusCreated, event)
		case strings.HasSuffix(r.URL.Path, "/events"):
			if told() {
				once.Do(func() { close(gone) })
			}
			kubetest.JSON(w, http.StatusCreated, event)
		case r.URL.Query().Get("watch") != "":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-gone
			for i := range pods {
				_ = json.NewEncoder(w).Encode(kubetest.Object{"type": "DELETED", "object": pod(i)})
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			var items []any
			for i := range pods {
				items = append(items, pod(i))
			}
			kubetest.JSON(w, http.StatusOK, kubetest.Object{"apiVersion": "v1", "kind": "PodList", "metadata": kubetest.Object{"resourceVersion": "7"}, "items": items})
		}
	})
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 30 * time.Second})
	require.NoError(t, err)
	logger, _ := test.NewNullLogger()
	cfg := slurmconf.Default().Nodes
	outcome, err := New(client, &cfg, "alps", logger.WithField("job", 12)).Empty(t.Context(), "c1",
		Claim{Cluster: "alps", JobID: 12, Mode: Reclaim}, Terms{Grace: time.Second, Timeout: time.Minute, Policy: slurmconf.EvictFail}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, Outcome{Evicted: pods}, outcome)
}

// An API server that many nodes ask at once has each eviction before an Event of the same node.
func TestEventsOfPodsDoNotDelayEvictions(t *testing.T) {
	var mutex sync.Mutex
	evicted, told, telling, most, before := 0, 0, 0, 0, 0
	emptied(t, func(name string) {
		if name == "web-7" {
			time.Sleep(100 * time.Millisecond) // others are answered earlier
		}
		mutex.Lock()
		defer mutex.Unlock()
		evicted++
	}, func() bool {
		mutex.Lock()
		if telling++; told < 3 {
			most = max(most, telling)
		}
		if told == 0 {
			before = evicted
		}
		mutex.Unlock()
		time.Sleep(50 * time.Millisecond)
		mutex.Lock()
		defer mutex.Unlock()
		telling--
		told++
		return told == 3
	})
	assert.Equal(t, 10, before, "evictions before the first Event")
	assert.Equal(t, 1, most, "Events at once while pods are ending")
	assert.Equal(t, 10, told, "each pod's owner is told")
}

func TestAnEvictionWithoutAnAnswerDoesNotHoldTheEventsOfOthers(t *testing.T) {
	event := make(chan struct{})
	var told atomic.Int32
	emptied(t, func(name string) {
		if name == "web-7" {
			<-event
		}
	}, func() bool {
		if told.Add(1) == 1 {
			close(event)
		}
		return told.Load() == 9
	})
	assert.EqualValues(t, 10, told.Load())
}
