package service

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/anchor"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// api are the few requests that services are made of, each tried again by kube's
// one policy and each change logged with the object's UID.
type api struct {
	kube *kube.Client
	log  *logrus.Entry
	as   *kube.Client // makes and changes objects in a user's name, if it is not nil
}

// write tries f with the client that makes and changes objects. What RBAC denies to a
// user who is impersonated is theirs to hear, not the administrator's mistake.
func (a api) write(ctx context.Context, what string, f func(context.Context, dynamic.Interface) error) error {
	client := a.kube
	if a.as != nil {
		client = a.as
	}
	err := client.Do(ctx, what, func(ctx context.Context) error { return f(ctx, client.Dynamic) })
	var status *apierrors.StatusError
	if a.as == nil || !kube.Is(err, kube.Denied) || !errors.As(err, &status) {
		return err
	}
	if d := status.Status().Details; d == nil || d.Kind != "services" && d.Kind != "endpointslices" && d.Kind != "endpoints" {
		return err // the node may not impersonate the user
	}
	return &RefusedError{Text: "Kubernetes does not allow it to this user: " + err.Error(), Err: err}
}

var singular = map[schema.GroupVersionResource]string{
	Services: "service", EndpointSlices: "endpointslice", Endpoints: "endpoints", anchor.Leases: "lease",
}

func object(gvr schema.GroupVersionResource, namespace, name string) string {
	return singular[gvr] + " " + namespace + "/" + name
}

func (a api) done(verb string, gvr schema.GroupVersionResource, u *unstructured.Unstructured) {
	a.log.WithField("uid", string(u.GetUID())).Infof("%s: %s", object(gvr, u.GetNamespace(), u.GetName()), verb)
}

// get returns nil when there is no such object.
func (a api) get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	var u *unstructured.Unstructured
	err := a.kube.Do(ctx, "get "+object(gvr, namespace, name), func(ctx context.Context) (err error) {
		u, err = a.kube.Dynamic.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if kube.Is(err, kube.NotFound) {
		return nil, nil
	}
	return u, err
}

// pageSize bounds one answer to a list.
const pageSize = 500

// list reads all objects that a selector selects; the namespace "" is every one.
func (a api) list(ctx context.Context, gvr schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	return a.listAs(ctx, gvr, namespace, metav1.ListOptions{Limit: pageSize, LabelSelector: selector})
}

// listCached reads what the API server has at hand, which may be some milliseconds
// old. A list that has to be of now costs up to 100 ms right after a write: the
// server waits for etcd to say that there is nothing newer.
func (a api) listCached(ctx context.Context, gvr schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	return a.listAs(ctx, gvr, namespace, metav1.ListOptions{ResourceVersion: "0", LabelSelector: selector})
}

func (a api) listAs(ctx context.Context, gvr schema.GroupVersionResource, namespace string, options metav1.ListOptions) ([]unstructured.Unstructured, error) {
	where := namespace
	if where == "" {
		where = "all namespaces"
	}
	var all []unstructured.Unstructured
	for {
		var page *unstructured.UnstructuredList
		err := a.kube.Do(ctx, "list "+gvr.Resource+" in "+where, func(ctx context.Context) (err error) {
			page, err = a.kube.Dynamic.Resource(gvr).Namespace(namespace).List(ctx, options)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

func (a api) create(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	var made *unstructured.Unstructured
	err := a.write(ctx, "create "+object(gvr, u.GetNamespace(), u.GetName()), func(ctx context.Context, c dynamic.Interface) (err error) {
		made, err = c.Resource(gvr).Namespace(u.GetNamespace()).Create(ctx, u, metav1.CreateOptions{FieldManager: kube.FieldManager})
		return err
	})
	if err != nil {
		return nil, err
	}
	a.done("created", gvr, made)
	return made, nil
}

// update replaces the object that was read: a change since then is a Conflict.
func (a api) update(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	var made *unstructured.Unstructured
	err := a.write(ctx, "update "+object(gvr, u.GetNamespace(), u.GetName()), func(ctx context.Context, c dynamic.Interface) (err error) {
		made, err = c.Resource(gvr).Namespace(u.GetNamespace()).Update(ctx, u, metav1.UpdateOptions{FieldManager: kube.FieldManager})
		return err
	})
	if err != nil {
		return nil, err
	}
	a.done("taken over", gvr, made)
	return made, nil
}

// apply makes the object or brings it to what is wanted. Where another manager
// holds one of our fields, the object's labels decide: ours by name is ours to
// repair, another's stays as it is.
func (a api) apply(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, cluster string) (*unstructured.Unstructured, error) {
	made, err := a.applyOnce(ctx, gvr, u, false)
	if !kube.Is(err, kube.Conflict) {
		return made, err
	}
	found, getErr := a.get(ctx, gvr, u.GetNamespace(), u.GetName())
	if getErr != nil {
		return nil, getErr
	}
	if found != nil {
		if _, ours := anchor.JobOf(found, cluster); !ours {
			return nil, foreign(object(gvr, u.GetNamespace(), u.GetName()), found, cluster)
		}
	}
	return a.applyOnce(ctx, gvr, u, true)
}

func (a api) applyOnce(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, force bool) (*unstructured.Unstructured, error) {
	var made *unstructured.Unstructured
	err := a.write(ctx, "apply "+object(gvr, u.GetNamespace(), u.GetName()), func(ctx context.Context, c dynamic.Interface) (err error) {
		made, err = c.Resource(gvr).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u,
			metav1.ApplyOptions{FieldManager: kube.FieldManager, Force: force})
		return err
	})
	return made, err
}

// remove deletes the object that was read and no other: neither one that was made
// anew under its name nor one that another job took over meanwhile.
func (a api) remove(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) error {
	if u.GetDeletionTimestamp() != nil {
		return nil
	}
	uid, version := u.GetUID(), u.GetResourceVersion()
	err := a.kube.Do(ctx, "delete "+object(gvr, u.GetNamespace(), u.GetName()), func(ctx context.Context) error {
		return a.kube.Dynamic.Resource(gvr).Namespace(u.GetNamespace()).Delete(ctx, u.GetName(),
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	})
	if kube.Is(err, kube.NotFound) {
		return nil
	}
	if err == nil {
		a.done("deleted", gvr, u)
	}
	return err
}
