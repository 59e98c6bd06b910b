package stage

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// templates is an API server that has one WorkflowTemplate, called deploy.
func templates(t *testing.T) (*Driver, *kubetest.Server) {
	t.Helper()
	server := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(r.URL.Path, "clusterworkflowtemplates"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Forbidden","code":403,"message":"no"}`)
		case strings.HasSuffix(r.URL.Path, "/workflowtemplates/deploy"):
			_, _ = io.WriteString(w, `{"apiVersion":"argoproj.io/v1alpha1","kind":"WorkflowTemplate","metadata":{"name":"deploy","namespace":"ns"},`+
				`"spec":{"arguments":{"parameters":[{"name":"app"},{"name":"interval","value":"15"}]}}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"not found","details":{"name":"x","kind":"workflowtemplates"}}`)
		}
	})
	logger := logrus.New()
	logger.SetOutput(t.Output())
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 5 * time.Second, Log: logrus.NewEntry(logger)})
	require.NoError(t, err)
	return &Driver{Kube: client, Job: theJob, Log: logrus.NewEntry(logger)}, server
}

func workflowOf(template string, cluster bool, names ...string) *unstructured.Unstructured {
	var parameters []any
	for _, name := range names {
		parameters = append(parameters, map[string]any{"name": name, "value": "x"})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": map[string]any{"name": "w", "namespace": "ns"},
		"spec": map[string]any{
			"workflowTemplateRef": map[string]any{"name": template, "clusterScope": cluster}, "arguments": map[string]any{"parameters": parameters},
		},
	}}
}

func TestArgumentsThatTheTemplateDoesNotDeclareAreRefused(t *testing.T) {
	d, server := templates(t)
	set := Set{Bundle: "argo", Instance: "argo", Namespace: "ns"}
	check := func(u *unstructured.Unstructured, atEnd bool) error {
		return d.checkArguments(t.Context(), set, u, atEnd)
	}

	require.NoError(t, check(workflowOf("deploy", false, "app"), false))
	err := check(workflowOf("deploy", false, "ap"), false)
	assert.EqualError(t, err, `bundle argo: WorkflowTemplate ns/deploy has no parameter "ap": known are app, interval`)
	assert.Equal(t, wire.Refused, wire.CodeOf(err))
	err = check(workflowOf("deploy", false), false)
	assert.EqualError(t, err, `bundle argo: WorkflowTemplate ns/deploy needs the parameter "app"`)
	err = check(workflowOf("nosuch", false), false)
	assert.EqualError(t, err, "bundle argo: workflowtemplate ns/nosuch does not exist")
	assert.Equal(t, wire.Refused, wire.CodeOf(err))

	last := workflowOf("deploy", false, "app", "other")
	require.NoError(t, check(last, true), "what is for the other Workflow is left out")
	parameters, _, err := unstructured.NestedSlice(last.Object, "spec", "arguments", "parameters")
	require.NoError(t, err)
	assert.Equal(t, []any{map[string]any{"name": "app", "value": "x"}}, parameters)

	err = check(workflowOf("deploy", true, "ap"), false)
	require.ErrorContains(t, err, "bundle argo: the controller may not read clusterworkflowtemplate deploy, ")
	assert.Equal(t, wire.Refused, wire.CodeOf(err), "what nobody can judge does not run")
	before := len(server.Requests())
	require.NoError(t, check(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod"}}, false))
	assert.Len(t, server.Requests(), before, "no other kind costs a request")
}
