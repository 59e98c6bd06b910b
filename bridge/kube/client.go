// Package kube reaches a Kubernetes API server from inside a Slurm hook: one
// kubeconfig, no environment, a bound on every request, and errors in classes
// that a hook can act on.
package kube

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// FieldManager is the manager of slurmk8s's fields in managedFields.
const FieldManager = "slurmk8s"

// maxResponseBytes bounds one answer of the API server; the largest that we ask
// for is a page of Workflows. A watch is bounded in sum, since client-go bounds no
// event: one that has told so much ends, and its reader begins another.
const maxResponseBytes = 32 << 20

// Options say which API server to reach and how.
type Options struct {
	Kubeconfig     string        // absolute path; its owner and mode are checked
	RequestTimeout time.Duration // one attempt of one request, watches excepted
	UserAgent      string        // appears in the API server's audit log
	AlsoTrusted    []uint32      // owners that secrets may have besides root and ourselves
	Hasty          bool          // Slurm stands still meanwhile: do not wait for a server that refuses connections
	As             *Identity     // whom the requests are made for; nil: the credential's own
	Log            *logrus.Entry // nil: nothing is logged
}

// Identity is a Kubernetes user that the credential impersonates: RBAC and admission
// then apply to that user. The credential needs the right to impersonate.
type Identity struct {
	User   string
	Groups []string
	// Node is told along (ExtraNode), for the admission policy: which node a request
	// comes from is no longer in the user's name. "": it comes from none.
	Node string
}

// IdentityOf is the Identity for a user of Slurm: pattern has "{user}" in it. It is nil if pattern
// is "".
func IdentityOf(pattern string, groups []string, user, node string) (*Identity, error) {
	if pattern == "" {
		return nil, nil
	}
	if user == "" {
		return nil, errors.New("impersonate: the name of the job's user is not known")
	}
	name := strings.ReplaceAll(pattern, "{user}", user)
	if strings.HasPrefix(name, "system:") { // "{user}:x", and a user whose name is system
		return nil, fmt.Errorf("impersonate: %s is one of Kubernetes's own users", name)
	}
	return &Identity{User: name, Groups: groups, Node: node}, nil
}

// ExtraNode is where an Identity's Node is in request.userInfo.extra. A node's right to
// impersonate is for its own name only (packaging/manifests/impersonation.yaml).
const ExtraNode = "slurmk8s-node"

// Client is a connection to one API server.
type Client struct {
	Dynamic        dynamic.Interface
	rest           *rest.RESTClient
	requestTimeout time.Duration
	hasty          bool
	kubelet        string
	away           atomic.Int64 // when the server was last found away, Unix nanoseconds; 0: never
	log            *logrus.Entry
}

// New makes a client. It sends nothing: an error is about the kubeconfig.
func New(o Options) (*Client, error) {
	cfg, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	return ForConfig(cfg, o)
}

// For makes a client with one of the credentials that the configuration names. purpose
// identifies its requests in the API server's audit log: "job 12; epilog".
func For(cfg *slurmconf.Config, kubeconfig, purpose string, log *logrus.Entry, change ...func(*Options)) (*Client, error) {
	o := Options{
		Kubeconfig:     kubeconfig,
		RequestTimeout: cfg.Kubernetes.RequestTimeout.Std(),
		UserAgent:      fmt.Sprintf("slurmk8s/%s (cluster %s; %s)", version.Version, cfg.Cluster, purpose),
		Log:            log,
	}
	for _, f := range change {
		f(&o)
	}
	return New(o)
}

// Hasty is for a caller that others wait for: see Options.
func Hasty(o *Options) { o.Hasty = true }

// Trusting adds uids that files with secrets may belong to.
func Trusting(uids ...uint32) func(*Options) {
	return func(o *Options) { o.AlsoTrusted = uids }
}

// As makes the requests as another Kubernetes user; nil: as the credential's own.
func As(identity *Identity) func(*Options) {
	return func(o *Options) { o.As = identity }
}

// ForConfig makes a client of a configuration that the caller has read and checked.
func ForConfig(cfg *rest.Config, o Options) (*Client, error) {
	if o.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		o.Log = logrus.NewEntry(silent)
	}
	below := ""
	if server, err := url.Parse(cfg.Host); err == nil {
		below = server.Path
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return auditTransport{next, o.Log, below} })
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	// client-go puts the token on every request, a redirected one included.
	httpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	dyn, err := dynamic.NewForConfigAndClient(cfg, httpClient)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	raw, err := rest.UnversionedRESTClientForConfigAndClient(dynamic.ConfigFor(cfg), httpClient)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	return &Client{Dynamic: dyn, rest: raw, requestTimeout: o.RequestTimeout, hasty: o.Hasty, log: o.Log, kubelet: kubeletOf(cfg, o.AlsoTrusted)}, nil
}

// Kubelet is the name of the node whose kubelet's certificate the client has; "" for any
// other credential.
func (c *Client) Kubelet() string { return c.kubelet }

func kubeletOf(cfg *rest.Config, alsoTrusted []uint32) string {
	text := cfg.CertData
	if len(text) == 0 && cfg.CertFile != "" {
		text, _ = readPublic(cfg.CertFile, alsoTrusted)
	}
	var certificate Credential
	if len(text) == 0 || certificate.readCertificate(text) != nil {
		return ""
	}
	name, ok := strings.CutPrefix(certificate.User, "system:node:")
	if !ok {
		return ""
	}
	return name
}

// tokenTransport reads the token file for each request: client-go would go on
// for a minute with a token that was rotated, longer than a refused one is tried.
type tokenTransport struct {
	file        string
	alsoTrusted []uint32
	next        http.RoundTripper
}

func (t tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := readSecret(t.file, t.alsoTrusted)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fmt.Errorf("token: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return t.next.RoundTrip(r)
}

// boundedTransport ends an answer that is larger than anything we ask for, and
// hides Retry-After from client-go, which would sleep inside the request where
// Do cannot see it; Do is told.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	noteRetryAfter(r.Context(), resp)
	resp.Header.Del("Retry-After")
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponseBytes}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("answer is larger than %d MiB", maxResponseBytes>>20)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
