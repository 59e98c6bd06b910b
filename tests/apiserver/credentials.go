package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// writeCredentials makes the authority and all that the API server reads at its start.
func (s *Server) writeCredentials() error {
	ca, err := pki.NewCA("slurmk8s-test")
	if err != nil {
		return err
	}
	s.ca = ca
	serving, err := ca.Server("127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc", "10.96.0.1")
	if err != nil {
		return err
	}
	signing, public, err := pki.SigningKey()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt":              ca.PEM,
		"serving.crt":         serving.Cert,
		"serving.key":         serving.Key,
		"service-account.key": signing,
		"service-account.pub": public,
	} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), content, 0o600); err != nil {
			return fmt.Errorf("credentials of the API server: %w", err)
		}
	}
	if s.admin, err = s.UserConfig("admin", "system:masters"); err != nil {
		return err
	}
	return writeKubeconfig(s.Kubeconfig(), s.admin, "admin")
}

// Config is an administrator's access, without a client-side rate limit; the copy is the
// caller's own.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.admin) }

// Kubeconfig is the path of an administrator's kubeconfig file.
func (s *Server) Kubeconfig() string { return filepath.Join(s.Dir, "admin.kubeconfig") }

// UserConfig is the access of any user, by a client certificate. What the user may do is up to
// RBAC: a user nobody bound a role to may do nothing but discovery. A kubelet is user
// system:node:<name> in group system:nodes.
func (s *Server) UserConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := s.ca.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host: s.URL,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   s.ca.PEM,
			CertData: pair.Cert,
			KeyData:  pair.Key,
		},
		QPS: -1,
	}, nil
}

// SignRequest signs a certificate signing request, as the controller manager would: there is none.
func (s *Server) SignRequest(request []byte, validity time.Duration) ([]byte, error) {
	return s.ca.SignRequest(request, validity)
}

// UserKubeconfig writes UserConfig's access to a file that only its owner can read, in Dir,
// and returns the path.
func (s *Server) UserKubeconfig(user string, groups ...string) (string, error) {
	config, err := s.UserConfig(user, groups...)
	if err != nil {
		return "", err
	}
	// One user may be asked for with several groups, at the same time: each has a file.
	file, err := os.CreateTemp(s.Dir, unsafeInFileNames.ReplaceAllString(user, "_")+"-*.kubeconfig")
	if err != nil {
		return "", fmt.Errorf("kubeconfig of %s: %w", user, err)
	}
	path := file.Name()
	if err := file.Close(); err != nil {
		return "", fmt.Errorf("kubeconfig of %s: %w", user, err)
	}
	return path, writeKubeconfig(path, config, user)
}

var unsafeInFileNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func writeKubeconfig(path string, config *rest.Config, user string) error {
	const name = "slurmk8s-test"
	file := api.NewConfig()
	file.Clusters[name] = &api.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts[name] = &api.Context{Cluster: name, AuthInfo: user}
	file.CurrentContext = name
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", user, err)
	}
	return nil
}
