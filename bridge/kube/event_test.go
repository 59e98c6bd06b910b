package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func aService(namespace string) Object {
	return Object{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: "web", UID: "u-1"}
}

func TestAnEventIsOnePrintableLineWithoutLabels(t *testing.T) {
	var got map[string]any
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/api/v1/namespaces/jobs/events", r.URL.Path)
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&got))
		kubetest.JSON(w, 201, got)
	})
	NewEvents(newClient(t, s.Kubeconfig()), "c1").
		Tell(t.Context(), aService("jobs"), EventWarning, "NotReady", "a\nb\x1b[31m\xff"+strings.Repeat("ü", 600))
	require.NotNil(t, got)
	message := got["message"].(string)
	assert.True(t, strings.HasPrefix(message, "a b [31m?ü"), message)
	assert.LessOrEqual(t, len(message), 1024)
	assert.NotContains(t, message, "\uFFFD", "not cut within a letter")
	assert.Equal(t, map[string]any{"generateName": "web.slurmk8s-", "namespace": "jobs"}, got["metadata"])
	assert.Equal(t, map[string]any{"apiVersion": "v1", "kind": "Service", "namespace": "jobs", "name": "web", "uid": "u-1"}, got["involvedObject"])
	assert.Equal(t, map[string]any{"component": "slurmk8s", "host": "c1"}, got["source"])
	assert.Equal(t, []any{"slurmk8s.io/slurmk8s", "c1", "Warning", "NotReady"},
		[]any{got["reportingComponent"], got["reportingInstance"], got["type"], got["reason"]})
}

func TestWhoeverRefusesAnEventIsNotAskedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		reason string
		asked  int32 // by three Events in one namespace and one in another
	}{
		"RBAC: once in each namespace":             {403, "Forbidden", 2},
		"an admission policy: once in each":        {422, "Invalid", 2},
		"a server that fails: again each time":     {500, "InternalError", 4},
		"an overloaded server: again, but no more": {429, "TooManyRequests", 4},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				kubetest.Status(w, tt.status, tt.reason, "no")
			})
			e := NewEvents(newClient(t, s.Kubeconfig()), "c1")
			for _, namespace := range []string{"a", "a", "a", "b"} {
				e.Tell(t.Context(), aService(namespace), EventNormal, "Ready", "x")
			}
			assert.Equal(t, tt.asked, asked.Load())
		})
	}
}

func TestAnEventTakesNoLongerThanItsTellerHas(t *testing.T) {
	s := kubetest.New(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e := NewEvents(newClient(t, s.Kubeconfig()), "c1")
	took := func(ctx context.Context) time.Duration {
		begin := time.Now()
		e.Tell(ctx, aService("jobs"), EventNormal, "Ready", "x")
		return time.Since(begin)
	}
	over, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	// It is never answered: that it returns at all is the upper bound.
	assert.GreaterOrEqual(t, took(over), eventGrace, "a hook's deadline is over")
	assert.GreaterOrEqual(t, took(t.Context()), eventTimeout)

	begin := time.Now()
	for range 100 {
		e.TellBeside(aService("jobs"), EventNormal, "Ready", "x")
	}
	assert.Less(t, time.Since(begin), 50*eventTimeout, "100 Events, for each of which it would wait")
	eventually.True(t, "all are told", func() bool { return len(e.beside) == 0 })
	assert.Len(t, s.Requests(), 2+eventsBeside, "more at once are not told")

	(*Events)(nil).Tell(t.Context(), aService("jobs"), EventNormal, "Ready", "x")
	(*Events)(nil).TellBeside(aService("jobs"), EventNormal, "Ready", "x")
}

func TestAPanicWhileAnEventIsToldIsALineOfTheLog(t *testing.T) {
	logger, lines := logtest.NewNullLogger()
	events := NewEvents(&Client{log: logrus.NewEntry(logger)}, "c1") // without a client to ask
	events.TellBeside(aService("default"), EventNormal, "Test", "text")
	eventually.True(t, "the line is logged", func() bool { return lines.LastEntry() != nil })
	assert.Contains(t, lines.LastEntry().Message, "event Test on Service web: internal error: ")
}
