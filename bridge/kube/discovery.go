package kube

import (
	"context"
	"encoding/json"
	"fmt"

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
