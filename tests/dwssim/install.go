package dwssim

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// fieldManager marks all that this program writes.
const fieldManager = "dwssim"

// Names the API server puts into its errors, as with DWS.
const (
	mutatingWebhookName   = "mworkflow.kb.io"
	validatingWebhookName = "vworkflow.kb.io"
)

var (
	crds               = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	mutatingWebhooks   = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	validatingWebhooks = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
)

// endpoint is how the API server reaches the webhook: by URL, or by Service if that is set.
type endpoint struct {
	url              string
	serviceNamespace string
	serviceName      string
	caPEM            []byte
}

func (e endpoint) clientConfig(path string) map[string]any {
	config := map[string]any{"caBundle": base64.StdEncoding.EncodeToString(e.caPEM)}
	if e.serviceName == "" {
		config["url"] = strings.TrimSuffix(e.url, "/") + path
		return config
	}
	config["service"] = map[string]any{"namespace": e.serviceNamespace, "name": e.serviceName, "path": path, "port": int64(443)}
	return config
}

// installCRDs makes the kinds known in these versions, and returns when they are served. kinds are
// those beyond Workflow and Computes.
func installCRDs(ctx context.Context, client dynamic.Interface, versions []string, kinds []kind) error {
	texts := [][]byte{workflowsCRD, computesCRD}
	for _, k := range kinds {
		text, err := k.definition()
		if err != nil {
			return err
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		crd, err := parseYAML(text)
		if err != nil {
			return err
		}
		stored, err := storedVersions(ctx, client, crd.GetName())
		if err != nil {
			return err
		}
		if crd, err = customResourceDefinition(text, versions, stored); err != nil {
			return err
		}
		if err := apply(ctx, client, crds, crd); err != nil {
			return err
		}
	}
	// Established says that the names are accepted; the handlers follow a moment later.
	for _, version := range versions {
		resources := []schema.GroupVersionResource{WorkflowsResource(version), ComputesResource(version)}
		for _, k := range kinds {
			resources = append(resources, k.resource(version))
		}
		for _, resource := range resources {
			if err := untilServed(ctx, client, resource); err != nil {
				return err
			}
		}
	}
	return nil
}

func storedVersions(ctx context.Context, client dynamic.Interface, name string) ([]string, error) {
	var crd *unstructured.Unstructured
	err := untilDecided(ctx, func() (err error) {
		crd, err = client.Resource(crds).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read definition %s: %w", name, err)
	}
	stored, _, err := unstructured.NestedStringSlice(crd.Object, "status", "storedVersions")
	if err != nil {
		return nil, fmt.Errorf("read definition %s: %w", name, err)
	}
	return stored, nil
}

func untilServed(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource) error {
	return until(ctx, func() error {
		_, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return fmt.Errorf("%s is not served: %w", resource.String(), err)
		}
		return nil
	})
}

// installWebhooks makes the API server ask e about Workflows. Requests in any served version
// reach it converted to the stored one.
func installWebhooks(ctx context.Context, client dynamic.Interface, e endpoint, version string) error {
	configuration := func(kind, name, webhookName, path string, operations ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "admissionregistration.k8s.io/v1",
			"kind":       kind,
			"metadata":   map[string]any{"name": name},
			"webhooks": []any{map[string]any{
				"name":                    webhookName,
				"admissionReviewVersions": []any{"v1", "v1beta1"},
				"clientConfig":            e.clientConfig(path),
				"failurePolicy":           "Fail",
				"matchPolicy":             "Equivalent",
				// None is what lets a dry run through to the webhook.
				"sideEffects": "None",
				"rules": []any{map[string]any{
					"apiGroups":   []any{Group},
					"apiVersions": []any{version},
					"operations":  operations,
					"resources":   []any{"workflows"},
					"scope":       "*",
				}},
			}},
		}}
	}
	mutating := configuration("MutatingWebhookConfiguration", "dws-mutating-webhook-configuration", mutatingWebhookName, mutatePath(version), "CREATE")
	if err := apply(ctx, client, mutatingWebhooks, mutating); err != nil {
		return err
	}
	validating := configuration("ValidatingWebhookConfiguration", "dws-validating-webhook-configuration", validatingWebhookName, validatePath(version), "CREATE", "UPDATE")
	return apply(ctx, client, validatingWebhooks, validating)
}

// untilWebhooksAnswer proves with dry runs that both webhooks decide: a wrong directive is
// refused, and a right one gets its driver.
func untilWebhooksAnswer(ctx context.Context, client dynamic.Interface, version string) error {
	create := func(directive string) (*unstructured.Unstructured, error) {
		workflow, err := probe(version, directive).Unstructured()
		if err != nil {
			return nil, err
		}
		return client.Resource(WorkflowsResource(version)).Namespace("default").
			Create(ctx, workflow, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	return until(ctx, func() error {
		if _, err := create("#DW no-such-command"); !apierrors.IsForbidden(err) {
			return fmt.Errorf("the validating webhook does not answer: a wrong directive led to: %v", err)
		}
		created, err := create("#DW Proposal action=wait")
		if err != nil {
			return fmt.Errorf("the validating webhook does not answer: %w", err)
		}
		drivers, _, _ := unstructured.NestedSlice(created.Object, "status", "drivers")
		if len(drivers) != 1 {
			return fmt.Errorf("the mutating webhook does not answer: %d drivers were registered, not 1", len(drivers))
		}
		return nil
	})
}

func probe(version, directive string) *Workflow {
	return &Workflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + version, Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{Name: "dwssim-probe"},
		Spec:       WorkflowSpec{DesiredState: Proposal, WLMID: "dwssim", DWDirectives: []string{directive}},
	}
}

func apply(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, object *unstructured.Unstructured) error {
	err := untilDecided(ctx, func() error {
		_, err := client.Resource(resource).Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// untilDecided repeats a request till the API server has decided on it, if only to refuse it: a
// server that comes up at the same time is waited for.
func untilDecided(ctx context.Context, request func() error) error {
	var decision error
	err := until(ctx, func() error {
		err := request()
		if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsTooManyRequests(err) {
			decision = err
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return decision
}

// until repeats an attempt till it succeeds. It is for the start alone, where there is nothing
// to watch.
func until(ctx context.Context, attempt func() error) error {
	const interval = 50 * time.Millisecond
	for {
		err := attempt()
		if err == nil {
			return nil
		}
		if !wait(ctx, interval) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
