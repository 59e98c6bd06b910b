package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Class says how a hook handles an error.
type Class int

// The classes of an API error.
const (
	Transient    Class = iota // the server or the way to it: try again until the deadline
	Unauthorized              // the credential: try again a few times, a rotated token is re-read
	Refusal                   // admission judged the object: the user's mistake
	Denied                    // our rights do not suffice: the administrator's
	NotFound
	Unserved // the server has no such API, or no such version of it any more
	Conflict // the object changed under us, or is another one by now: read it again
	Exists
	Final // anything else: trying again will not help
)

// Classify puts an error of an API request into its class.
func Classify(err error) Class {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		var certificate *tls.CertificateVerificationError
		var defect *safely.PanicError
		if errors.As(err, &certificate) || errors.As(err, &defect) {
			return Final
		}
		return Transient // no answer of the API server: connection, time-out, torn body
	}
	s := status.Status()
	switch {
	case apierrors.IsNotFound(err) && unserved(s):
		return Unserved
	case apierrors.IsNotFound(err):
		return NotFound
	case apierrors.IsAlreadyExists(err):
		return Exists
	case apierrors.IsConflict(err), apierrors.IsInvalid(err) && anotherUID(s):
		return Conflict
	case apierrors.IsUnauthorized(err):
		return Unauthorized
	case apierrors.IsForbidden(err) && (admission(s) || byPolicy(s)):
		return Refusal
	case apierrors.IsForbidden(err):
		return Denied
	case apierrors.IsInvalid(err):
		return Refusal
	case strings.HasSuffix(s.Message, "etcdserver: request is too large"): // HTTP 500
		return Final
	case s.Code == 429 || s.Code >= 500 || s.Code == 0:
		return Transient
	case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
		return Transient
	}
	return Final
}

// admissionPrefix begins every refusal that the API server passes on from an
// admission webhook (apiserver/pkg/admission/plugin/webhook/errors), and policyPrefix
// what each of a ValidatingAdmissionPolicy has after forbidden (.../plugin/policy/validating). Reason and
// code of such a refusal may be the same as of one by RBAC.
const (
	admissionPrefix = "admission webhook "
	admissionVerb   = " denied the request: "
	forbidden       = " is forbidden: "
	policyPrefix    = "ValidatingAdmissionPolicy '"
	securityPrefix  = "violates PodSecurity " // .../pod-security-admission/admission
)

// unserved reports a 404 that is about the path and not about an object: the
// server's answer was no Status of its own.
func unserved(s metav1.Status) bool {
	return s.Details != nil && slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

// anotherUID reports that a patch was meant for an earlier object of the same name. To the
// server the uid is a field that cannot change (apimachinery/pkg/api/validation/objectmeta.go).
func anotherUID(s metav1.Status) bool {
	return s.Details != nil && slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool {
		return c.Field == "metadata.uid"
	})
}

func byPolicy(s metav1.Status) bool {
	_, words, _ := strings.Cut(s.Message, forbidden)
	return strings.HasPrefix(words, policyPrefix) || strings.HasPrefix(words, securityPrefix)
}

func admission(s metav1.Status) bool { return strings.HasPrefix(s.Message, admissionPrefix) }

// Reason returns an error's text for a person: the webhook's message if a webhook
// refused, else the server's or the connection's, without Go's wrapping.
func Reason(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		if _, words, ok := strings.Cut(s.Message, admissionVerb); ok && admission(s) {
			return words
		}
		if s.Code == http.StatusUnauthorized {
			return "the API server rejects the credential of the kubeconfig: it may be expired or revoked (HTTP 401)"
		}
		if s.Code != 0 && s.Message != "" {
			return fmt.Sprintf("%s (HTTP %d)", s.Message, s.Code)
		}
		return err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error() + " (" + u.URL[:serverEnd(u.URL)] + ")"
	}
	return err.Error()
}

// serverEnd is the length of scheme, host and port in a URL.
func serverEnd(s string) int {
	scheme := strings.Index(s, "://")
	if scheme < 0 {
		return len(s)
	}
	if slash := strings.IndexByte(s[scheme+3:], '/'); slash >= 0 {
		return scheme + 3 + slash
	}
	return len(s)
}
