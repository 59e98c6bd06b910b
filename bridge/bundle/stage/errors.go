package stage

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// ConflictError is an object that is somebody else's, and was left alone.
type ConflictError struct {
	Object string // "service ns/name"
	// Of is the job that has it; nil: this cluster's slurmk8s did not make it.
	Of *job.Job
	// Same: it is of another bundle, or of a service, of the same job.
	Same bool
}

// Code is the hook's outcome: another name is the user's to choose.
func (e *ConflictError) Code() wire.Code { return wire.Refused }

func (e *ConflictError) Error() string {
	switch {
	case e.Of == nil:
		return e.Object + " exists and was not made by slurmk8s for this cluster: it was left alone; choose another name"
	case e.Of.ID == 0:
		return e.Object + " belongs to a bundle that an administrator made (slurmk8s bundle up): choose another name"
	case e.Same:
		return e.Object + " belongs to another bundle or service of this job: choose another name, or as="
	}
	return fmt.Sprintf("%s belongs to job %d, which is not over: choose another name (in an array, one with the task's index), or wait until it ends", e.Object, e.Of.ID)
}

// FailedError is a bundle that cannot become ready: trying again does not help.
type FailedError struct {
	Bundle string // "bundle exporter"
	Text   string
	Err    error
}

func (e *FailedError) Error() string { return e.Bundle + ": " + e.Text }
func (e *FailedError) Unwrap() error { return e.Err }

// LateError is a bundle that was not ready in time.
type LateError struct {
	Bundle string
	Text   string // how far it was
	Final  bool   // the bundle's own time is over, not only that of one attempt
	Err    error
}

func (e *LateError) Error() string { return e.Bundle + ": not ready in time: " + e.Text }
func (e *LateError) Unwrap() error { return e.Err }

// overQuota tells whether the namespace has no room for an object
// (apiserver/pkg/admission/plugin/resourcequota).
func overQuota(err error) bool {
	return kube.Is(err, kube.Denied) && strings.Contains(err.Error(), "exceeded quota: ")
}

// deniedUser is what Kubernetes does not let the user do who is impersonated.
type deniedUser struct{ error }

func (e deniedUser) Unwrap() error { return e.error }

// byUser is the error of a request by Driver.written. That we may not impersonate the user is the
// administrator's to mend.
func (d *Driver) byUser(err error) error {
	if d.As == nil || !kube.Is(err, kube.Denied) || overQuota(err) || strings.Contains(err.Error(), "cannot impersonate") {
		return err
	}
	return deniedUser{err}
}

// explained is the error of a request for one object, in words for the job's user if it
// is Kubernetes that refuses the object, or refuses it to the user.
func explained(set Set, u *unstructured.Unstructured, err error) error {
	var request *kube.RequestError
	if !errors.As(err, &request) {
		return err
	}
	what := fmt.Sprintf("%s: %s %s", set, u.GetKind(), u.GetName())
	if errors.As(err, new(deniedUser)) {
		return &job.Refused{Text: what + ": Kubernetes does not allow this user to do it: " + kube.Reason(request.Err), Err: err}
	}
	switch kube.Classify(err) {
	case kube.Refusal, kube.Final:
		return &job.Refused{Text: what + ": " + kube.Reason(request.Err), Err: err}
	case kube.NotFound:
		return &job.Refused{Text: fmt.Sprintf("%s: namespace %s does not exist", set, set.Namespace), Err: err}
	case kube.Unserved:
		return fmt.Errorf("%s: %s is not served by Kubernetes (%w)", what, u.GetAPIVersion(), err)
	}
	return fmt.Errorf("%s: %w", set, err)
}
