package setup

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

var signingRequests = schema.GroupVersionResource{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"}

// signerName is Kubernetes's own signer of client certificates.
const signerName = "kubernetes.io/kube-apiserver-client"

// signingLimit is the default of how long the signer may take: the controller manager
// needs milliseconds, unless nobody signs at all.
const signingLimit = 30 * time.Second

// The user and group of a node's certificate (packaging/manifests/node.yaml).
const (
	nodeUserPrefix = "slurmk8s:node:"
	nodeGroup      = "slurmk8s:nodes"
)

// newCertificate makes a key, which never leaves this process but to its file, and
// has the cluster sign a client certificate for a node.
func (o *Options) newCertificate(ctx context.Context, node string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: nodeUserPrefix + node, Organization: []string{nodeGroup}},
	}, private)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	certificate, err = o.sign(ctx, node, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	return certificate, key, err
}

// sign makes a CertificateSigningRequest, approves it, waits for the certificate and
// removes the request: approved and signed, it is of use to nobody.
func (o *Options) sign(ctx context.Context, node string, request []byte) ([]byte, error) {
	client := o.Admin.Client
	api := client.Dynamic.Resource(signingRequests)
	what := "certificate for node " + node + ": "
	var csr *unstructured.Unstructured
	err := client.Do(ctx, what+"create the signing request", func(ctx context.Context) (err error) {
		csr, err = api.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
			"metadata": map[string]any{"generateName": "slurmk8s-node-"},
			"spec": map[string]any{
				"request":           base64.StdEncoding.EncodeToString(request),
				"signerName":        signerName,
				"usages":            []any{"digital signature", "client auth"},
				"expirationSeconds": int64(o.Lifetime / time.Second),
			},
		}}, metav1.CreateOptions{FieldManager: kube.FieldManager})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		// Also after Ctrl-C; one that stays ends by itself after an hour.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = api.Delete(ctx, csr.GetName(), metav1.DeleteOptions{})
	}()
	approved := csr.DeepCopy()
	condition := map[string]any{
		"type": "Approved", "status": "True", "reason": "SlurmK8sSetup", "message": "slurmk8s setup, for Slurm node " + node,
	}
	if err := unstructured.SetNestedSlice(approved.Object, []any{condition}, "status", "conditions"); err != nil {
		return nil, err
	}
	err = client.Do(ctx, what+"approve the signing request", func(ctx context.Context) error {
		_, err := api.Update(ctx, approved, metav1.UpdateOptions{}, "approval")
		return err
	})
	if err != nil {
		return nil, err
	}
	return o.awaitCertificate(ctx, csr.GetName(), what)
}

func (o *Options) awaitCertificate(ctx context.Context, name, what string) ([]byte, error) {
	limit := cmp.Or(o.SigningLimit, signingLimit)
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var pauses kube.Pauses
	for {
		var csr *unstructured.Unstructured
		err := o.Admin.Do(waiting, what+"read the signing request", func(ctx context.Context) (err error) {
			csr, err = o.Admin.Dynamic.Resource(signingRequests).Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err != nil && waiting.Err() == nil {
			return nil, err
		}
		if err != nil {
			return nil, nobody(ctx, what, limit)
		}
		if text, _, _ := unstructured.NestedString(csr.Object, "status", "certificate"); text != "" {
			return base64.StdEncoding.DecodeString(text)
		}
		conditions, _, _ := unstructured.NestedSlice(csr.Object, "status", "conditions")
		for _, c := range conditions {
			if c, _ := c.(map[string]any); c["type"] == "Failed" || c["type"] == "Denied" {
				return nil, fmt.Errorf("%sthe signer refused: %v: %v", what, c["reason"], c["message"])
			}
		}
		if pauses.Wait(waiting) != nil {
			return nil, nobody(ctx, what, limit)
		}
	}
}

// nobody is the error of a certificate that did not come.
func nobody(ctx context.Context, what string, limit time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%sit was not signed within %s: this cluster does not sign for %s (EKS does not); "+
		"use --node-credential=token if Slurm's nodes are also Kubernetes nodes", what, limit, signerName)
}
