// Package dwssim is a small DataWorkflowServices for tests: the real kinds, a real admission
// webhook and the real state machine, as reference/dws.md describes them, with a test driver
// that does what a directive tells it.
//
//	sim, err := dwssim.Start(ctx, server.Config(), dwssim.Options{})
//	defer sim.Stop()
//
// The test driver's directives, one for each state a Workflow passes:
//
//	#DW <State> action=complete|wait|error [message=a_b] [severity=Minor|Major|Fatal] [delay=2s] [env=K:V,K2:V2]
//
// complete completes the state. wait leaves it to the test: see Complete and Fail; so does any
// other word. error reports the message "Reported error: a_b" and the error "a b": Fatal as Error;
// Major as TransientCondition, for the time of delay if there is one, for ever if not; Minor, the
// default, as a message of a driver that goes on; any other severity is itself reported as an
// Error. For all but Major, delay postpones the effect. env goes into status.env when the state
// completes.
//
// The commands of the public provider, NNF, with the arguments that NNF takes. They always
// succeed, after delay in each state, copy_in and copy_out only in that of the copy. With
// Options.NNF they do what the real one does:
//
//	#DW jobdw type=xfs|gfs2|lustre|raw capacity=1TiB name=NN [profile=P] [requires=R,...]
//	#DW create_persistent type=xfs|gfs2|lustre|raw name=NN [capacity=1TiB] [profile=P]
//	#DW destroy_persistent name=NN
//	#DW persistentdw name=NN [requires=R,...]
//	#DW copy_in|copy_out source=S destination=D [profile=P]
//	#DW container name=NN profile=P [DW_JOB_name=NN] [DW_PERSISTENT_name=NN]
//
// delay and env are the simulator's own: the real DWS refuses them.
//
// As with that provider, an instance is kept by the Teardown of a Workflow that passed all
// its states, and destroyed by Teardown whatever happened before: see Persistent.
//
// A blank #DW kills the webhook's connection, as it does with the real one.
package dwssim

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
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// Options say how Start starts. The zero value serves DefaultVersions to an API server on this
// machine.
type Options struct {
	// Versions are the API versions to serve; objects are stored in the last one.
	Versions []string
	// WebhookURL is where the API server finds the webhook, https://HOST:PORT. A loopback HOST
	// is listened on alone, for any other the port is listened on everywhere. Empty means a
	// free port of 127.0.0.1.
	WebhookURL string
	// Service, NAMESPACE/NAME, is used in place of WebhookURL in a cluster; the Service's port
	// 443 must lead to this program's ServicePort.
	Service string
	// RulesetNamespace is what "unable to find ruleset" names; empty means dws-system.
	RulesetNamespace string
	// QPS is how many requests a second the controller may make. The real one's client allows
	// RealQPS. Zero means any number: the limit would be all that a test measures.
	QPS int
	// NNF makes the provider's directives need, and get, storage; nil lets them succeed at once.
	NNF *NNF
	// Log gets a line for each event that is not routine, if set.
	Log io.Writer
}

// RealQPS is the limit that the real controller has.
const RealQPS = 20

// rate is QPS as client-go takes it, with its own ratio of a burst.
func (o Options) rate() (qps float32, burst int) {
	if o.QPS == 0 {
		return -1, 0
	}
	return float32(o.QPS), o.QPS * 3 / 2
}

// startDeadline bounds Start, whatever the caller's context says.
const startDeadline = 2 * time.Minute

// ServicePort is what is listened on for Options.Service.
const ServicePort = "9443"

// Sim is a running DWS.
type Sim struct {
	// Version is the API version that objects are stored in.
	Version string
	// WebhookURL is where the webhook listens.
	WebhookURL string

	output     *gate
	hook       *webhook
	server     *http.Server
	controller *controller
	nnf        *nnf // nil without Options.NNF
	end        context.CancelFunc
	ended      sync.WaitGroup
}

// Start installs the kinds and the webhooks, and returns when the API server asks them and the
// controller works. ctx bounds the start only; Stop ends the rest. What was installed stays, so
// that Workflows cannot be written until another Start, as when the real one is down.
func Start(ctx context.Context, config *rest.Config, options Options) (*Sim, error) {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	sim, err := start(ctx, config, options)
	if err != nil {
		return nil, fmt.Errorf("dwssim: %w", err)
	}
	return sim, nil
}

func start(ctx context.Context, config *rest.Config, options Options) (_ *Sim, err error) {
	if len(options.Versions) == 0 {
		options.Versions = DefaultVersions
	}
	if err := checkVersions(options.Versions); err != nil {
		return nil, err
	}
	if options.RulesetNamespace == "" {
		options.RulesetNamespace = "dws-system"
	}
	if options.Log == nil {
		options.Log = io.Discard
	}
	output := &gate{to: options.Log}
	logger := log.New(output, "dwssim: ", log.Ltime|log.Lmicroseconds)
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = options.rate()
	config.Timeout = 0 // it would cut the watch
	config.Wrap(withoutRetryAfter)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}

	s := &Sim{
		Version: options.Versions[len(options.Versions)-1],
		output:  output,
		hook:    &webhook{rulesetNamespace: options.RulesetNamespace, logf: logger.Printf},
	}
	s.hook.version = s.Version
	lifetime, end := context.WithCancel(context.Background())
	s.end = end
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	reach, err := s.serve(options, logger)
	if err != nil {
		return nil, err
	}
	var kinds []kind
	if options.NNF != nil {
		kinds = nnfKinds
	}
	if err := installCRDs(ctx, client, options.Versions, kinds); err != nil {
		return nil, err
	}
	if err := installWebhooks(ctx, client, reach, s.Version); err != nil {
		return nil, err
	}
	if err := untilWebhooksAnswer(ctx, client, s.Version); err != nil {
		return nil, err
	}
	s.controller = newController(client, s.Version, logger.Printf)
	if options.NNF != nil {
		s.nnf = newNNF(*options.NNF, api{client, s.Version}, logger.Printf)
		if err := s.nnf.install(ctx); err != nil {
			return nil, err
		}
		s.controller.nnf = s.nnf
	}
	s.ended.Go(func() { s.controller.run(lifetime) })
	s.hook.ready.Store(true)
	return s, nil
}

// withoutRetryAfter keeps client-go from sleeping inside a request: an API server that is coming
// up answers 503 with "Retry-After: 5", and is there long before. The controller's own retries
// are quicker.
func withoutRetryAfter(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if err == nil {
			response.Header.Del("Retry-After")
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// serve opens the webhook with a new authority and certificate.
func (s *Sim) serve(options Options, logger *log.Logger) (endpoint, error) {
	reach, listen, hosts, err := addresses(options)
	if err != nil {
		return endpoint{}, err
	}
	ca, err := pki.NewCA("dwssim")
	if err != nil {
		return endpoint{}, err
	}
	reach.caPEM = ca.PEM
	pair, err := ca.Server(hosts...)
	if err != nil {
		return endpoint{}, err
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return endpoint{}, fmt.Errorf("webhook: %w", err)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return endpoint{}, fmt.Errorf("webhook: %w", err)
	}
	if reach.url == "" && reach.serviceName == "" {
		reach.url = "https://" + listener.Addr().String()
	}
	s.WebhookURL = reach.url
	s.server = &http.Server{
		Handler:           s.hook.handler(),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          logger,
	}
	s.ended.Go(func() {
		if err := s.server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			logger.Printf("webhook: %v", err)
		}
	})
	return reach, nil
}

// addresses says how the API server reaches the webhook, what to listen on, and which names the
// certificate is for.
func addresses(options Options) (reach endpoint, listen string, hosts []string, err error) {
	if options.Service != "" {
		namespace, name, found := strings.Cut(options.Service, "/")
		if !found || namespace == "" || name == "" {
			return endpoint{}, "", nil, fmt.Errorf("service %q: it is not NAMESPACE/NAME", options.Service)
		}
		dns := name + "." + namespace + ".svc"
		return endpoint{serviceNamespace: namespace, serviceName: name}, ":" + ServicePort, []string{dns, dns + ".cluster.local"}, nil
	}
	if options.WebhookURL == "" {
		return endpoint{}, "127.0.0.1:0", []string{"127.0.0.1"}, nil
	}
	parsed, err := url.Parse(options.WebhookURL)
	if err != nil || parsed.Scheme != "https" || parsed.Port() == "" {
		return endpoint{}, "", nil, fmt.Errorf("webhook URL %q: it is not https://HOST:PORT", options.WebhookURL)
	}
	listen = ":" + parsed.Port()
	if ip := net.ParseIP(parsed.Hostname()); ip != nil && ip.IsLoopback() {
		listen = parsed.Host
	}
	return endpoint{url: options.WebhookURL}, listen, []string{parsed.Hostname()}, nil
}

// Stop ends the controller and the webhook, and returns when they have ended.
func (s *Sim) Stop() {
	s.end()
	if s.server != nil {
		_ = s.server.Close()
	}
	s.ended.Wait()
	s.output.close()
}

// gate is a log that can be closed: a connection that is cut by Stop may have something to say
// afterwards, when a test that reads the log is over.
type gate struct {
	mu     sync.Mutex
	to     io.Writer
	closed bool
}

func (g *gate) Write(line []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return len(line), nil
	}
	return g.to.Write(line)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// SetWebhookDown makes the webhook's connections die: the API server then answers every write
// of a Workflow with 500, "failed calling webhook".
func (s *Sim) SetWebhookDown(down bool) { s.hook.down.Store(down) }

// SetWebhookDelay makes the webhook take so long for each of its answers. The API server waits
// 10 s for one.
func (s *Sim) SetWebhookDelay(delay time.Duration) { s.hook.delayNanos.Store(int64(delay)) }

// SetControllerStopped makes the controller take up no change until it runs again.
func (s *Sim) SetControllerStopped(stopped bool) {
	s.controller.stopped.Store(stopped)
	s.controller.lookAtAll()
}

// Persistent are the names of the persistent instances that exist, in order. With Options.NNF, there
// are objects of them to look at.
func (s *Sim) Persistent() []string { return s.controller.persistentNames() }

// SetRuleset takes the rules of directives away: then every directive is refused with "unable
// to find ruleset in namespace".
func (s *Sim) SetRuleset(present bool) { s.hook.noRuleset.Store(!present) }
