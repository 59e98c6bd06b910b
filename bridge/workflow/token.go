package workflow

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// A job that talks to its containers has a token for that: status.workflowToken of the Workflow
// names a Secret. In the same namespace are the Secrets of other jobs, and the keys that sign
// all tokens. So no node may read Secrets there. With workflows.token = "job" the controller
// allows the job's nodes to read this one Secret while the job runs, by a Role and a RoleBinding
// of this name.
func tokenRight(o *object) string { return "slurmk8s-" + o.Name + "-token" }

const rbacGroup = "rbac.authorization.k8s.io"

var (
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	roles        = schema.GroupVersionResource{Group: rbacGroup, Version: "v1", Resource: "roles"}
	roleBindings = schema.GroupVersionResource{Group: rbacGroup, Version: "v1", Resource: "rolebindings"}
)

// nodeUser is the user of a node's certificate: packaging/manifests/node.yaml.
const nodeUser = "slurmk8s:node:"

// tokenWait is how long a node waits until the API server knows of its right.
const tokenWait = 5 * time.Second

// hasToken reports whether a job is given the token of its Workflow.
func (d *Driver) hasToken(o *object) bool {
	return o.Token.Name != "" && d.cfg.Workflows.Token == slurmconf.TokenJob
}

// grantToken allows the job's nodes, and nobody else, to read the job's token.
func (d *Driver) grantToken(ctx context.Context, o *object, of *Job) error {
	if !d.hasToken(o) {
		return nil
	}
	if o.Token.Namespace != o.Namespace {
		return fmt.Errorf("%s: its token is in namespace %q, where slurmk8s gives no rights", o, o.Token.Namespace)
	}
	object := func(kind string) map[string]any {
		return map[string]any{
			"apiVersion": rbacGroup + "/v1", "kind": kind,
			"metadata": map[string]any{
				"name": tokenRight(o), "namespace": o.Namespace, "labels": of.Labels(), "annotations": of.Annotations(),
				"ownerReferences": []any{map[string]any{
					"apiVersion": d.version.String(), "kind": "Workflow", "name": o.Name, "uid": string(o.UID),
				}},
			},
		}
	}
	role, binding := object("Role"), object("RoleBinding")
	role["rules"] = []any{map[string]any{
		"apiGroups": []any{""}, "resources": []any{"secrets"}, "resourceNames": []any{o.Token.Name}, "verbs": []any{"get"},
	}}
	binding["roleRef"] = map[string]any{"apiGroup": rbacGroup, "kind": "Role", "name": tokenRight(o)}
	subjects := make([]any, len(of.Nodes))
	for i, node := range of.Nodes {
		subjects[i] = map[string]any{"apiGroup": rbacGroup, "kind": "User", "name": nodeUser + node}
	}
	binding["subjects"] = subjects
	if _, err := d.client.Objects(roles, o.Namespace).Apply(ctx, &unstructured.Unstructured{Object: role}, true); err != nil {
		return err
	}
	_, err := d.client.Objects(roleBindings, o.Namespace).Apply(ctx, &unstructured.Unstructured{Object: binding}, true)
	return err
}

// revokeToken takes the right away. Objects of that name that were made for another Workflow, or by
// somebody else, stay. What a hook that was killed leaves goes with the Workflow, its owner.
func (d *Driver) revokeToken(ctx context.Context, o *object) error {
	if !d.hasToken(o) {
		return nil
	}
	for _, resource := range []schema.GroupVersionResource{roleBindings, roles} {
		objects := d.client.Objects(resource, o.Namespace)
		u, err := objects.Get(ctx, tokenRight(o))
		if err != nil {
			return err
		}
		if u == nil || !slices.ContainsFunc(u.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == o.UID }) {
			continue
		}
		uid := u.GetUID()
		if err := objects.Delete(ctx, u.GetName(), metav1.Preconditions{UID: &uid}); err != nil && !kube.Is(err, kube.Conflict) {
			return err
		}
	}
	return nil
}

// OwnCredential says why the kubeconfig of a node cannot be given the right to a token: it is not
// the node's own. Nil: it is, or it does not say whose it is.
func OwnCredential(kubeconfig, node string) error {
	c, err := kube.ReadCredential(kubeconfig)
	if err != nil || c.User == "" || c.User == nodeUser+node {
		return nil
	}
	return fmt.Errorf("%s is the credential of %s, not of %s%s: nodes that share one could read the tokens of all jobs", kubeconfig, c.User, nodeUser, node)
}

// token reads the job's token on one of its nodes. The API server may learn of the right a moment
// later, but never of that of another's credential.
func (d *Driver) token(ctx context.Context, o *object, node string) (string, error) {
	if !d.hasToken(o) {
		return "", nil
	}
	var pauses kube.Pauses
	for end := time.Now().Add(tokenWait); ; {
		u, err := d.client.Objects(secrets, o.Namespace).Get(ctx, o.Token.Name)
		if kube.Is(err, kube.Denied) {
			if wrong := OwnCredential(d.cfg.Services.Kubeconfig, node); wrong != nil {
				return "", wrong
			}
		}
		if kube.Is(err, kube.Denied) && time.Now().Before(end) && pauses.Wait(ctx) == nil {
			continue
		}
		if err != nil {
			return "", err
		}
		if u == nil {
			return "", fmt.Errorf("%s names secret %s, which does not exist", o, o.Token)
		}
		text, _, _ := unstructured.NestedString(u.Object, "data", "token")
		token, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(token) == 0 {
			return "", fmt.Errorf("secret %s has no token", o.Token)
		}
		return string(token), nil
	}
}
