package faults

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		method, url                                     string
		verb, group, namespace, resource, name, subname string
	}{
		{"GET", "/version", "get", "", "", "", "", ""},
		{"GET", "/apis", "get", "", "", "", "", ""},
		{"GET", "/apis/apps", "get", "", "", "", "", ""},
		{"GET", "/apis/apps/v1", "get", "", "", "", "", ""},
		{"GET", "/api/v1", "get", "", "", "", "", ""},
		{"GET", "/api/v1/nodes/n1", "get", "", "", "nodes", "n1", ""},
		{"GET", "/api/v1/namespaces/slurm", "get", "", "", "namespaces", "slurm", ""},
		{"GET", "/api/v1/namespaces/slurm/pods", "list", "", "slurm", "pods", "", ""},
		{"GET", "/api/v1/namespaces/slurm/pods?watch=true", "watch", "", "slurm", "pods", "", ""},
		{"GET", "/api/v1/namespaces/slurm/pods?watch=1&fieldSelector=x", "watch", "", "slurm", "pods", "", ""},
		{"POST", "/api/v1/namespaces/slurm/pods/p/eviction", "create", "", "slurm", "pods", "p", "eviction"},
		{"PATCH", "/apis/apps/v1/namespaces/slurm/deployments/d", "patch", "apps", "slurm", "deployments", "d", ""},
		{"DELETE", "/apis/apps/v1/namespaces/slurm/deployments/d", "delete", "apps", "slurm", "deployments", "d", ""},
		{"DELETE", "/apis/apps/v1/namespaces/slurm/deployments", "deletecollection", "apps", "slurm", "deployments", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.url, func(t *testing.T) {
			r := describe(tt.method, mustURL(tt.url))
			assert.Equal(t, []string{tt.verb, tt.group, tt.namespace, tt.resource, tt.name, tt.subname},
				[]string{r.Verb, r.Group, r.Namespace, r.Resource, r.Name, r.Subresource})
		})
	}
}
