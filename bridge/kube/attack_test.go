package kube

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"slurmk8s.io/slurmk8s/tests/api/fakeapi"
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
	s := fakeapi.New(t, func(w http.ResponseWriter, r *http.Request) {
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
			s := fakeapi.New(t, func(w http.ResponseWriter, _ *http.Request) {
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
	s := fakeapi.New(t, endless(&sent, 500, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := watchWidgets(ctx, newClient(t, s.Kubeconfig()))
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "it ends by itself")
	assert.Less(t, sent.Load(), int64(2*maxResponseBytes))
}

func TestAnEventWithoutEndEndsTheWatch(t *testing.T) {
	var sent atomic.Int64
	s := fakeapi.New(t, endless(&sent, 200, `{"type":"ADDED","object":{"apiVersion":"example.io/v1","kind":"`))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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
			c := newClient(t, fakeapi.WriteKubeconfig(t, url, authority, "token: secret-token"))
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			begin := time.Now()
			_, err := c.PreferredVersion(ctx, group)
			require.Error(t, err)
			assert.Less(t, time.Since(begin), 5*time.Second, "the deadline holds")
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

// Each file that a kubeconfig names, in place of which something stands that a hook
// would wait for or read for ever.
func TestWhatIsNoFileHangsNoHook(t *testing.T) {
	authority, err := pki.NewCA("test")
	require.NoError(t, err)
	tests := map[string]func(path string) string{
		"token": func(path string) string {
			return replace("token: secret-token", "tokenFile: "+path)(kubeconfig(t))
		},
		"client key": func(path string) string {
			return replace("token: secret-token", "client-key: "+path)(kubeconfig(t))
		},
		"client certificate": func(path string) string {
			return replace("token: secret-token", "client-certificate: "+path)(kubeconfig(t))
		},
		"authority": func(path string) string {
			text := kubeconfig(t)
			_, after, _ := strings.Cut(text, "certificate-authority-data:")
			line, _, _ := strings.Cut(after, "\n")
			return strings.Replace(text, "certificate-authority-data:"+line, "certificate-authority: "+path, 1)
		},
	}
	for name, naming := range tests {
		for what, place := range map[string]func(path string) error{
			"FIFO":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"device":         func(path string) error { return os.Symlink("/dev/zero", path) },
			"directory":      func(path string) error { return os.Mkdir(path, 0o700) },
			"dangling link":  func(path string) error { return os.Symlink(path+".gone", path) },
			"link to itself": func(path string) error { return os.Symlink(path, path) },
			"1 MiB and more": func(path string) error {
				return os.WriteFile(path, append(authority.PEM, make([]byte, maxKubeconfigBytes)...), 0o600)
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "named")
				require.NoError(t, place(path))
				done := make(chan error, 1)
				go func() {
					_, err := New(options(write(t, "kubeconfig", naming(path), 0o600)))
					done <- err
				}()
				select {
				case err := <-done:
					require.ErrorContains(t, err, path)
				case <-time.After(5 * time.Second):
					t.Fatal("it waits")
				}
			})
		}
	}
}

// A hard link has the owner and the mode of its file, a symbolic link those of what it
// leads to.
func TestALinkIsAsGoodAsItsFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	for name, link := range map[string]func(old, new string) error{"hard": os.Link, "symbolic": os.Symlink} {
		theirs := write(t, "kubeconfig", kubeconfig(t), 0o600)
		path := filepath.Join(filepath.Dir(theirs), "link")
		require.NoError(t, link(theirs, path))
		_, err := New(options(path))
		require.NoError(t, err, name)
		require.NoError(t, os.Chown(theirs, 12345, -1))
		_, err = New(options(path))
		require.ErrorContains(t, err, "is owned by uid 12345", name)
	}
}

// Somebody who may change the directory swaps the file between a check and its use: what
// is used is what was checked, never the token of another.
func TestAFileThatIsSwappedIsUsedAsItWasChecked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "token"), filepath.Join(dir, "aside")
	require.NoError(t, os.WriteFile(path, []byte("ours"), 0o600))
	require.NoError(t, os.WriteFile(aside, []byte("theirs"), 0o600))
	require.NoError(t, os.Chown(aside, 12345, -1))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default: // RENAME_EXCHANGE: one of the two is always there
				_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, aside, unix.RENAME_EXCHANGE)
			}
		}
	}()
	ours, refused := 0, 0
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		token, err := readSecret(path, nil)
		if err != nil {
			require.ErrorContains(t, err, "is owned by uid 12345")
			refused++
			continue
		}
		ours++
		require.Equal(t, "ours", string(token))
	}
	close(stop)
	<-stopped
	assert.Positive(t, ours)
	assert.Positive(t, refused, "it was never swapped: the test shows nothing")
}
