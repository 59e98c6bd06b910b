package kube

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// Credential is what a kubeconfig holds, without its secrets.
type Credential struct {
	Server string
	CA     []byte // PEM
	// User is the common name of the certificate or the subject of the token; ""
	// for a token that is no JWT.
	User string
	// TLSServerName is the name in the API server's certificate; "": that of Server.
	TLSServerName string
	// AccountUID is the UID of the ServiceAccount of a token.
	AccountUID string
	// TokenFile is the file of the token; "" for a certificate and a token in the
	// kubeconfig itself.
	TokenFile string
	// NotBefore and NotAfter are zero where the credential does not say.
	NotBefore, NotAfter time.Time
}

// Due reports whether less than a third of the credential's life is left.
func (c *Credential) Due(now time.Time) bool {
	return !c.NotAfter.IsZero() && now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore)/3))
}

// ReadCredential reads a hook's kubeconfig, with the checks that New makes. The
// credential is not verified: use the result for warnings, not for trust.
func ReadCredential(path string, alsoTrusted ...uint32) (*Credential, error) {
	api, err := readKubeconfig(path, alsoTrusted)
	if err != nil {
		return nil, err
	}
	cluster, user, err := trustworthy(api, alsoTrusted)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	c := &Credential{Server: cluster.Server, TLSServerName: cluster.TLSServerName, CA: cluster.CertificateAuthorityData, TokenFile: user.TokenFile}
	switch {
	case user.TokenFile != "":
		token, err := readSecret(user.TokenFile, alsoTrusted)
		if err != nil {
			return nil, err
		}
		c.readToken(string(token))
	case user.Token != "":
		c.readToken(user.Token)
	case user.Username != "":
		c.User = user.Username
	default:
		text := user.ClientCertificateData
		if len(text) == 0 {
			if text, err = readPublic(user.ClientCertificate, alsoTrusted); err != nil {
				return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
			}
		}
		if err := c.readCertificate(text); err != nil {
			return nil, fmt.Errorf("kubeconfig %s: client certificate: %w", path, err)
		}
	}
	return c, nil
}

// ReadToken reads the claims of a token.
func ReadToken(token string) *Credential {
	c := &Credential{}
	c.readToken(token)
	return c
}

// readToken reads the claims of a JWT; another token says nothing.
func (c *Credential) readToken(token string) {
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return
	}
	var claims struct {
		Subject string `json:"sub"`
		Issued  int64  `json:"iat"`
		Expires int64  `json:"exp"`
		Bound   struct {
			Account struct {
				UID string `json:"uid"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return
	}
	c.User, c.AccountUID = claims.Subject, claims.Bound.Account.UID
	if claims.Expires > 0 {
		c.NotBefore, c.NotAfter = time.Unix(claims.Issued, 0), time.Unix(claims.Expires, 0)
	}
}

func (c *Credential) readCertificate(text []byte) error {
	for rest := text; ; {
		block, more := pem.Decode(rest)
		if block == nil {
			return fmt.Errorf("holds no certificate")
		}
		if block.Type != "CERTIFICATE" {
			rest = more
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		c.User, c.NotBefore, c.NotAfter = certificate.Subject.CommonName, certificate.NotBefore, certificate.NotAfter
		return nil
	}
}

// SameServer reports whether the credential is for this API server.
func (c *Credential) SameServer(server, tlsServerName string, ca []byte) bool {
	return c.Server == server && c.TLSServerName == tlsServerName && bytes.Equal(bytes.TrimSpace(c.CA), bytes.TrimSpace(ca))
}
