// Package apiserver is the api tier of the tests: a real etcd and a real kube-apiserver on
// loopback, up in a few seconds, with RBAC, Node authorization and NodeRestriction. There is no
// scheduler, no kubelet, and no controller but those of StartControllers: nothing happens but
// what the test does.
//
//	server, err := apiserver.Start(ctx, apiserver.Options{})
//	defer server.Close()
//	client, err := dynamic.NewForConfig(server.Config())
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// startDeadline bounds one start of etcd or of the API server on a busy machine.
const startDeadline = 5 * time.Minute

// Options say what Start starts. The zero value is what most tests want.
type Options struct {
	// KubernetesVersion is a folder of tests/kubernetes/build.sh, such as v1.34.4; empty means
	// the environment's KUBERNETES_VERSION, or DefaultKubernetesVersion.
	KubernetesVersion string
	// ExtraArgs are appended to kube-apiserver's; the last of two equal flags counts.
	ExtraArgs []string
	// KeepDir leaves the temporary folder with all logs behind; its path is Server.Dir.
	KeepDir bool
	// Log gets one line a phase, if set.
	Log io.Writer
}

// Server is a running Kubernetes API. Its methods may be called from several goroutines.
type Server struct {
	// Dir holds the data, the logs (etcd.log, kube-apiserver.log) and the kubeconfig files.
	Dir string
	// URL is the API's address; it survives StopAPIServer and StartAPIServer.
	URL string

	options  Options
	binaries binaries
	ca       *pki.CA
	admin    *rest.Config
	etcdURL  string
	port     string

	mu   sync.Mutex
	etcd *process
	api  *process
	// controllers is nil until StartControllers.
	controllers *process
}

// Start returns when the API answers and its default namespace exists. ctx bounds the start
// only; Close ends the server, and so does the end of this program, whatever ends it.
func Start(ctx context.Context, options Options) (*Server, error) {
	found, err := findBinaries(options.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	// A free port can be taken by another before it is listened on: then another one is tried.
	for attempt := 1; ; attempt++ {
		server, err := start(ctx, options, found)
		if err == nil || attempt == 3 || !errors.Is(err, errPortTaken) {
			return server, err
		}
	}
}

// ForTest starts a server that ends with the test. Under -short the test is left out.
func ForTest(tb testing.TB, options Options) *Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	server, err := Start(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	return server
}

func start(ctx context.Context, options Options, found binaries) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "slurmk8s-apiserver-")
	if err != nil {
		return nil, fmt.Errorf("folder of the API server: %w", err)
	}
	s := &Server{Dir: dir, options: options, binaries: found}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s.port = ports[0]
	s.URL = "https://127.0.0.1:" + s.port
	s.etcdURL = "http://127.0.0.1:" + ports[1]
	if err := s.writeCredentials(); err != nil {
		return nil, err
	}
	s.logf("etcd: starting %s", found.etcd)
	s.etcd, err = startProcess(dir, "etcd", found.etcd, s.etcdArgs("http://127.0.0.1:"+ports[2]))
	if err != nil {
		return nil, err
	}
	// The API server waits for etcd by itself; starting both at once saves a second.
	if err := s.StartAPIServer(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// StartAPIServer starts the API server after StopAPIServer, with the same data, address and
// credentials, and returns when it answers.
func (s *Server) StartAPIServer(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api != nil && s.api.running() {
		return fmt.Errorf("start kube-apiserver: it is running at %s", s.URL)
	}
	s.logf("kube-apiserver: starting %s", s.binaries.kubeAPIServer)
	api, err := startProcess(s.Dir, "kube-apiserver", s.binaries.kubeAPIServer, s.apiServerArgs())
	if err != nil {
		return err
	}
	s.api = api
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	s.logf("kube-apiserver: ready at %s", s.URL)
	return nil
}

// StopAPIServer ends the API server as a power failure would: connections are reset, then
// refused. etcd stays.
func (s *Server) StopAPIServer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api.kill()
}

// PauseAPIServer makes the API server hang: connections are accepted, nothing is answered.
// When this returns, none of its threads runs any more.
func (s *Server) PauseAPIServer() error {
	if err := s.signalAPIServer(syscall.SIGSTOP); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.api.awaitStop()
}

// ResumeAPIServer ends what PauseAPIServer began.
func (s *Server) ResumeAPIServer() error { return s.signalAPIServer(syscall.SIGCONT) }

func (s *Server) signalAPIServer(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.api.signal(signal)
}

// Close ends all processes and removes the folder. A second call does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.controllers.kill()
	s.api.kill()
	s.etcd.kill()
	if !s.options.KeepDir {
		_ = os.RemoveAll(s.Dir)
	}
}

func (s *Server) logf(format string, args ...any) {
	if s.options.Log != nil {
		fmt.Fprintf(s.options.Log, "apiserver: "+format+"\n", args...)
	}
}

func (s *Server) etcdArgs(peerURL string) []string {
	return []string{
		"--name=default",
		"--data-dir=" + filepath.Join(s.Dir, "etcd"),
		"--listen-client-urls=" + s.etcdURL,
		"--advertise-client-urls=" + s.etcdURL,
		"--listen-peer-urls=" + peerURL,
		"--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=default=" + peerURL,
		// The only member elects itself; the usual timeouts would cost a second.
		"--heartbeat-interval=20",
		"--election-timeout=200",
		// The data need not survive the machine, and a busy disk must not stop the server for seconds.
		"--unsafe-no-fsync",
	}
}

func (s *Server) apiServerArgs() []string {
	file := func(name string) string { return filepath.Join(s.Dir, name) }
	args := []string{
		"--etcd-servers=" + s.etcdURL,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + s.port,
		"--tls-cert-file=" + file("serving.crt"),
		"--tls-private-key-file=" + file("serving.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("service-account.pub"),
		"--service-account-signing-key-file=" + file("service-account.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		// Nobody makes the service accounts that this plugin demands of pods.
		"--disable-admission-plugins=ServiceAccount",
		// A loopback address is refused as an endpoint of the kubernetes service.
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--profiling=false",
	}
	return append(args, s.options.ExtraArgs...)
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(count int) ([]string, error) {
	var ports []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		// All stay open until the last is found, or one could be handed out twice.
		defer listener.Close()
		ports = append(ports, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
