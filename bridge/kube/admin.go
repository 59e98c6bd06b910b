package kube

import (
	"fmt"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Administrator is a person's access to a cluster, for a command at a prompt.
type Administrator struct {
	*Client
	Server string // the API server's URL
	CA     []byte // the certificates of its authority, PEM
}

// NewAdministrator reads a person's own kubeconfig. Unlike with New, it may run a
// credential plugin, as cloud providers need, and its file mode is not checked. TLS is
// still verified.
func NewAdministrator(o Options) (*Administrator, error) {
	wrong := func(err error) error { return fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err) }
	api, err := clientcmd.LoadFromFile(o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err) // its path is in it
	}
	if err := clientcmd.ResolveLocalPaths(api); err != nil {
		return nil, wrong(err)
	}
	cluster, _, err := current(api)
	if err != nil {
		return nil, wrong(err)
	}
	if err := verifiable(cluster); err != nil {
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
	client, err := clientFor(cfg, o)
	if err != nil {
		return nil, err
	}
	return &Administrator{Client: client, Server: cluster.Server, CA: ca}, nil
}

// current are the cluster and the user of the current context.
func current(api *clientcmdapi.Config) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	context, ok := api.Contexts[api.CurrentContext]
	if !ok {
		return nil, nil, fmt.Errorf("current-context %q is not among its contexts", api.CurrentContext)
	}
	cluster, ok := api.Clusters[context.Cluster]
	if !ok {
		return nil, nil, fmt.Errorf("context %q names cluster %q, which is not defined", api.CurrentContext, context.Cluster)
	}
	user, ok := api.AuthInfos[context.AuthInfo]
	if !ok {
		return nil, nil, fmt.Errorf("context %q names user %q, which is not defined", api.CurrentContext, context.AuthInfo)
	}
	return cluster, user, nil
}

// verifiable refuses a cluster whose API server's identity would not be checked.
func verifiable(cluster *clientcmdapi.Cluster) error {
	server, err := url.Parse(cluster.Server)
	switch {
	case err != nil || server.Host == "":
		return fmt.Errorf("server %q is not a URL", cluster.Server)
	case server.Scheme != "https":
		return fmt.Errorf("server %q: only https is allowed", cluster.Server)
	case cluster.InsecureSkipTLSVerify:
		return fmt.Errorf("insecure-skip-tls-verify is not allowed: give certificate-authority-data")
	case cluster.CertificateAuthority == "" && len(cluster.CertificateAuthorityData) == 0:
		return fmt.Errorf("no certificate-authority: the system's certificate store is not used for an API server")
	}
	return nil
}
