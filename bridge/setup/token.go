package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

var accounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}

// subject is the user name of a ServiceAccount of ours.
func subject(account string) string {
	return "system:serviceaccount:" + manifests.Namespace + ":" + account
}

// newToken asks for a token of a ServiceAccount; bound to a Node object it ends with
// that and says which node it is. The server may give it less time than asked for.
func newToken(ctx context.Context, client *kube.Client, account, node string, lifetime time.Duration) (string, error) {
	spec := map[string]any{"expirationSeconds": int64(lifetime / time.Second)}
	if node != "" {
		spec["boundObjectRef"] = map[string]any{"apiVersion": "v1", "kind": "Node", "name": node}
	}
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"metadata": map[string]any{"name": account}, "spec": spec,
	}}
	var answer *unstructured.Unstructured
	err := client.Do(ctx, "request a token of serviceaccount "+manifests.Namespace+"/"+account, func(ctx context.Context) (err error) {
		answer, err = client.Dynamic.Resource(accounts).Namespace(manifests.Namespace).Create(ctx, request, metav1.CreateOptions{}, "token")
		return err
	})
	if err != nil {
		return "", err
	}
	token, _, err := unstructured.NestedString(answer.Object, "status", "token")
	if err == nil && token == "" {
		err = errors.New("the API server's answer has no token")
	}
	return token, err
}

// accountUID is the UID of a ServiceAccount of ours; "" if it cannot be read.
func (o *Options) accountUID(ctx context.Context, account string) string {
	var u *unstructured.Unstructured
	err := o.Admin.Do(ctx, "get serviceaccount "+manifests.Namespace+"/"+account, func(ctx context.Context) (err error) {
		u, err = o.Admin.Dynamic.Resource(accounts).Namespace(manifests.Namespace).Get(ctx, account, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return ""
	}
	return string(u.GetUID())
}

// Own is a credential of slurmctld's host that renews itself.
type Own struct {
	Kubeconfig string // its path
	What       string // "the controller's token"
	account    string
}

// Owns are those of the configuration.
func Owns(cfg *slurmconf.Config) []Own {
	all := []Own{{cfg.Kubernetes.Kubeconfig, "the controller's token", manifests.Controller}}
	if hasBundleCredential(cfg) {
		all = append(all, Own{cfg.Bundles.Kubeconfig, "the token for bundles", manifests.Bundles})
	}
	return all
}

func hasBundleCredential(cfg *slurmconf.Config) bool {
	return cfg.Bundles.Kubeconfig != "" && len(cfg.Bundles.Allow) > 0
}

// Renew replaces the token when less than a third of its life is left, with the right that
// it has on its own account; client has the credential. It needs no administrator, so
// that reconcile can call it. A credential that setup did not make is left alone.
func (o Own) Renew(ctx context.Context, client *kube.Client, now time.Time, alsoTrusted ...uint32) (until time.Time, renewed bool, err error) {
	path := o.Kubeconfig
	c, err := kube.ReadCredential(path, alsoTrusted...)
	if err != nil {
		return time.Time{}, false, err
	}
	if c.TokenFile == "" || c.User != subject(o.account) || !c.Due(now) {
		return c.NotAfter, false, nil
	}
	token, err := newToken(ctx, client, o.account, "", c.NotAfter.Sub(c.NotBefore))
	if err != nil {
		return c.NotAfter, false, fmt.Errorf("renew %s, which expires %s: %w; \"slurmk8s setup --renew --kubeconfig FILE\" does it with an administrator's credential",
			o.What, c.NotAfter.Format(time.RFC3339), err)
	}
	of, err := ownerOf(c.TokenFile)
	if err != nil {
		return c.NotAfter, false, err
	}
	if err := writeFile(c.TokenFile, []byte(token+"\n"), 0o600, of); err != nil {
		return c.NotAfter, false, err
	}
	if c, err = kube.ReadCredential(path, alsoTrusted...); err != nil {
		return time.Time{}, true, err
	}
	return c.NotAfter, true, nil
}
