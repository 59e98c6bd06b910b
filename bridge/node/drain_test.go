package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// An API server that many nodes ask at once has each eviction before an Event of the same node.
func TestEventsOfPodsDoNotDelayEvictions(t *testing.T) {
	const pods = 10
	var mutex sync.Mutex
	evicted, told, telling, most := 0, 0, 0, 0
	gone := make(chan struct{})
	pod := func(i int) kubetest.Object {
		return kubetest.Object{"apiVersion": "v1", "kind": "Pod",
			"metadata": kubetest.Object{"name": fmt.Sprintf("web-%d", i), "namespace": "web", "uid": fmt.Sprint(i), "resourceVersion": "7",
				"ownerReferences": []any{kubetest.Object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}}},
			"spec": kubetest.Object{"nodeName": "c1"}, "status": kubetest.Object{"phase": "Running"}}
	}
	server := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/eviction"):
			mutex.Lock()
			evicted++
			mutex.Unlock()
			kubetest.JSON(w, http.StatusCreated, kubetest.Object{"apiVersion": "v1", "kind": "Status", "status": "Success"})
		case strings.HasSuffix(r.URL.Path, "/default/events"):
			kubetest.JSON(w, http.StatusCreated, kubetest.Object{"apiVersion": "v1", "kind": "Event", "metadata": kubetest.Object{"name": "e"}})
		case strings.HasSuffix(r.URL.Path, "/events"):
			mutex.Lock()
			telling++
			select {
			case <-gone:
			default:
				most = max(most, telling)
			}
			mutex.Unlock()
			time.Sleep(50 * time.Millisecond)
			mutex.Lock()
			telling--
			if told++; told == 3 {
				close(gone)
			}
			mutex.Unlock()
			kubetest.JSON(w, http.StatusCreated, kubetest.Object{"apiVersion": "v1", "kind": "Event", "metadata": kubetest.Object{"name": "e"}})
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
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 5 * time.Second})
	require.NoError(t, err)
	logger, _ := test.NewNullLogger()
	cfg := slurmconf.Default().Nodes
	outcome, err := New(client, &cfg, "alps", logger.WithField("job", 12)).Empty(t.Context(), "c1",
		Claim{Cluster: "alps", JobID: 12, Mode: Reclaim}, Terms{Grace: time.Second, Timeout: time.Minute, Policy: slurmconf.EvictFail}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, Outcome{Evicted: pods}, outcome)
	assert.Equal(t, pods, evicted)
	assert.Equal(t, 1, most, "Events at once while pods are ending")
	assert.Equal(t, pods, told, "each pod's owner is told")
}
