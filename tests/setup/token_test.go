package setup

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// agedToken is a token for a hundred hours of which ten are left, signed with the API
// server's own key: a test cannot wait until one has aged.
func (w *world) agedToken(token string) string {
	w.t.Helper()
	parts := strings.Split(strings.TrimSpace(token), ".")
	require.Len(w.t, parts, 3)
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(w.t, err)
	claims := map[string]any{}
	require.NoError(w.t, json.Unmarshal(text, &claims))
	issued := time.Now().Add(-90 * time.Hour).Unix()
	claims["iat"], claims["nbf"], claims["exp"] = issued, issued, time.Now().Add(10*time.Hour).Unix()
	text, err = json.Marshal(claims)
	require.NoError(w.t, err)
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(text)

	pemText, err := os.ReadFile(filepath.Join(w.server.Dir, "service-account.key"))
	require.NoError(w.t, err)
	block, _ := pem.Decode(pemText)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	require.NoError(w.t, err)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	require.NoError(w.t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// otherAuthority is a certificate authority that the API server knows nothing of.
func otherAuthority(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewCA("other")
	require.NoError(t, err)
	return string(ca.PEM)
}
