// Package kubetest is a scripted API server for unit tests of what uses package kube: real
// TLS and HTTP, one process, no Kubernetes. What depends on Kubernetes itself is
// tested against the real one in tests/api.
package kubetest

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// Server records every request before its handler answers it.
type Server struct {
	URL string
	// CA is the PEM of the authority that signed the server's certificate.
	CA []byte

	tb       testing.TB
	server   *httptest.Server
	mu       sync.Mutex
	requests []Request
}

// Request is what a client sent.
type Request struct {
	Method, Path, Query string
	Authorization       string
	Body                string
}

// String is method and path, "GET /apis/group".
func (r Request) String() string { return r.Method + " " + r.Path }

// New starts a server that ends with the test.
func New(tb testing.TB, handler http.HandlerFunc) *Server {
	tb.Helper()
	ca, err := pki.NewCA("kubetest")
	if err != nil {
		tb.Fatal(err)
	}
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{CA: ca.PEM, tb: tb}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), string(body)})
		s.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		handler(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.EnableHTTP2 = true
	// A client that does not trust us is what some tests want.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	tb.Cleanup(server.Close)
	// A handler that never answers must not hold the server's end up.
	tb.Cleanup(server.CloseClientConnections)
	s.URL, s.server = server.URL, server
	return s
}

// CutConnections ends all connections, answers under way included.
func (s *Server) CutConnections() { s.server.CloseClientConnections() }

// Requests returns what was sent so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Count is how many requests so far are of a method and contain text in path or query.
func (s *Server) Count(method, text string) int {
	n := 0
	for _, r := range s.Requests() {
		if r.Method == method && strings.Contains(r.Path+"?"+r.Query, text) {
			n++
		}
	}
	return n
}

// Kubeconfig writes a kubeconfig with a token for the server and returns its path.
func (s *Server) Kubeconfig() string {
	s.tb.Helper()
	return WriteKubeconfig(s.tb, s.URL, s.CA, "token: secret-token")
}

// WriteKubeconfig writes a kubeconfig that only its owner can read. user is YAML,
// the fields of the user, each line indented by nothing.
func WriteKubeconfig(tb testing.TB, url string, ca []byte, user string) string {
	tb.Helper()
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters:
- name: k
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: u
  user:
    %s
`, url, base64.StdEncoding.EncodeToString(ca), strings.ReplaceAll(user, "\n", "\n    "))
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// JSON answers with a status code and an object.
func JSON(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

// Status answers with an error as the API server words it. The reason is one of
// metav1.StatusReason.
func Status(w http.ResponseWriter, code int, reason, message string) {
	JSON(w, code, map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{},
		"status": "Failure", "code": code, "reason": reason, "message": message,
	})
}
