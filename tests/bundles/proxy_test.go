package bundles

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/tests/apiserver"
)

// over is a driver whose requests go through a transport of the test's.
func (w *world) over(id uint32, wrap func(http.RoundTripper) http.RoundTripper) driver {
	w.t.Helper()
	config := w.server.Config()
	config.Wrap(wrap)
	client, err := kube.ForConfig(config, kube.Options{RequestTimeout: 30 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t)})
	require.NoError(w.t, err)
	return driver{&stage.Driver{
		Kube: client, Job: job.Job{Cluster: cluster, ID: id, UID: 1000, User: "alice", SubmitTime: "1700000000"},
		Alive: alive(true), Log: apiserver.Log(w.t),
	}}
}

var errKilled = errors.New("killed by the test")

// killer ends everything at the n-th request, before or after the API server has it: no
// request comes after it, as from a process that was killed.
type killer struct {
	next  http.RoundTripper
	at    int  // 0: never
	after bool // the API server has done it; its answer is lost
	kill  context.CancelFunc

	mu   sync.Mutex
	seen int
}

func (k *killer) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	k.seen++
	n := k.seen
	k.mu.Unlock()
	switch {
	case k.at == 0 || n < k.at:
		return k.next.RoundTrip(r)
	case n == k.at && k.after && r.URL.Query().Get("watch") == "":
		answer, err := k.next.RoundTrip(r)
		if err == nil {
			answer.Body.Close()
		}
	}
	k.kill()
	return nil, errKilled
}

var _ http.RoundTripper = &killer{}

type traceTransport struct {
	mu   sync.Mutex
	told func(*http.Request)
	next http.RoundTripper
}

// trace tells of every request, one at a time, before it is sent.
func trace(told func(*http.Request), next http.RoundTripper) http.RoundTripper {
	return &traceTransport{told: told, next: next}
}

func (t *traceTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	t.told(r)
	t.mu.Unlock()
	return t.next.RoundTrip(r)
}
