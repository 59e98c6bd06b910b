package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// Each is one clear line, and nothing is made.
func TestCredentialsThatAreNotAccepted(t *testing.T) {
	const refused = "the API server rejects the credential of the kubeconfig: it may be expired or revoked (HTTP 401)"
	tests := []struct {
		name  string
		spoil func(t *testing.T, s *site)
		want  string
	}{
		{"a wrong token", func(_ *testing.T, s *site) { s.credential("token: wrong") }, refused},
		{"a revoked token", func(t *testing.T, s *site) {
			require.NoError(t, s.c.admin.Resource(accounts).Namespace(s.namespace).Delete(t.Context(), account, metav1.DeleteOptions{}))
			untilRefused(t, s)
		}, refused},
		{"an expired client certificate", func(t *testing.T, s *site) {
			s.credential(clientCertificate(t, s, time.Now().Add(-time.Hour)))
		}, refused},
		{"no credential", func(_ *testing.T, s *site) { s.credential("username: ''") },
			`user "u" has no credential: give tokenFile or client-certificate and client-key`},
		{"another authority", func(t *testing.T, s *site) {
			other, err := pki.NewCA("other")
			require.NoError(t, err)
			text, err := os.ReadFile(kubetest.WriteKubeconfig(t, s.c.config.Host, other.PEM, "tokenFile: "+s.path("token")))
			require.NoError(t, err)
			s.write("kubeconfig", string(text), 0o600)
		}, "certificate signed by unknown authority"},
		{"a token file that others read", func(t *testing.T, s *site) { require.NoError(t, os.Chmod(s.path("token"), 0o644)) },
			"holds a secret but is open to others (mode 0644): run \"chmod 600 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := shared(t).newSite(t)
			j := s.job("#DW Setup action=complete")
			tt.spoil(t, s)
			for _, name := range []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "job_teardown"} {
				assert.Contains(t, j.fails(name, "DEADLINE_MS=30000"), tt.want, name)
			}
			code, reply := j.status("0")
			assert.NotZero(t, code)
			assert.Contains(t, reply["MESSAGE"], tt.want)
			assert.Empty(t, s.names())
			assert.NoFileExists(t, filepath.Join(s.path("state"), "breaker"), "Kubernetes has answered")
			token, err := os.ReadFile(s.path("token"))
			require.NoError(t, err)
			assert.NotContains(t, s.log(), string(token[:20]), "no secret is logged")
		})
	}
}

func TestAClientCertificateIsAccepted(t *testing.T) {
	s := shared(t).newSite(t)
	s.credential(clientCertificate(t, s, time.Now().Add(time.Hour)))
	// Nobody bound a role to its user: known, and forbidden.
	assert.Contains(t, s.job("#DW Setup action=complete").fails("setup"), `User "controller" cannot`)
}

// untilRefused waits until the API server no longer knows the token.
func untilRefused(t *testing.T, s *site) {
	t.Helper()
	config := rest.AnonymousClientConfig(s.c.config)
	config.BearerTokenFile = s.path("token")
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	eventually.True(t, "the credential is not accepted any more", func() bool {
		_, err := client.Resource(dwssim.WorkflowsResource(s.c.version())).Namespace(s.namespace).List(t.Context(), metav1.ListOptions{})
		return apierrors.IsUnauthorized(err)
	}) // it remembers a good one for 10 s
}

// clientCertificate is a kubeconfig's user with a certificate by an authority that
// the API server trusts: it reads its file of authorities again when it changes.
func clientCertificate(t *testing.T, s *site, until time.Time) string {
	t.Helper()
	simulatorOnly(t, "the API server's file of authorities")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: t.Name()},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	require.NoError(t, err)
	trusted, err := os.OpenFile(filepath.Join(s.c.server.Dir, "ca.crt"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = trusted.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.NoError(t, err)
	require.NoError(t, trusted.Close())

	issue := func(until time.Time) (string, rest.TLSClientConfig) {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "controller"},
			NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, authority, key.Public(), key)
		require.NoError(t, err)
		keyDER, err := x509.MarshalECPrivateKey(key)
		require.NoError(t, err)
		certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
		return fmt.Sprintf("client-certificate-data: %s\nclient-key-data: %s",
				base64.StdEncoding.EncodeToString(certPEM), base64.StdEncoding.EncodeToString(keyPEM)),
			rest.TLSClientConfig{CAData: s.c.config.CAData, CertData: certPEM, KeyData: keyPEM}
	}
	// With one that is valid the API server must come to know us: then only the time
	// is wrong with the other.
	_, tls := issue(time.Now().Add(time.Hour))
	client, err := dynamic.NewForConfig(&rest.Config{Host: s.c.config.Host, TLSClientConfig: tls})
	require.NoError(t, err)
	eventually.True(t, "the certificate is accepted", func() bool {
		_, err := client.Resource(namespaces).List(t.Context(), metav1.ListOptions{})
		return apierrors.IsForbidden(err)
	})
	user, _ := issue(until)
	return user
}
