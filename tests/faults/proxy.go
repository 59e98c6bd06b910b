package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// token is what the proxy's kubeconfig holds and the proxy asks for: a hook that
// reached the proxy without its kubeconfig would be noticed.
const token = "fault-proxy-token"

// Proxy is a TLS server on 127.0.0.1 that passes requests to a kube-apiserver,
// body and query unchanged, watches without delay, and fails as planned. It asks
// the upstream with an identity of its own, so a hook's credential is a dummy.
type Proxy struct {
	URL string

	kill      func()
	target    *url.URL
	transport http.RoundTripper
	server    *http.Server
	done      chan struct{}
	closeOnce sync.Once

	mu       sync.Mutex
	began    bool
	plan     Plan
	requests []Request
	troubles []error
}

// Options of a proxy.
type Options struct {
	Plan Plan
	// Kill ends the hook's process and returns when the signal is sent. Only the
	// faults with Kills need it.
	Kill func()
	// HTTP1 keeps clients from HTTP/2.
	HTTP1 bool
}

type connKey struct{}

// Start starts a proxy before the API server that upstream reaches. Nothing fails
// until Begin. Close it.
func Start(upstream *rest.Config, o Options) (*Proxy, error) {
	if o.Plan.Fault.Kills && o.Kill == nil {
		return nil, fmt.Errorf("fault %s: Options.Kill is not set", o.Plan.Fault.Name)
	}
	cfg := rest.CopyConfig(upstream)
	cfg.DisableCompression = true // the client's Accept-Encoding is passed on; nothing is to be undone here
	target, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.Host, err)
	}
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.Host, err)
	}
	id, err := proxyIdentity()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{
		URL:  "https://" + listener.Addr().String(),
		plan: o.Plan, kill: o.Kill, target: target, transport: transport,
		done: make(chan struct{}),
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!o.HTTP1)
	p.server = &http.Server{
		Handler:   http.HandlerFunc(p.serve),
		Protocols: protocols,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{id.serving}},
		ErrorLog:  log.New(io.Discard, "", 0), // clients that die in a handshake are this package's trade
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	go func() { _ = p.server.ServeTLS(listener, "", "") }()
	return p, nil
}

// Close ends the proxy and every exchange. It may be called twice.
func (p *Proxy) Close() {
	p.closeOnce.Do(func() {
		close(p.done)
		_ = p.server.Close()
	})
}

func (p *Proxy) closed() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Requests is what arrived so far, in order.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Struck tells whether the planned fault was injected at least once.
func (p *Proxy) Struck() bool {
	for _, r := range p.Requests() {
		if r.Fault != "" {
			return true
		}
	}
	return false
}

// Err is what went wrong without being planned: a run with it proves nothing.
func (p *Proxy) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.troubles...)
}

func (p *Proxy) trouble(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, err)
}

// Begin begins the numbering. What came before it was preparation: it passes, and
// no plan counts it. Only the first call counts.
func (p *Proxy) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = true
}

// Disarm ends the fault: what comes from now on passes. The numbering goes on.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = Plan{}
}

// record numbers a request and returns what serves it: the fault, if it strikes.
func (p *Proxy) record(r *http.Request) (Request, func(*exchange)) {
	req := describe(r.Method, r.URL)
	p.mu.Lock()
	defer p.mu.Unlock()
	serve := (*exchange).pass
	if !p.began {
		return req, serve
	}
	req.Number = len(p.requests) + 1
	if p.plan.strikes(req) {
		req.Fault = p.plan.Fault.Name
		serve = p.plan.Fault.serve
	}
	p.requests = append(p.requests, req)
	return req, serve
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	req, serve := p.record(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client died while it sent
	}
	if got := r.Header.Get("Authorization"); got != "Bearer "+token {
		p.trouble(fmt.Errorf("request %s: not made with the proxy's kubeconfig", req))
		http.Error(w, "not the proxy's kubeconfig", http.StatusUnauthorized)
		return
	}
	serve(&exchange{p: p, w: w, r: r, req: req, body: body})
}

// WriteKubeconfig writes the file by which a hook reaches the upstream through
// the proxy; its mode is what slurmk8s asks of a file with a secret.
func (p *Proxy) WriteKubeconfig(path, namespace string) error {
	id, err := proxyIdentity()
	if err != nil {
		return err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["faults"] = &clientcmdapi.Cluster{Server: p.URL, CertificateAuthorityData: id.caPEM}
	c.AuthInfos["hook"] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts["faults"] = &clientcmdapi.Context{Cluster: "faults", AuthInfo: "hook", Namespace: namespace}
	c.CurrentContext = "faults"
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	return os.WriteFile(path, b, 0o600)
}
