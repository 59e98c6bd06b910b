package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// user is who the worded answers say was refused.
const user = "system:serviceaccount:slurm:slurmk8s"

// statusOf is the Status that kube-apiserver answers to r when it fails with
// code. The wordings are those of kube-apiserver 1.34, because a client that
// tells errors apart by their text must be caught here.
func statusOf(r Request, code int) metav1.Status {
	gr := schema.GroupResource{Group: r.Group, Resource: r.Resource}
	var err *apierrors.StatusError
	switch code {
	case http.StatusUnauthorized:
		err = apierrors.NewUnauthorized("Unauthorized")
	case http.StatusForbidden:
		err = apierrors.NewForbidden(gr, r.Name, errors.New(notAuthorized(r)))
	case http.StatusConflict:
		err = conflict(gr, r)
	case http.StatusTooManyRequests:
		// As for a storage that is busy; the plain text answer of priority and
		// fairness is the fault "429".
		err = apierrors.NewTooManyRequestsError("the server has received too many requests and has asked us to try again later")
	case http.StatusInternalServerError:
		err = internal(r)
	case http.StatusServiceUnavailable:
		err = apierrors.NewServiceUnavailable("the server is currently unable to handle the request")
	default:
		panic(fmt.Sprintf("faults: no wording for status %d", code))
	}
	s := err.ErrStatus
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return s
}

// notAuthorized is the authorizer's sentence (responsewriters.forbiddenMessage).
func notAuthorized(r Request) string {
	if !r.IsResource() {
		return fmt.Sprintf("User %q cannot %s path %q", user, r.Verb, r.Path)
	}
	resource := r.Resource
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	s := fmt.Sprintf("User %q cannot %s resource %q in API group %q", user, r.Verb, resource, r.Group)
	if r.Namespace == "" {
		return s + " at the cluster scope"
	}
	return s + fmt.Sprintf(" in the namespace %q", r.Namespace)
}

// conflict is a lost race of optimistic concurrency. A create has no object yet;
// there the quota controller's object is the one that was modified meanwhile.
func conflict(gr schema.GroupResource, r Request) *apierrors.StatusError {
	modified := errors.New("the object has been modified; please apply your changes to the latest version and try again")
	if r.Verb == "create" {
		return apierrors.NewConflict(schema.GroupResource{Resource: "resourcequotas"}, "storage", modified)
	}
	return apierrors.NewConflict(gr, r.Name, modified)
}

// internal is a webhook that is down for a write, and etcd that is slow for the
// rest: both are ours to retry, not the user's mistake.
func internal(r Request) *apierrors.StatusError {
	if r.IsWrite() {
		return apierrors.NewInternalError(errors.New(`failed calling webhook "vworkflow.kb.io": failed to call webhook: ` +
			`Post "https://dws-webhook-service.dws-system.svc:443/validate?timeout=10s": dial tcp 10.96.7.3:443: connect: connection refused`))
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: "etcdserver: request timed out",
	}}
}

// goneEvent is the watch event by which kube-apiserver says that the watch's
// resourceVersion was compacted away: list again.
func goneEvent() []byte {
	s := apierrors.NewResourceExpired("too old resource version: 1 (4711)").ErrStatus
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return append(mustJSON(map[string]any{"type": "ERROR", "object": s}), '\n')
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of our own and of apimachinery come here
	}
	return b
}
