package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// PreferredVersion asks which version of an API group the server prefers: for
// CRDs the highest that is served. Callers ask in every hook and keep nothing,
// because a service may drop a version while jobs wait.
func (c *Client) PreferredVersion(ctx context.Context, group string) (schema.GroupVersion, error) {
	var answer metav1.APIGroup
	err := c.Do(ctx, "find API group "+group, func(ctx context.Context) error {
		result := c.rest.Get().AbsPath("/apis/" + group).MaxRetries(0).Do(ctx)
		body, err := result.Raw()
		if err != nil {
			return result.Error() // with the server's words
		}
		return json.Unmarshal(body, &answer)
	})
	if err != nil {
		return schema.GroupVersion{}, err
	}
	if answer.PreferredVersion.Version == "" {
		return schema.GroupVersion{}, fmt.Errorf("find API group %s: the server serves no version of it", group)
	}
	return schema.GroupVersion{Group: group, Version: answer.PreferredVersion.Version}, nil
}

// Resource asks what the server calls objects of a kind, in one request, and whether they
// are in namespaces.
func (c *Client) Resource(ctx context.Context, kind schema.GroupVersionKind) (resource schema.GroupVersionResource, namespaced bool, err error) {
	path := "/apis/" + kind.GroupVersion().String()
	if kind.Group == "" {
		path = "/api/" + kind.Version
	}
	what := fmt.Sprintf("find kind %s of %s", kind.Kind, kind.GroupVersion())
	var answer metav1.APIResourceList
	err = c.Do(ctx, what, func(ctx context.Context) error {
		result := c.rest.Get().AbsPath(path).MaxRetries(0).Do(ctx)
		body, err := result.Raw()
		if err != nil {
			return result.Error() // with the server's words
		}
		return json.Unmarshal(body, &answer)
	})
	if err != nil {
		return schema.GroupVersionResource{}, false, err
	}
	for _, r := range answer.APIResources {
		if r.Kind == kind.Kind && !strings.Contains(r.Name, "/") {
			return kind.GroupVersion().WithResource(r.Name), r.Namespaced, nil
		}
	}
	return schema.GroupVersionResource{}, false, fmt.Errorf("%s: the server has no such kind", what)
}
