package kube

import (
	"context"
	"errors"
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
	group     string
	resource  string
	namespace string
	strict    bool // unknown fields are refused
}

// Objects gives access to a resource. The namespace "" means all namespaces, or a
// resource without a namespace. It sends nothing.
func (c *Client) Objects(resource schema.GroupVersionResource, namespace string) *Objects {
	return &Objects{client: c, api: c.Dynamic.Resource(resource).Namespace(namespace), group: resource.Group, resource: resource.Resource, namespace: namespace}
}

// Strict makes Create and Check refuse an object with a field that its schema does not
// have. Otherwise Kubernetes drops the field.
func (o *Objects) Strict() *Objects {
	strict := *o
	strict.strict = true
	return &strict
}

// ObjectName is the name of an object in messages: "service web/jupyter".
func ObjectName(resource, namespace, name string) string {
	switch resource {
	case "endpoints", "computes", "servers": // Kubernetes calls one by these names too
	default:
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
	if o.strict {
		options.FieldValidation = metav1.FieldValidationStrict
	}
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
	return o.apply(ctx, u, metav1.ApplyOptions{FieldManager: FieldManager, Force: force})
}

// Preview is what Apply with force would make of the object. Nothing is stored.
func (o *Objects) Preview(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return o.apply(ctx, u, metav1.ApplyOptions{FieldManager: FieldManager, Force: true, DryRun: []string{metav1.DryRunAll}})
}

func (o *Objects) apply(ctx context.Context, u *unstructured.Unstructured, options metav1.ApplyOptions) (*unstructured.Unstructured, error) {
	return o.do(ctx, "apply", u.GetName(), func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Apply(ctx, u.GetName(), u, options)
	})
}

// Patch changes an object by a merge patch. The error is a Conflict if the patch names a
// resourceVersion and the object has another (HTTP 409), or a uid and the object has another
// (HTTP 422).
func (o *Objects) Patch(ctx context.Context, name string, patch []byte) (*unstructured.Unstructured, error) {
	return o.do(ctx, "patch", name, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return o.api.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	})
}

// Delete deletes an object if the preconditions hold: only has the UID that was read, and
// the resourceVersion if a change must prevent the delete. Otherwise the error is a
// Conflict. A missing object is not an error.
func (o *Objects) Delete(ctx context.Context, name string, only metav1.Preconditions) error {
	return o.delete(ctx, name, metav1.DeleteOptions{Preconditions: &only})
}

// DeleteForeground is Delete for an object that Kubernetes made others for: it is gone
// only when they are.
func (o *Objects) DeleteForeground(ctx context.Context, name string, only metav1.Preconditions) error {
	policy := metav1.DeletePropagationForeground
	return o.delete(ctx, name, metav1.DeleteOptions{Preconditions: &only, PropagationPolicy: &policy})
}

func (o *Objects) delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	_, err := o.do(ctx, "delete", name, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return nil, o.api.Delete(ctx, name, options)
	})
	if Is(err, NotFound) {
		return nil
	}
	return err
}

func (o *Objects) do(ctx context.Context, verb, name string, request func(context.Context) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	var got *unstructured.Unstructured
	err := o.run(ctx, verb+" "+ObjectName(o.resource, o.namespace, name), func(ctx context.Context) (err error) {
		got, err = request(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// run is the client's Do; the error says of which API group the objects are.
func (o *Objects) run(ctx context.Context, what string, request func(context.Context) error) error {
	err := o.client.Do(ctx, what, request)
	var failed *RequestError
	if errors.As(err, &failed) {
		failed.Group = o.group
	}
	return err
}

// Selection chooses objects.
type Selection struct {
	Labels, Fields string // selectors
	// Cached takes what the API server has at hand, which may be some milliseconds old. A
	// list as of now costs up to 100 ms right after a write: the server waits for etcd to
	// say that there is nothing newer.
	Cached bool
	Limit  int64 // no more than these are read; 0 is all
	// Trim, if set, drops from each object what the caller has no use for, page by page:
	// thousands are kept at once. See Lean.
	Trim func(*unstructured.Unstructured)
}

// Lean is a Trim of managedFields, which are half of many an object.
func Lean(u *unstructured.Unstructured) { u.SetManagedFields(nil) }

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
		err := o.run(ctx, "list "+o.named(s), func(ctx context.Context) (err error) {
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
		if s.Trim != nil {
			for i := range page.Items {
				s.Trim(&page.Items[i])
			}
		}
		all = append(all, page.Items...)
		if options.Continue = page.GetContinue(); options.Continue == "" || s.Limit > 0 {
			return all, page.GetResourceVersion(), nil
		}
	}
}
