package service

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// api are the few requests that services are made of, each change logged with the
// object's UID.
type api struct {
	kube *kube.Client
	log  *logrus.Entry
	as   *kube.Client // makes and changes objects in a user's name, if it is not nil
}

// written are the objects by the client that makes and changes them.
func (a api) written(gvr schema.GroupVersionResource, namespace string) *kube.Objects {
	if a.as != nil {
		return a.as.Objects(gvr, namespace)
	}
	return a.kube.Objects(gvr, namespace)
}

// byUser is the error of a write. What RBAC denies to a user who is impersonated is
// theirs to hear, not the administrator's mistake.
func (a api) byUser(err error) error {
	var status *apierrors.StatusError
	if a.as == nil || !kube.Is(err, kube.Denied) || !errors.As(err, &status) {
		return err
	}
	if d := status.Status().Details; d == nil || d.Kind != "services" && d.Kind != "endpointslices" && d.Kind != "endpoints" {
		return err // the node may not impersonate the user
	}
	return &job.Refused{Text: "Kubernetes does not allow this user to do it: " + err.Error(), Err: err}
}

func object(gvr schema.GroupVersionResource, namespace, name string) string {
	return kube.ObjectName(gvr.Resource, namespace, name)
}

func (a api) done(verb string, gvr schema.GroupVersionResource, u *unstructured.Unstructured) {
	a.log.WithField("object_uid", string(u.GetUID())).Infof("%s: %s", object(gvr, u.GetNamespace(), u.GetName()), verb)
}

// get returns nil when there is no such object.
func (a api) get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	return a.kube.Objects(gvr, namespace).Get(ctx, name)
}

// look is get for reconcile, which may list but not get.
func (a api) look(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	found, err := a.kube.Objects(gvr, namespace).List(ctx, kube.Selection{Fields: "metadata.name=" + name})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// list reads all objects that a selector selects; the namespace "" is every one.
func (a api) list(ctx context.Context, gvr schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	return a.kube.Objects(gvr, namespace).List(ctx, kube.Selection{Labels: selector})
}

func (a api) listCached(ctx context.Context, gvr schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	return a.kube.Objects(gvr, namespace).List(ctx, kube.Selection{Labels: selector, Cached: true})
}

func (a api) create(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	made, err := a.written(gvr, u.GetNamespace()).Create(ctx, u)
	if err != nil {
		return nil, a.byUser(err)
	}
	a.done("created", gvr, made)
	return made, nil
}

// check asks admission about an object that is not stored.
func (a api) check(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) error {
	return a.byUser(a.written(gvr, u.GetNamespace()).Check(ctx, u))
}

// update replaces the object that was read: a change since then is a Conflict. verb is
// what the log calls it.
func (a api) update(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, verb string) (*unstructured.Unstructured, error) {
	made, err := a.written(gvr, u.GetNamespace()).Update(ctx, u)
	if err != nil {
		return nil, a.byUser(err)
	}
	a.done(verb, gvr, made)
	return made, nil
}

// apply makes the object or brings it to what is wanted. Where another manager
// holds one of our fields, the object's labels decide: ours by name is ours to
// repair, another's stays as it is.
func (a api) apply(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured, cluster string) (*unstructured.Unstructured, error) {
	written := a.written(gvr, u.GetNamespace())
	made, err := written.Apply(ctx, u, false)
	if kube.Is(err, kube.Conflict) {
		found, getErr := a.get(ctx, gvr, u.GetNamespace(), u.GetName())
		if getErr != nil {
			return nil, getErr
		}
		if found != nil {
			if _, ours := job.Of(found, cluster); !ours {
				return nil, foreign(object(gvr, u.GetNamespace(), u.GetName()), found, cluster)
			}
		}
		made, err = written.Apply(ctx, u, true)
	}
	return made, a.byUser(err)
}

// remove deletes the object that was read and no other: neither one that was made
// again under its name nor one that another job took over meanwhile.
func (a api) remove(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) error {
	if u.GetDeletionTimestamp() != nil {
		return nil
	}
	uid, version := u.GetUID(), u.GetResourceVersion()
	err := a.kube.Objects(gvr, u.GetNamespace()).Delete(ctx, u.GetName(), metav1.Preconditions{UID: &uid, ResourceVersion: &version})
	if err == nil {
		a.done("deleted", gvr, u)
	}
	return err
}
