package kube

import (
	"bytes"
	"context"
	"fmt"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

const group = "example.io"

func preferred(w http.ResponseWriter, _ *http.Request) {
	kubetest.JSON(w, 200, metav1.APIGroup{Name: group, PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: group + "/v2", Version: "v2"}})
}

func newClient(t *testing.T, path string) *Client {
	t.Helper()
	c, err := New(options(path))
	require.NoError(t, err)
	return c
}

func TestPreferredVersion(t *testing.T) {
	s := kubetest.New(t, preferred)
	version, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
	require.NoError(t, err)
	assert.Equal(t, schema.GroupVersion{Group: group, Version: "v2"}, version)
	assert.Equal(t, "Bearer secret-token", s.Requests()[0].Authorization)
}

func TestAGroupWithoutAVersionIsAnError(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) { kubetest.JSON(w, 200, metav1.APIGroup{Name: group}) })
	_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
	require.ErrorContains(t, err, "serves no version")
}

func TestHowOftenARequestIsTried(t *testing.T) {
	tests := []struct {
		name  string
		fail  func(w http.ResponseWriter)
		times int32 // how often the server fails
		tries int
		class Class // of the error; with times < tries there is none
	}{
		{"RBAC: once", func(w http.ResponseWriter) { kubetest.Status(w, 403, "Forbidden", "no") }, 99, 1, Denied},
		{"no such group: once", func(w http.ResponseWriter) { http.Error(w, "404 page not found", 404) }, 99, 1, Unserved},
		{"credential: three times", func(w http.ResponseWriter) { kubetest.Status(w, 401, "Unauthorized", "no") }, 99, 3, Unauthorized},
		{"overload: until it is over", func(w http.ResponseWriter) { kubetest.Status(w, 429, "TooManyRequests", "no") }, 2, 3, 0},
		{"failing webhook: until it is over", func(w http.ResponseWriter) { kubetest.Status(w, 500, "InternalError", "no") }, 1, 2, 0},
		{"torn body: until it is whole", func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"kind":"API`)) }, 1, 2, 0},
		{"connection cut: until it holds", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var failed atomic.Int32
			s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
				if failed.Add(1) <= tt.times {
					tt.fail(w)
					return
				}
				preferred(w, r)
			})
			_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
			if tt.times >= int32(tt.tries) {
				require.True(t, Is(err, tt.class), "%v", err)
			} else {
				require.NoError(t, err)
			}
			// HTTP itself repeats a GET whose connection died before it was answered.
			assert.GreaterOrEqual(t, len(s.Requests()), tt.tries)
			if tt.class != 0 {
				assert.Len(t, s.Requests(), tt.tries)
			}
		})
	}
}

// The queues of the API server say in a header, and nowhere else, when to come again.
func TestRetryAfterIsHonoured(t *testing.T) {
	var tries atomic.Int32
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
			return
		}
		preferred(w, r)
	})
	begin := time.Now()
	_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(begin), time.Second)
	assert.Equal(t, int32(2), tries.Load())
}

// An API server answers before it has read its roles and accounts.
func TestAServerThatWasJustAwayIsNotBelievedWhenItRefuses(t *testing.T) {
	for code, reason := range map[int]string{403: "Forbidden", 401: "Unauthorized"} {
		t.Run(reason, func(t *testing.T) {
			var tries atomic.Int32
			s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
				switch n := tries.Add(1); {
				case n == 1:
					kubetest.Status(w, 503, "ServiceUnavailable", "starting")
				case n < 6:
					kubetest.Status(w, code, reason, "nobody is known yet")
				default:
					preferred(w, r)
				}
			})
			_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
			require.NoError(t, err)
		})
	}
}

func TestTheWordsOfARefusalAreTold(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, 403, "Forbidden", `forbidden: User "u" cannot get path "/apis/x"`)
	})
	_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
	require.ErrorContains(t, err, `User "u" cannot get path "/apis/x" (HTTP 403)`)
}

func TestARotatedTokenIsReadAgain(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("old\n"), 0o600))
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer new" {
			preferred(w, r)
			return
		}
		// It is rotated while the hook runs.
		assert.NoError(t, os.WriteFile(token, []byte("new\n"), 0o600))
		kubetest.Status(w, 401, "Unauthorized", "Unauthorized")
	})
	c := newClient(t, kubetest.WriteKubeconfig(t, s.URL, s.CA, "tokenFile: "+token))
	_, err := c.PreferredVersion(t.Context(), group)
	require.NoError(t, err)
	assert.Equal(t, "Bearer old", s.Requests()[0].Authorization)
}

func TestARedirectIsNotFollowed(t *testing.T) {
	thief := kubetest.New(t, preferred)
	for _, code := range []int{301, 302, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+r.URL.Path, code) })
			// Both are trusted: it is not TLS that keeps the token from the thief.
			kubeconfig := kubetest.WriteKubeconfig(t, s.URL, append(bytes.Clone(s.CA), thief.CA...), "token: secret-token")
			_, err := newClient(t, kubeconfig).PreferredVersion(t.Context(), group)
			require.Error(t, err)
			assert.True(t, Is(err, Final), "%v", err)
			assert.Empty(t, thief.Requests())
		})
	}
}

func TestAServerThatCannotBeVerifiedGetsNothing(t *testing.T) {
	other, err := pki.NewCA("other")
	require.NoError(t, err)
	s := kubetest.New(t, preferred)
	c := newClient(t, kubetest.WriteKubeconfig(t, s.URL, other.PEM, "token: secret-token"))
	_, err = c.PreferredVersion(t.Context(), group)
	require.ErrorContains(t, err, "certificate")
	assert.True(t, Is(err, Final), "trying again does not help: %v", err)
	assert.Empty(t, s.Requests())
	assert.NotContains(t, err.Error(), "\n")
}

func TestAnOversizedAnswerIsCut(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		blank := []byte(strings.Repeat(" ", 1<<20))
		for range (maxResponseBytes >> 20) + 2 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	c := newClient(t, s.Kubeconfig())
	err := c.Do(ctx, "read", func(ctx context.Context) error {
		defer cancel() // once is enough
		_, err := c.rest.Get().AbsPath("/x").MaxRetries(0).DoRaw(ctx)
		return err
	})
	require.ErrorContains(t, err, "answer is larger than 32 MiB")
}

func TestTheEnvironmentSteersNothing(t *testing.T) {
	proxy := kubetest.New(t, preferred)
	s := kubetest.New(t, preferred)
	other := kubetest.New(t, preferred)
	otherCA := write(t, "ca", string(other.CA), 0o600)
	for name, value := range map[string]string{
		"HTTPS_PROXY": proxy.URL, "https_proxy": proxy.URL, "HTTP_PROXY": proxy.URL, "ALL_PROXY": proxy.URL, "NO_PROXY": "",
		"KUBECONFIG": other.Kubeconfig(), "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "1",
		"SSL_CERT_FILE": otherCA, "SSL_CERT_DIR": filepath.Dir(otherCA),
	} {
		t.Setenv(name, value)
	}
	_, err := newClient(t, s.Kubeconfig()).PreferredVersion(t.Context(), group)
	require.NoError(t, err)
	assert.Empty(t, proxy.Requests())
	assert.Empty(t, other.Requests())

	// An authority of the environment is none.
	ca, err := pki.NewCA("mine")
	require.NoError(t, err)
	_, err = newClient(t, kubetest.WriteKubeconfig(t, other.URL, ca.PEM, "token: x")).PreferredVersion(t.Context(), group)
	require.ErrorContains(t, err, "certificate")
}

func TestProxyOfTheTransportIsNone(t *testing.T) {
	// net/http leaves loopback out of proxying, so the test above alone shows little.
	t.Setenv("HTTPS_PROXY", "http://10.0.0.1:3128")
	cfg, err := restConfig(options(write(t, "kubeconfig", kubeconfig(t), 0o600)))
	require.NoError(t, err)
	request, err := http.NewRequest(http.MethodGet, "https://example.org", nil)
	require.NoError(t, err)
	url, err := cfg.Proxy(request)
	require.NoError(t, err)
	assert.Nil(t, url)
}

func TestTheDeadlineEndsTheTries(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, 503, "ServiceUnavailable", "starting")
	})
	c := newClient(t, s.Kubeconfig())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.PreferredVersion(ctx, group)
	require.ErrorContains(t, err, "starting (HTTP 503)", "the last answer, not the deadline, is the reason")
	assert.True(t, Is(err, Transient))
}

func TestOneAttemptThatIsNotAnsweredIsTriedAgain(t *testing.T) {
	var first atomic.Bool
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			<-r.Context().Done()
			return
		}
		preferred(w, r)
	})
	o := options(s.Kubeconfig())
	o.RequestTimeout = 100 * time.Millisecond
	c, err := New(o)
	require.NoError(t, err)
	_, err = c.PreferredVersion(t.Context(), group)
	require.NoError(t, err)
}

func TestAHastyClientDoesNotWaitForAServerThatRefusesConnections(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, hasty := range []bool{true, false} {
		o := options(write(t, "config", kubeconfig(t), 0o600))
		o.Hasty = hasty
		c, err := New(o)
		require.NoError(t, err)
		tries := 0
		err = c.Do(t.Context(), "get x", func(context.Context) error {
			if tries++; tries < 3 {
				return refused
			}
			return nil
		})
		if hasty {
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			assert.Equal(t, 1, tries)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestAWatchThatEndsInTimeTellsNothingOfTheServer(t *testing.T) {
	for name, tt := range map[string]struct {
		lasted time.Duration
		away   bool
	}{
		"ended by the time limit": {watchLife, false},
		"noticed late":            {watchLife + 5*time.Second, false},
		"cut":                     {watchLife / 2, true},
		"cut at once":             {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Client{}
			c.noteWatchEnd(time.Now().Add(-tt.lasted))
			assert.Equal(t, tt.away, c.starting(), "a 403 is tried again")
		})
	}
}
