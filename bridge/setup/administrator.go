package setup

import (
	"fmt"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Administrator is a person's access to a cluster, for a command at a prompt.
type Administrator struct {
	*kube.Client
	Server string // the API server's URL
	CA     []byte // the certificates of its authority, PEM
	// TLSServerName is the name in the API server's certificate; "": that of its URL.
	TLSServerName string
	Proxied       bool // the person reaches it by proxy-url, which hooks do not use
}

// NewAdministrator reads a person's own kubeconfig. Unlike with kube.New, it may run a
// credential plugin, as cloud providers need, and its file mode is not checked. TLS is
// still verified.
func NewAdministrator(o kube.Options) (*Administrator, error) {
	wrong := func(err error) error { return fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err) }
	api, err := clientcmd.LoadFromFile(o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err) // its path is in it
	}
	if err := clientcmd.ResolveLocalPaths(api); err != nil {
		return nil, wrong(err)
	}
	cluster, _, err := kube.Current(api)
	if err != nil {
		return nil, wrong(err)
	}
	ca := cluster.CertificateAuthorityData
	if len(ca) == 0 {
		if ca, err = os.ReadFile(cluster.CertificateAuthority); err != nil {
			return nil, wrong(err)
		}
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*api, api.CurrentContext, nil, nil).ClientConfig()
	if err != nil {
		return nil, wrong(err)
	}
	if cfg.Proxy == nil { // no proxy-url: the environment's proxy is not asked, as in hooks
		cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	cfg.UserAgent = o.UserAgent
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	client, err := kube.ForConfig(cfg, o)
	if err != nil {
		return nil, err
	}
	return &Administrator{Client: client, Server: cluster.Server, CA: ca, TLSServerName: cluster.TLSServerName, Proxied: cluster.ProxyURL != ""}, nil
}
