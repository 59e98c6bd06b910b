package kube

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

var widgets = schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}

// read asks for an object, once.
func read(t *testing.T, c *Client) error {
	ctx, cancel := context.WithCancel(t.Context())
	return c.Do(ctx, "get widget a", func(ctx context.Context) error {
		defer cancel()
		_, err := c.Dynamic.Resource(widgets).Get(ctx, "a", metav1.GetOptions{})
		return err
	})
}

// What counts is what comes out: a few hundred KB are hundreds of MB in memory.
func TestACompressedAnswerIsCutToo(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Contains(t, r.Header.Get("Accept-Encoding"), "gzip", "the client takes no compressed answers: the test shows nothing")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		blank := []byte(strings.Repeat(" ", 1<<20))
		for range (maxResponseBytes >> 20) + 2 {
			if _, err := packed.Write(blank); err != nil {
				return
			}
		}
		_ = packed.Close()
	})
	require.ErrorContains(t, read(t, newClient(t, s.Kubeconfig())), "answer is larger than 32 MiB")
}

func TestAnAnswerThatNestsWithoutEndIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"objects": strings.Repeat(`{"a":`, 1e6) + "1" + strings.Repeat("}", 1e6),
		"lists":   `{"apiVersion":"example.io/v1","kind":"Widget","spec":` + strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6) + "}",
		"no end":  `{"apiVersion":"example.io/v1","kind":"Widget","spec":` + strings.Repeat("[", 1e6),
	} {
		t.Run(name, func(t *testing.T) {
			s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, text)
			})
			err := read(t, newClient(t, s.Kubeconfig()))
			require.Error(t, err)
			assert.Less(t, len(err.Error()), 1000)
		})
	}
}

// endless sends text until nobody reads any more, and counts it.
func endless(sent *atomic.Int64, status int, head string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, head)
		for more := strings.Repeat("x", 1<<20); r.Context().Err() == nil; {
			n, err := io.WriteString(w, more)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

func watchWidgets(ctx context.Context, c *Client) (watch.Interface, error) {
	return c.Dynamic.Resource(widgets).Watch(ctx, metav1.ListOptions{})
}

func TestARefusedWatchIsCutToo(t *testing.T) {
	var sent atomic.Int64
	s := kubetest.New(t, endless(&sent, 500, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := watchWidgets(ctx, newClient(t, s.Kubeconfig()))
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "it ends by itself")
	assert.Less(t, sent.Load(), int64(2*maxResponseBytes))
}

func TestAnEventWithoutEndEndsTheWatch(t *testing.T) {
	var sent atomic.Int64
	s := kubetest.New(t, endless(&sent, 200, `{"type":"ADDED","object":{"apiVersion":"example.io/v1","kind":"`))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := watchWidgets(ctx, newClient(t, s.Kubeconfig()))
	require.NoError(t, err)
	defer w.Stop()
	for event := range w.ResultChan() {
		assert.Equal(t, watch.Error, event.Type)
	}
	require.NoError(t, ctx.Err(), "it ends by itself")
	assert.Less(t, sent.Load(), int64(4*maxResponseBytes))
}

// A server that takes each request and throws it away at once must not be asked in a
// tight loop: x/net/http2 repeats a refused stream by itself.
func TestAServerThatResetsEveryStreamIsNotAskedInALoop(t *testing.T) {
	for name, code := range map[string]http2.ErrCode{
		"refused stream": http2.ErrCodeRefusedStream, "cancel": http2.ErrCodeCancel, "enhance your calm": http2.ErrCodeEnhanceYourCalm,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var streams atomic.Int64
			url, authority := resetter(t, code, &streams)
			c := newClient(t, kubetest.WriteKubeconfig(t, url, authority, "token: secret-token"))
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			_, err := c.PreferredVersion(ctx, group)
			require.Error(t, err)
			assert.Positive(t, streams.Load())
			assert.Less(t, streams.Load(), int64(20))
		})
	}
}

// resetter is a server that answers each HTTP/2 request with RST_STREAM.
func resetter(t *testing.T, code http2.ErrCode, streams *atomic.Int64) (url string, authority []byte) {
	ca, err := pki.NewCA("resetter")
	require.NoError(t, err)
	pair, err := ca.Server("127.0.0.1")
	require.NoError(t, err)
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.HeadersFrame:
				streams.Add(1)
				_ = framer.WriteRSTStream(frame.StreamID, code)
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "https://" + listener.Addr().String(), ca.PEM
}
