package dwssim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const readyPath = "/readyz"

// mutatePath and validatePath are what the API server calls, as with DWS.
func mutatePath(version string) string {
	return "/mutate-dataworkflowservices-github-io-" + version + "-workflow"
}

func validatePath(version string) string {
	return "/validate-dataworkflowservices-github-io-" + version + "-workflow"
}

// webhook answers the API server's admission reviews.
type webhook struct {
	version          string // in which it is asked
	rulesetNamespace string
	logf             func(format string, args ...any)

	ready      atomic.Bool
	noRuleset  atomic.Bool
	down       atomic.Bool
	delayNanos atomic.Int64
}

func (h *webhook) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(mutatePath(h.version), h.review(h.mutate))
	mux.HandleFunc(validatePath(h.version), h.review(h.validate))
	mux.HandleFunc(readyPath, func(response http.ResponseWriter, _ *http.Request) {
		if !h.ready.Load() {
			http.Error(response, "the API server does not call the webhooks yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

func (h *webhook) policy() policy {
	return policy{rulesetNamespace: h.rulesetNamespace, hasRuleset: !h.noRuleset.Load()}
}

// review wraps a decision in the protocol.
func (h *webhook) review(decide func(*admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		if h.down.Load() || !wait(request.Context(), time.Duration(h.delayNanos.Load())) {
			panic(http.ErrAbortHandler)
		}
		review := admissionv1.AdmissionReview{}
		const bodyLimit = 8 << 20 // two objects of at most 3 MiB each, and the envelope
		if err := json.NewDecoder(io.LimitReader(request.Body, bodyLimit)).Decode(&review); err != nil || review.Request == nil {
			http.Error(response, fmt.Sprintf("not an admission review: %v", err), http.StatusBadRequest)
			return
		}
		answer, err := decide(review.Request)
		if err != nil {
			h.logf("webhook: %s %s/%s: %v", review.Request.Operation, review.Request.Namespace, review.Request.Name, err)
			// What a panic does in the real one: the connection dies, and the API server answers
			// its client with 500, "failed calling webhook".
			panic(http.ErrAbortHandler)
		}
		answer.UID = review.Request.UID
		review.Request, review.Response = nil, answer
		response.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(response).Encode(review); err != nil {
			h.logf("webhook: answer: %v", err)
		}
	}
}

// mutate is called on CREATE only.
func (h *webhook) mutate(request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	workflow := &Workflow{}
	if err := json.Unmarshal(request.Object.Raw, workflow); err != nil {
		return badRequest(err), nil
	}
	// On creation the namespace may be in the request's URL alone.
	workflow.Namespace = request.Namespace
	if err := h.policy().mutateCreate(workflow); err != nil {
		return nil, err
	}
	// "add" replaces what is there. DWS writes back all fields of spec too: one that is required
	// and missing is then there, with its zero value.
	patch, err := json.Marshal([]any{
		map[string]any{"op": "add", "path": "/spec", "value": workflow.Spec},
		map[string]any{"op": "add", "path": "/status", "value": workflow.Status},
	})
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: &kind}, nil
}

func (h *webhook) validate(request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	workflow := &Workflow{}
	if err := json.Unmarshal(request.Object.Raw, workflow); err != nil {
		return badRequest(err), nil
	}
	var denial error
	switch request.Operation {
	case admissionv1.Create:
		denial = h.policy().validateCreate(workflow)
	case admissionv1.Update:
		old := &Workflow{}
		if err := json.Unmarshal(request.OldObject.Raw, old); err != nil {
			return badRequest(err), nil
		}
		denial = h.policy().validateUpdate(old, workflow)
	}
	if errors.Is(denial, errPanic) {
		return nil, denial
	}
	if denial != nil {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status:  metav1.StatusFailure,
			Code:    http.StatusForbidden,
			Reason:  metav1.StatusReasonForbidden,
			Message: denial.Error(),
		}}, nil
	}
	return &admissionv1.AdmissionResponse{Allowed: true}, nil
}

// badRequest is the answer about an object that cannot be decoded.
func badRequest(err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusBadRequest, Message: err.Error()}}
}

// wait returns false if the context ended first.
func wait(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
