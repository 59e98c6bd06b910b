package setup

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/packaging/manifests"
)

// applier applies objects server-side: fields that are not in the manifests stay
// whose they are, and a field that somebody else wrote otherwise is a conflict.
type applier struct {
	client  *kube.Client
	manager func(*unstructured.Unstructured) string
	force   bool
	dryRun  bool
}

func (a applier) object(ctx context.Context, u *unstructured.Unstructured) (Change, error) {
	gvr, err := manifests.Resource(u)
	if err != nil {
		return "", err
	}
	var api dynamic.ResourceInterface = a.client.Dynamic.Resource(gvr)
	if u.GetNamespace() != "" {
		api = a.client.Dynamic.Resource(gvr).Namespace(u.GetNamespace())
	}
	var before, after *unstructured.Unstructured
	err = a.client.Do(ctx, "get "+name(u), func(ctx context.Context) (err error) {
		before, err = api.Get(ctx, u.GetName(), metav1.GetOptions{})
		return err
	})
	switch {
	case kube.Is(err, kube.NotFound):
		before = nil
	case kube.Is(err, kube.Unserved):
		return "", fmt.Errorf("%s: this Kubernetes does not have this kind (services need 1.31 or later): %w", name(u), err)
	case err != nil:
		return "", err
	}
	if before == nil && a.dryRun {
		return Created, nil // its namespace may not be there either
	}
	options := metav1.ApplyOptions{FieldManager: a.manager(u), Force: a.force}
	if a.dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	err = a.client.Do(ctx, "apply "+name(u), func(ctx context.Context) (err error) {
		after, err = api.Apply(ctx, u.GetName(), u, options)
		return err
	})
	switch {
	case apierrors.IsConflict(err):
		return "", fmt.Errorf("%w: somebody changed it: apply it by hand to keep the change, or run setup with --overwrite to replace it", err)
	case err != nil:
		return "", err
	case before == nil:
		return Created, nil
	case reflect.DeepEqual(content(before), content(after)):
		return Unchanged, nil
	}
	return Changed, nil
}

// content is an object without what the API server counts up.
func content(u *unstructured.Unstructured) map[string]any {
	u = u.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	delete(u.Object, "status")
	return u.Object
}
