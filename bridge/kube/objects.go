package kube

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// pageSize bounds one answer to a list; a cluster may have thousands of jobs.
const pageSize = 500

// Objects gives access to the objects of one resource in one namespace. Requests are
// retried as in Do. An error names operation and object: "get lease slurm/slurm-hpc-12".
type Objects struct {
	client    *Client
	api       dynamic.ResourceInterface
	resource  string
	namespace string
}

// Objects gives access to a resource. The namespace "" means all namespaces, or a
// resource without a namespace. It sends nothing.
func (c *Client) Objects(resource schema.GroupVersionResource, namespace string) *Objects {
	return &Objects{c, c.Dynamic.Resource(resource).Namespace(namespace), resource.Resource, namespace}
}

// ObjectName is the name of an object in messages: "service web/jupyter".
func ObjectName(resource, namespace, name string) string {
	if resource != "endpoints" && resource != "computes" { // Kubernetes calls one by these names too
		resource = strings.TrimSuffix(resource, "s")
	}
	if namespace != "" {
		name = namespace + "/" + name
	}
	return resource + " " + name
}

// Get reads an object; nil if there is none.
func (o *Objects) Get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	got, err := o.do(ctx, "get", name, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Get(ctx, name, metav1.GetOptions{})
	})
	if Is(err, NotFound) {
		return nil, nil
	}
	return got, err
}

// Create makes an object.
func (o *Objects) Create(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return o.create(ctx, u, metav1.CreateOptions{FieldManager: FieldManager})
}

// Check creates an object in a dry run, to ask admission about it. Nothing is stored.
func (o *Objects) Check(ctx context.Context, u *unstructured.Unstructured) error {
	_, err := o.create(ctx, u, metav1.CreateOptions{FieldManager: FieldManager, DryRun: []string{metav1.DryRunAll}})
	return err
}

func (o *Objects) create(ctx context.Context, u *unstructured.Unstructured, options metav1.CreateOptions) (*unstructured.Unstructured, error) {
	return o.do(ctx, "create", u.GetName(), func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Create(ctx, u, options)
	})
}

// Update replaces the object that was read. The error is a Conflict if it has changed.
func (o *Objects) Update(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return o.do(ctx, "update", u.GetName(), func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Update(ctx, u, metav1.UpdateOptions{FieldManager: FieldManager})
	})
}

// Apply creates or updates the object by server-side apply. The error is a Conflict if
// another manager owns one of the fields; with force the field is taken over.
func (o *Objects) Apply(ctx context.Context, u *unstructured.Unstructured, force bool) (*unstructured.Unstructured, error) {
	return o.do(ctx, "apply", u.GetName(), func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: FieldManager, Force: force})
	})
}

// Patch changes an object by a merge patch. The error is a Conflict if the patch names a
// uid or a resourceVersion, and the object has another.
func (o *Objects) Patch(ctx context.Context, name string, patch []byte) (*unstructured.Unstructured, error) {
	return o.do(ctx, "patch", name, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	})
}

// Delete deletes an object if the preconditions hold: only has the UID that was read, and
// the resourceVersion if a change must prevent the delete. Otherwise the error is a
// Conflict. A missing object is not an error.
func (o *Objects) Delete(ctx context.Context, name string, only metav1.Preconditions) error {
	_, err := o.do(ctx, "delete", name, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return nil, o.api.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &only})
	})
	if Is(err, NotFound) {
		return nil
	}
	return err
}

func (o *Objects) do(ctx context.Context, verb, name string, request func(context.Context) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	var got *unstructured.Unstructured
	err := o.client.Do(ctx, verb+" "+ObjectName(o.resource, o.namespace, name), func(ctx context.Context) (err error) {
		got, err = request(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// Selection chooses objects.
type Selection struct {
	Labels, Fields string // selectors
	// Cached takes what the API server has at hand, which may be some milliseconds old. A
	// list as of now costs up to 100 ms right after a write: the server waits for etcd to
	// say that there is nothing newer.
	Cached bool
	Limit  int64 // no more than these are read; 0 is all
}

// named is how messages call what is chosen: "pods with spec.nodeName=c1".
func (o *Objects) named(s Selection) string {
	text := o.resource
	if o.namespace != "" {
		text += " in " + o.namespace
	}
	if s.Fields != "" {
		text += " with " + s.Fields
	}
	return text
}

// List reads all objects that are chosen.
func (o *Objects) List(ctx context.Context, s Selection) ([]unstructured.Unstructured, error) {
	all, _, err := o.list(ctx, s)
	return all, err
}

// list is List; the version is that of the list, behind which a watch can begin.
func (o *Objects) list(ctx context.Context, s Selection) (all []unstructured.Unstructured, version string, err error) {
	options := metav1.ListOptions{LabelSelector: s.Labels, FieldSelector: s.Fields, Limit: pageSize}
	if s.Limit > 0 {
		options.Limit = s.Limit
	}
	if s.Cached {
		options.ResourceVersion, options.Limit = "0", 0
	}
	for {
		var page *unstructured.UnstructuredList
		err := o.client.Do(ctx, "list "+o.named(s), func(ctx context.Context) (err error) {
			page, err = o.api.List(ctx, options)
			if options.Continue != "" && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) {
				page, err = nil, nil // the rest of the list is too old
			}
			return err
		})
		if err != nil {
			return nil, "", err
		}
		if page == nil {
			all, options.Continue = nil, ""
			continue
		}
		all = append(all, page.Items...)
		if options.Continue = page.GetContinue(); options.Continue == "" || s.Limit > 0 {
			return all, page.GetResourceVersion(), nil
		}
	}
}
