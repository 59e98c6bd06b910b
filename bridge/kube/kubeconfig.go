package kube

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// maxKubeconfigBytes bounds a kubeconfig, which holds a few certificates.
const maxKubeconfigBytes = 1 << 20

// ErrPlugin is part of the error about a kubeconfig whose credential a program gives, as
// those of kubelets on EKS and GKE.
var ErrPlugin = errors.New("has a credential plugin, and a hook runs none")

// restConfig turns a kubeconfig into a configuration that takes nothing from
// the environment, and refuses what would weaken TLS or run a program.
func restConfig(o Options) (*rest.Config, error) {
	api, err := readKubeconfig(o.Kubeconfig, o.AlsoTrusted)
	if err != nil {
		return nil, err
	}
	cluster, user, err := trustworthy(api, o.AlsoTrusted)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	cfg := &rest.Config{
		Host: cluster.Server, DisableCompression: cluster.DisableCompression,
		BearerToken: user.Token, Username: user.Username, Password: user.Password,
		Impersonate: rest.ImpersonationConfig{
			UserName: user.Impersonate, UID: user.ImpersonateUID, Groups: user.ImpersonateGroups, Extra: user.ImpersonateUserExtra,
		},
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: cluster.TLSServerName, CAData: cluster.CertificateAuthorityData,
			CertFile: user.ClientCertificate, CertData: user.ClientCertificateData,
			KeyFile: user.ClientKey, KeyData: user.ClientKeyData,
		},
	}
	if file := user.TokenFile; file != "" {
		cfg.BearerToken = ""
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return tokenTransport{file, o.AlsoTrusted, next} })
	}
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	cfg.UserAgent = o.UserAgent
	if o.As != nil {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: o.As.User, Groups: o.As.Groups}
		if o.As.Node != "" {
			cfg.Impersonate.Extra = map[string][]string{ExtraNode: {o.As.Node}}
		}
	}
	cfg.QPS = -1 // a hook sends a handful of requests; the API server has its own priority and fairness
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return boundedTransport{next} })
	return cfg, nil
}

// readKubeconfig reads through one descriptor, so that the file that was checked
// is the file that is used.
func readKubeconfig(path string, alsoTrusted []uint32) (*clientcmdapi.Config, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("kubeconfig %q: not an absolute path", path)
	}
	data, err := readSecret(path, alsoTrusted)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	api, err := parseKubeconfig(data, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return api, nil
}

// The lists of a kubeconfig's file, with the fields that client-go's types call otherwise.
// client-go's own reader brings its flags, and tables that are made before main.
type (
	namedCluster struct {
		Name    string
		Cluster struct {
			clientcmdapi.Cluster
			Extensions any `json:"extensions"`
		}
	}
	namedUser struct {
		Name string
		User struct {
			clientcmdapi.AuthInfo
			Extensions any `json:"extensions"`
			As         string
			UID        string              `json:"as-uid"`
			Groups     []string            `json:"as-groups"`
			Extra      map[string][]string `json:"as-user-extra"`
		}
	}
	namedContext struct {
		Name    string
		Context struct {
			clientcmdapi.Context
			Extensions any `json:"extensions"`
		}
	}
)

// parseKubeconfig reads what a hook may use of a kubeconfig. Relative paths are below dir.
func parseKubeconfig(data []byte, dir string) (*clientcmdapi.Config, error) {
	var file struct {
		Kind, APIVersion string
		Current          string `json:"current-context"`
		Clusters         []namedCluster
		Users            []namedUser
		Contexts         []namedContext
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	if file.Kind != "" && file.Kind != "Config" || file.APIVersion != "" && file.APIVersion != "v1" {
		return nil, fmt.Errorf("%s %s is not a kubeconfig", file.APIVersion, file.Kind)
	}
	api := clientcmdapi.NewConfig()
	api.CurrentContext = file.Current
	for i := range file.Clusters {
		c := &file.Clusters[i]
		absolute(dir, &c.Cluster.CertificateAuthority)
		if err := put(api.Clusters, c.Name, &c.Cluster.Cluster); err != nil {
			return nil, err
		}
	}
	for i := range file.Users {
		name, u := file.Users[i].Name, &file.Users[i].User
		absolute(dir, &u.ClientCertificate, &u.ClientKey, &u.TokenFile)
		u.Impersonate, u.ImpersonateUID, u.ImpersonateGroups, u.ImpersonateUserExtra = u.As, u.UID, u.Groups, u.Extra
		if err := put(api.AuthInfos, name, &u.AuthInfo); err != nil {
			return nil, err
		}
	}
	for i := range file.Contexts {
		c := &file.Contexts[i]
		if err := put(api.Contexts, c.Name, &c.Context.Context); err != nil {
			return nil, err
		}
	}
	return api, nil
}

func put[T any](all map[string]*T, name string, one *T) error {
	if all[name] != nil {
		return fmt.Errorf("%q is defined twice", name)
	}
	all[name] = one
	return nil
}

func absolute(dir string, paths ...*string) {
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// trustworthy refuses a kubeconfig that turns verification off, sends credentials in
// the clear, runs a program, or names a secret that others read. The file of the
// authority becomes its data: what was checked is what is used.
func trustworthy(api *clientcmdapi.Config, alsoTrusted []uint32) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	cluster, user, err := Current(api)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case cluster.ProxyURL != "":
		return nil, nil, fmt.Errorf("proxy-url is not allowed")
	case user.Exec != nil || user.AuthProvider != nil:
		return nil, nil, fmt.Errorf("user %q %w: give tokenFile or client-certificate and client-key",
			api.Contexts[api.CurrentContext].AuthInfo, ErrPlugin)
	}
	for _, secret := range []string{user.TokenFile, user.ClientKey} {
		if secret == "" {
			continue
		}
		if _, err := readSecret(secret, alsoTrusted); err != nil {
			return nil, nil, err
		}
	}
	// client-go reads the certificate again when it is renewed; it is looked at here, so
	// that a FIFO in its place is an error and not a hook that hangs.
	if user.ClientCertificate != "" {
		if _, err := readPublic(user.ClientCertificate, alsoTrusted); err != nil {
			return nil, nil, err
		}
	}
	if user.TokenFile+user.Token+user.Username+user.ClientCertificate+string(user.ClientCertificateData) == "" {
		return nil, nil, fmt.Errorf("user %q has no credential: give tokenFile or client-certificate and client-key", api.Contexts[api.CurrentContext].AuthInfo)
	}
	certificate, key := user.ClientCertificate+string(user.ClientCertificateData), user.ClientKey+string(user.ClientKeyData)
	if certificate != "" && key == "" {
		return nil, nil, fmt.Errorf("user %q has a client certificate and no client-key", api.Contexts[api.CurrentContext].AuthInfo)
	}
	if cluster.CertificateAuthority == "" || len(cluster.CertificateAuthorityData) > 0 {
		return cluster, user, nil
	}
	cluster.CertificateAuthorityData, err = readPublic(cluster.CertificateAuthority, alsoTrusted)
	cluster.CertificateAuthority = ""
	return cluster, user, err
}

// readPublic reads a file of certificates: no secret, but who chooses the authority,
// chooses the API server.
func readPublic(path string, alsoTrusted []uint32) ([]byte, error) {
	return readChecked(path, func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", path)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%s is writable by others (mode %04o): run \"chmod go-w %s\"", path, info.Mode().Perm(), path)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() && !slices.Contains(alsoTrusted, owner.Uid) {
			return fmt.Errorf("%s is owned by another user: run \"chown root %s\"", path, path)
		}
		return nil
	})
}

// readSecret reads a file that nobody else may read.
func readSecret(path string, alsoTrusted []uint32) ([]byte, error) {
	return readChecked(path, func(f *os.File) error { return slurmconf.CheckSecretFile(f, alsoTrusted...) })
}

// readChecked reads a file through the descriptor whose owner and mode were checked.
// A FIFO in its place must not make a hook wait for a writer.
func readChecked(path string, check func(*os.File) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := check(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKubeconfigBytes+1))
	if err == nil && len(data) > maxKubeconfigBytes {
		err = fmt.Errorf("%s is larger than %d KiB", path, maxKubeconfigBytes>>10)
	}
	return data, err
}

// Current returns the cluster and the user of the current context. It refuses a cluster
// whose API server's identity would not be checked.
func Current(api *clientcmdapi.Config) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
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
	return cluster, user, verifiable(cluster)
}

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
		return fmt.Errorf("no certificate-authority: the system's certificates are not trusted unless the file names them, " +
			"as in \"certificate-authority: /etc/ssl/certs/ca-certificates.crt\"")
	}
	return nil
}
