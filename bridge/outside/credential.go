// Package outside registers services outside Slurm, for programs that use Arkouda's
// environment variables. It reads the same variables and returns the same exit codes.
package outside

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The variables that say how Kubernetes is reached.
const (
	envHost     = "K8S_HOST"    // https://HOST:PORT
	envCA       = "CACERT_FILE" // certificates of the authority; must be given
	envKey      = "KEY_FILE"
	envCert     = "CERT_FILE"
	envPassword = "KEY_PASSWD"
	envToken    = "SSL_TOKEN" // instead of key and certificate
)

// CredentialError is a key, certificate or token that cannot be used.
type CredentialError struct {
	Text string
	Err  error
}

func (e *CredentialError) Error() string { return e.Text }
func (e *CredentialError) Unwrap() error { return e.Err }

func unusable(format string, args ...any) error {
	return &CredentialError{Text: fmt.Sprintf(format, args...)}
}

// URLError is an invalid address of an API server.
type URLError struct{ Text string }

func (e *URLError) Error() string { return e.Text }

// Kubeconfig makes a kubeconfig from the variables. It exists only in memory and ends
// with the process. The path is empty if K8S_HOST is not set.
func Kubeconfig(env func(string) string) (path string, err error) {
	host := env(envHost)
	if host == "" {
		return "", nil
	}
	server, err := url.Parse(host)
	if err != nil || server.Scheme != "https" || server.Host == "" {
		return "", &URLError{fmt.Sprintf("%s=%q is not a URL such as https://host:6443", envHost, host)}
	}
	cluster := &clientcmdapi.Cluster{Server: host}
	if cluster.CertificateAuthorityData, err = authority(env(envCA)); err != nil {
		return "", err
	}
	user := &clientcmdapi.AuthInfo{Token: env(envToken)}
	switch {
	case env(envKey) != "" && env(envCert) != "":
		user.ClientCertificateData, user.ClientKeyData, err = pair(env(envCert), env(envKey), env(envPassword))
		user.Token = ""
	case env(envKey)+env(envCert) != "":
		err = unusable("%s and %s belong together, and one is not set", envKey, envCert)
	case user.Token == "":
		err = unusable("no credential: set %s and %s, or %s", envKey, envCert, envToken)
	}
	if err != nil {
		return "", err
	}
	const name = "outside"
	file := clientcmdapi.NewConfig()
	file.Clusters[name], file.AuthInfos[name] = cluster, user
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	file.CurrentContext = name
	data, err := clientcmd.Write(*file)
	if err != nil {
		return "", err
	}
	return inMemory(data)
}

// inMemory keeps data in a file that only this process has.
func inMemory(data []byte) (string, error) {
	fd, err := unix.MemfdCreate("kubeconfig", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return "", fmt.Errorf("memfd: %w", err)
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return "", fmt.Errorf("memfd: %w", err)
		}
		data = data[n:]
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil // stays open until the end
}

func authority(path string) ([]byte, error) {
	if path == "" {
		return nil, unusable("%s is not set: the API server's certificate is always verified", envCA)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unusable("%s: %v", envCA, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return nil, unusable("%s: %s holds no certificate", envCA, path)
	}
	return data, nil
}

func pair(certPath, keyPath, password string) (cert, key []byte, err error) {
	if cert, err = os.ReadFile(certPath); err != nil {
		return nil, nil, unusable("%s: %v", envCert, err)
	}
	if key, err = os.ReadFile(keyPath); err != nil {
		return nil, nil, unusable("%s: %v", envKey, err)
	}
	if key, err = decrypt(key, password); err != nil {
		return nil, nil, unusable("%s: %s: %v", envKey, keyPath, err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return nil, nil, unusable("%s and %s: %v", envCert, envKey, err)
	}
	return cert, key, nil
}
