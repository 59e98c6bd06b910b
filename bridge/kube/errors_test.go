package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var workflows = schema.GroupResource{Group: "dataworkflowservices.github.io", Resource: "workflows"}

func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func TestClassify(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want Class
	}{
		{"RBAC", apierrors.NewForbidden(workflows, "bb1", errors.New(`User "u" cannot create resource`)), Denied},
		{"a webhook refuses", status(403, metav1.StatusReasonForbidden, `admission webhook "v.kb.io" denied the request: invalid directive`), Refusal},
		{"pod security refuses", apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x",
			errors.New(`violates PodSecurity "baseline:latest": privileged`)), Refusal},
		{"a webhook refuses with a code of its own", status(422, metav1.StatusReasonInvalid, `admission webhook "v.kb.io" denied the request: bad`), Refusal},
		{"a directive that quotes a webhook's refusal is no refusal", apierrors.NewForbidden(workflows, "bb1",
			errors.New(`admission webhook "x" denied the request: y`)), Denied},
		{"an admission policy refuses", apierrors.NewForbidden(workflows, "bb1",
			errors.New("ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no")), Refusal},
		{"a directive that quotes a policy's refusal is no refusal", apierrors.NewForbidden(workflows, "bb1",
			errors.New("x is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no")), Denied},
		{"the schema", apierrors.NewInvalid(schema.GroupKind{Kind: "Workflow"}, "bb1", nil), Refusal},
		{"not found", apierrors.NewNotFound(workflows, "bb1"), NotFound},
		{"no such API", apierrors.NewGenericServerResponse(404, "get", workflows, "bb1", "404 page not found", 0, true), Unserved},
		{"exists", apierrors.NewAlreadyExists(workflows, "bb1"), Exists},
		{"changed under us", apierrors.NewConflict(workflows, "bb1", errors.New("uid")), Conflict},
		{"credential", apierrors.NewUnauthorized("Unauthorized"), Unauthorized},
		{"overload", apierrors.NewTooManyRequests("later", 1), Transient},
		{"webhook is down", apierrors.NewInternalError(errors.New(`failed calling webhook "m.kb.io": EOF`)), Transient},
		{"service unavailable", apierrors.NewServiceUnavailable("starting"), Transient},
		{"watch is too old", apierrors.NewResourceExpired("too old"), Transient},
		{"too large for etcd", status(500, "", "etcdserver: request is too large"), Final},
		{"redirect", status(307, "", "elsewhere"), Final},
		{"bad request", apierrors.NewBadRequest("no"), Final},
		{"connection", &url.Error{Op: "Get", URL: "https://h", Err: errors.New("connection refused")}, Transient},
		{"time-out", context.DeadlineExceeded, Transient},
		{"a patch of an object that is another one by now", apierrors.NewInvalid(schema.GroupKind{Kind: "Workflow"}, "bb1",
			field.ErrorList{field.Invalid(field.NewPath("metadata", "uid"), "u", "field is immutable")}), Conflict},
		{"wrapped", fmt.Errorf("a: %w", &RequestError{Err: apierrors.NewNotFound(workflows, "x")}), NotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, Classify(tt.err))
		})
	}
}

func TestReason(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"a webhook's own words", status(403, metav1.StatusReasonForbidden, `admission webhook "v.kb.io" denied the request: invalid directive 'x'`),
			"invalid directive 'x'"},
		{"the server's words", status(500, "", "etcd is away"), "etcd is away (HTTP 500)"},
		{"time-out", fmt.Errorf("x: %w", context.DeadlineExceeded), "no answer in time"},
		{"connection: the server, not the whole URL",
			&url.Error{Op: "Get", URL: "https://10.0.0.1:6443/apis/x?y=z", Err: errors.New("connection refused")},
			"connection refused (https://10.0.0.1:6443)"},
		{"credential: what to do", apierrors.NewUnauthorized("Unauthorized"),
			"the API server rejects the credential of the kubeconfig: it may be expired or revoked (HTTP 401)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, Reason(tt.err))
		})
	}
}

func TestARequestErrorNamesOperationObjectAndCause(t *testing.T) {
	err := &RequestError{What: "get workflow slurm/bb1", Tries: 3, Err: status(http.StatusBadGateway, "", "bad gateway")}
	assert.Equal(t, "get workflow slurm/bb1: bad gateway (HTTP 502) (tried 3 times)", err.Error())
	assert.True(t, Is(fmt.Errorf("wrapped: %w", err), Transient))
	assert.False(t, Is(status(502, "", "not one of ours"), Transient), "only what Do returned has a class for Is")
	assert.False(t, Is(nil, Transient))
}
