package bundle

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func parsed(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := parseObjects("o.yaml", []byte(text))
	require.NoError(t, err)
	return &unstructured.Unstructured{Object: objects[0].Object}
}

const deployTemplate = `apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: deploy, namespace: arkouda}
spec:
  arguments:
    parameters:
    - name: exporter-name
    - {name: interval, value: "15"}
    - {name: secret, valueFrom: {configMapKeyRef: {name: a, key: b}}}
    - {name: level, value: low, enum: [low, high]}
`

func workflowWith(t *testing.T, values map[string]string) *unstructured.Unstructured {
	t.Helper()
	option := "argo,template=deploy,delete=undo,ns=arkouda"
	for name, value := range values {
		option += ",p." + name + "=" + value
	}
	out, err := expandShipped(t, option)
	require.NoError(t, err)
	return out.Phases[0].Objects[0]
}

func TestTheTemplateOfACronWorkflowIsFoundToo(t *testing.T) {
	clock := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": map[string]any{"name": "c", "namespace": "ns"},
		"spec": map[string]any{"workflowSpec": map[string]any{
			"workflowTemplateRef": map[string]any{"name": "deploy"},
			"arguments":           map[string]any{"parameters": []any{map[string]any{"name": "ap", "value": "x"}}},
		}},
	}}
	_, namespace, name, ok := WorkflowTemplate(clock)
	assert.Equal(t, []any{"ns", "deploy", true}, []any{namespace, name, ok})
	template := &unstructured.Unstructured{Object: map[string]any{
		"kind": "WorkflowTemplate", "metadata": map[string]any{"name": "deploy", "namespace": "ns"},
		"spec": map[string]any{"arguments": map[string]any{"parameters": []any{map[string]any{"name": "app"}}}},
	}}
	assert.EqualError(t, CheckArguments(clock, template), `WorkflowTemplate ns/deploy has no parameter "ap": known are app`)
}

func TestTheArgumentsOfAWorkflowAreThoseOfItsTemplate(t *testing.T) {
	template := parsed(t, deployTemplate)
	for want, values := range map[string]map[string]string{
		"": {"exporter-name": "x", "level": "high"},
		`WorkflowTemplate arkouda/deploy has no parameter "exporter-nme": did you mean exporter-name?`:                        {"exporter-nme": "x"},
		`WorkflowTemplate arkouda/deploy has no parameter "frobnicate-all": known are exporter-name, interval, secret, level`: {"exporter-name": "x", "frobnicate-all": "y"},
		`WorkflowTemplate arkouda/deploy needs the parameter "exporter-name"`:                                                 {"interval": "20"},
		`WorkflowTemplate arkouda/deploy: parameter level must be one of low, high, not "hihg"`:                               {"exporter-name": "x", "level": "hihg"},
	} {
		err := CheckArguments(workflowWith(t, values), template)
		if want == "" {
			assert.NoError(t, err)
			continue
		}
		var refused *job.Refused
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, want, err.Error())
	}
	withDefault := strings.Replace(deployTemplate, "- name: exporter-name", "- {name: exporter-name, default: x}", 1)
	assert.ErrorContains(t, CheckArguments(workflowWith(t, nil), parsed(t, withDefault)), "needs the parameter", "nor does Argo run without it")
	bare := parsed(t, "apiVersion: argoproj.io/v1alpha1\nkind: ClusterWorkflowTemplate\nmetadata: {name: deploy}\nspec: {}\n")
	assert.EqualError(t, CheckArguments(workflowWith(t, map[string]string{"a": "b"}), bare), `ClusterWorkflowTemplate deploy has no parameters, so not "a"`)
	assert.NoError(t, CheckArguments(workflowWith(t, nil), bare))
}

func TestAWorkflowThatUndoesGetsTheArgumentsThatItNames(t *testing.T) {
	workflow := workflowWith(t, map[string]string{"exporter-name": "x", "interval": "20", "other": "y"})
	KeepArguments(workflow, parsed(t, deployTemplate))
	data, err := yaml.Marshal(field(t, workflow, "spec", "arguments"))
	require.NoError(t, err)
	assert.Equal(t, "parameters:\n- name: exporter-name\n  value: x\n- name: interval\n  value: \"20\"\n", string(data))
}

func TestAWorkflowSaysWhereItsTemplateIs(t *testing.T) {
	resource, namespace, name, ok := WorkflowTemplate(workflowWith(t, nil))
	assert.True(t, ok)
	assert.Equal(t, "argoproj.io/v1alpha1, Resource=workflowtemplates arkouda/deploy", resource.String()+" "+namespace+"/"+name)

	_, err := expandShipped(t, "argo,template=deploy,cluster_scope=true,ns=arkouda")
	require.ErrorContains(t, err, `no parameter "cluster_scope"`, "these are for all users of the cluster: a site that wants them copies the bundle")
	resource, namespace, _, ok = WorkflowTemplate(parsed(t,
		"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: x}\nspec: {workflowTemplateRef: {name: deploy, clusterScope: true}}\n"))
	assert.True(t, ok)
	assert.Equal(t, "clusterworkflowtemplates", resource.Resource)
	assert.Empty(t, namespace)

	_, _, _, ok = WorkflowTemplate(parsed(t, configMap))
	assert.False(t, ok)
	_, _, _, ok = WorkflowTemplate(parsed(t, "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: x}\nspec: {}\n"))
	assert.False(t, ok)
}
