package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// isReset tells a TCP reset from an orderly close.
func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// isTimeout is a client that lost patience, not a server that answered.
func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// isCut is an answer that ended early without the client giving up.
func isCut(err error) bool {
	return err != nil && !isTimeout(err) && apierrors.ReasonForError(err) == ""
}

// A create shows a fault best: client-go repeats a GET by itself, never a POST.
func TestFaultOnACreate(t *testing.T) {
	tests := []struct {
		fault    string
		executed bool
		is       func(error) bool
	}{
		{"reset", false, isReset},
		{"reset-after", true, isReset},
		{"hang", false, isTimeout},
		{"hang-after", true, isTimeout},
		{"429-bare", false, apierrors.IsTooManyRequests},
		{"500", false, apierrors.IsInternalError},
		{"503", false, apierrors.IsServiceUnavailable},
		{"409", false, apierrors.IsConflict},
		{"401", false, apierrors.IsUnauthorized},
		{"403", false, apierrors.IsForbidden},
		{"truncate", true, isCut},
		{"slow", true, isTimeout},
	}
	for _, tt := range tests {
		for proto, http1 := range map[string]bool{"HTTP2": false, "HTTP1": true} {
			t.Run(tt.fault+"/"+proto, func(t *testing.T) {
				t.Parallel()
				api := startFakeAPI(t)
				p := start(t, api.config(), Options{HTTP1: http1, Plan: Plan{Fault: fault(t, tt.fault), At: 2}})
				c, ctx := client(t, p)
				_, err := c.List(ctx, metav1.ListOptions{})
				require.NoError(t, err, "the request before the fault")

				brief, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
				_, err = c.Create(brief, newWorkflow("bb1"), metav1.CreateOptions{})
				require.Error(t, err)
				assert.True(t, tt.is(err), "%T %v", err, err)
				assert.Equal(t, tt.executed, api.get(ns, "bb1") != nil, "executed upstream")
				assert.True(t, p.Struck())
				assert.NoError(t, p.Err())

				_, err = c.Create(ctx, newWorkflow("bb2"), metav1.CreateOptions{})
				assert.NoError(t, err, "the request after the fault")
			})
		}
	}
}

func TestFaultWithRetryAfterIsRepeatedByClientGo(t *testing.T) {
	api := startFakeAPI(t)
	p := start(t, api.config(), Options{Plan: Plan{Fault: fault(t, "429"), At: 1}})
	c, ctx := client(t, p)
	began := time.Now()
	_, err := c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), time.Second, "Retry-After: 1")
	assert.Len(t, p.Requests(), 2)
}

func TestFaultAlwaysStrikesEveryLaterRequest(t *testing.T) {
	api := startFakeAPI(t)
	p := start(t, api.config(), Options{Plan: Plan{Fault: fault(t, "503"), At: 2, Mode: Always}})
	c, ctx := client(t, p)
	_, err := c.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for range 3 {
		_, err = c.List(ctx, metav1.ListOptions{})
		assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	}
}

func TestFaultPassesByRequestsThatCannotFailThisWay(t *testing.T) {
	for _, name := range []string{"409", "watch-gone"} {
		api := startFakeAPI(t)
		p := start(t, api.config(), Options{Plan: Plan{Fault: fault(t, name), At: 1}})
		c, ctx := client(t, p)
		_, err := c.List(ctx, metav1.ListOptions{})
		assert.NoError(t, err)
		assert.False(t, p.Struck(), name)
	}
}

func TestKillFaults(t *testing.T) {
	for name, executed := range map[string]bool{"kill-before": false, "kill-after": true} {
		t.Run(name, func(t *testing.T) {
			api := startFakeAPI(t)
			var executedAtKill atomic.Bool
			var kills atomic.Int32
			p := start(t, api.config(), Options{Plan: Plan{Fault: fault(t, name), At: 1}, Kill: func() {
				kills.Add(1)
				executedAtKill.Store(api.get(ns, "bb1") != nil)
			}})
			c, ctx := client(t, p)
			_, err := c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{})
			assert.Error(t, err)
			assert.EqualValues(t, 1, kills.Load())
			assert.Equal(t, executed, executedAtKill.Load())
			assert.Equal(t, executed, api.get(ns, "bb1") != nil)
		})
	}
}

func TestFaultOnAWatch(t *testing.T) {
	// How a client-go watch ends: events seen, then closed, an ERROR event, or
	// nothing at all until the client gives up.
	const closed, gone, silent, refused = "closed", "gone", "silent", "refused"
	// HTTP/2 reports a stream that was aborted, HTTP/1.1 only that it ended.
	const lost = "closed or broken"
	tests := []struct {
		fault  string
		events int
		end    string
	}{
		{"watch-cut-0", 0, closed},
		{"watch-cut-1", 1, closed},
		{"watch-gone", 0, gone},
		{"watch-torn", 0, closed},
		{"watch-silent", 0, silent},
		{"truncate", 0, lost},
		{"slow", 0, silent},
		{"reset", 0, refused},
		{"hang", 0, refused},
		{"503", 0, refused},
	}
	for _, tt := range tests {
		for proto, http1 := range map[string]bool{"HTTP2": false, "HTTP1": true} {
			t.Run(tt.fault+"/"+proto, func(t *testing.T) {
				t.Parallel()
				api := startFakeAPI(t)
				// Always: client-go repeats a watch whose connection was reset.
				p := start(t, api.config(), Options{HTTP1: http1, Plan: Plan{Fault: fault(t, tt.fault), At: 2, Mode: Always}})
				c, ctx := client(t, p)
				_, err := c.Create(ctx, newWorkflow("bb1"), metav1.CreateOptions{})
				require.NoError(t, err)

				short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
				defer cancel()
				w, err := c.Watch(short, metav1.ListOptions{ResourceVersion: "0"})
				if tt.end == refused {
					assert.Error(t, err)
					return
				}
				require.NoError(t, err)
				defer w.Stop()
				events, end := drain(short, w)
				assert.Equal(t, tt.events, events)
				assert.Contains(t, tt.end, end)
			})
		}
	}
}

func TestTornWatchSendsHalfAnEvent(t *testing.T) {
	api := startFakeAPI(t)
	p := start(t, api.config(), Options{Plan: Plan{Fault: fault(t, "watch-torn"), At: 1}})
	client, err := rest.HTTPClientFor(&rest.Config{
		Host: p.URL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	require.NoError(t, err)
	resp, err := client.Get(p.URL + "/apis/" + workflows.GroupVersion().String() + "/namespaces/slurm/workflows?watch=true")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.NoError(t, err, "an orderly end: only the JSON is torn")
	assert.Equal(t, halfEvent, string(body))
}

// drain reads a watch to its end and says how it ended.
func drain(ctx context.Context, w watch.Interface) (events int, end string) {
	for {
		select {
		case <-ctx.Done():
			return events, "silent"
		case e, ok := <-w.ResultChan():
			switch {
			case ctx.Err() != nil:
				return events, "silent"
			case !ok:
				return events, "closed"
			case e.Type != watch.Error:
				events++
			case apierrors.IsResourceExpired(apierrors.FromObject(e.Object)):
				return events, "gone"
			default:
				return events, "broken"
			}
		}
	}
}

func TestStatusWordings(t *testing.T) {
	patch := describe("PATCH", mustURL("/apis/dataworkflowservices.github.io/v1alpha7/namespaces/slurm/workflows/bb7"))
	create := describe("POST", mustURL("/apis/dataworkflowservices.github.io/v1alpha7/namespaces/slurm/workflows"))
	discovery := describe("GET", mustURL("/apis/dataworkflowservices.github.io"))
	tests := []struct {
		request Request
		code    int
		want    string
	}{
		{patch, 401, `Unauthorized`},
		{patch, 403, `workflows.dataworkflowservices.github.io "bb7" is forbidden: User "system:serviceaccount:slurm:slurmk8s" cannot patch resource "workflows" in API group "dataworkflowservices.github.io" in the namespace "slurm"`},
		{discovery, 403, `forbidden: User "system:serviceaccount:slurm:slurmk8s" cannot get path "/apis/dataworkflowservices.github.io"`},
		{patch, 409, `Operation cannot be fulfilled on workflows.dataworkflowservices.github.io "bb7": the object has been modified; please apply your changes to the latest version and try again`},
		{create, 409, `Operation cannot be fulfilled on resourcequotas "storage": the object has been modified; please apply your changes to the latest version and try again`},
		{discovery, 500, `etcdserver: request timed out`},
		{create, 500, `Internal error occurred: failed calling webhook "vworkflow.kb.io": failed to call webhook: Post "https://dws-webhook-service.dws-system.svc:443/validate?timeout=10s": dial tcp 10.96.7.3:443: connect: connection refused`},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %s %s", tt.code, tt.request.Verb, tt.request.Name), func(t *testing.T) {
			s := statusOf(tt.request, tt.code)
			assert.Equal(t, tt.want, s.Message)
			assert.EqualValues(t, tt.code, s.Code)
			assert.Equal(t, "Status", s.Kind)
			assert.Equal(t, "Failure", s.Status)
		})
	}
}
