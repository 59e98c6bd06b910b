package kube

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestEachChangeHasALineAndAReadHasNone(t *testing.T) {
	for _, below := range []string{"", "/", "/k8s/clusters/c-m-x7", "/api/v1/proxy/"} {
		t.Run("below "+below, func(t *testing.T) { eachChangeHasALine(t, below) })
	}
}

func eachChangeHasALine(t *testing.T, below string) {
	api := "https://server:6443" + strings.TrimSuffix(below, "/")
	for _, c := range []struct {
		method, path, contentType, body string
		want                            string
	}{
		{"GET", "/api/v1/namespaces/slurm/services/web", "", "", ""},
		{"GET", "/api/v1/services?watch=true", "", "", ""},
		{"POST", "/apis/dataworkflowservices.github.io/v1alpha7/namespaces/slurm/workflows?dryRun=All", "", `{"metadata":{"name":"bb1"}}`, ""},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", "{}", ""},
		{"POST", "/apis/dataworkflowservices.github.io/v1alpha7/namespaces/slurm/workflows", "",
			`{"metadata":{"name":"bb1"},"spec":{"dwDirectives":["#DW token=geheim"]}}`, "create workflows slurm/bb1: 200"},
		{"POST", "/api/v1/namespaces/a/events", "", `{"metadata":{"generateName":"slurm-"}}`, "create events a/slurm-?: 200"},
		{"POST", "/api/v1/namespaces/a/pods/p-1/eviction", "", "{}", "create pods/eviction a/p-1: 200"},
		{"PATCH", "/api/v1/nodes/n1", "application/merge-patch+json", "{}", "patch nodes n1: 200"},
		{"PATCH", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/web-1", "application/apply-patch+yaml", "{}", "apply endpointslices a/web-1: 200"},
		{"PUT", "/api/v1/namespaces/a/services/web", "", "{}", "update services a/web: 200"},
		{"DELETE", "/api/v1/namespaces/a", "", "", "delete namespaces a: 200"},
		{"DELETE", "/odd", "", "", "delete " + strings.TrimSuffix(below, "/") + "/odd: 200"},
	} {
		logger, lines := test.NewNullLogger()
		request, err := http.NewRequest(c.method, api+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", c.contentType)
		answer := roundTripper(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil })
		_, err = auditTransport{answer, logrus.NewEntry(logger), below}.RoundTrip(request)
		require.NoError(t, err)
		if c.want == "" {
			assert.Empty(t, lines.AllEntries(), "%s %s", c.method, c.path)
			continue
		}
		require.Len(t, lines.AllEntries(), 1, "%s %s", c.method, c.path)
		assert.Equal(t, "audit: "+c.want, lines.LastEntry().Message)
	}
}

func TestAChangeWithoutAnAnswerHasALineToo(t *testing.T) {
	logger, lines := test.NewNullLogger()
	request, err := http.NewRequest("DELETE", "https://server/api/v1/namespaces/a/services/web", nil)
	require.NoError(t, err)
	request.Header.Set("Impersonate-User", "alice")
	broken := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
	_, err = auditTransport{broken, logrus.NewEntry(logger), ""}.RoundTrip(request)
	require.Error(t, err)
	require.Len(t, lines.AllEntries(), 1)
	assert.Equal(t, "audit: delete services a/web: no answer", lines.LastEntry().Message)
	assert.Equal(t, "alice", lines.LastEntry().Data["as"])
}
