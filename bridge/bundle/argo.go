package bundle

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// inWorkflow is the path of a field of a Workflow's spec in an object, which a CronWorkflow has
// further down.
func inWorkflow(object *unstructured.Unstructured, fields ...string) []string {
	if object.GetKind() == "CronWorkflow" {
		return append([]string{"spec", "workflowSpec"}, fields...)
	}
	return append([]string{"spec"}, fields...)
}

// WorkflowTemplate names the template that an Argo Workflow or CronWorkflow refers to: its
// resource, and its namespace, empty for a ClusterWorkflowTemplate. ok is false for other objects.
func WorkflowTemplate(object *unstructured.Unstructured) (resource schema.GroupVersionResource, namespace, name string, ok bool) {
	gvk := object.GroupVersionKind()
	if gvk.Group != "argoproj.io" || gvk.Kind != "Workflow" && gvk.Kind != "CronWorkflow" {
		return resource, "", "", false
	}
	name, ok, _ = unstructured.NestedString(object.Object, inWorkflow(object, "workflowTemplateRef", "name")...)
	resource = gvk.GroupVersion().WithResource("workflowtemplates")
	namespace = object.GetNamespace()
	if cluster, _, _ := unstructured.NestedBool(object.Object, inWorkflow(object, "workflowTemplateRef", "clusterScope")...); cluster {
		resource, namespace = gvk.GroupVersion().WithResource("clusterworkflowtemplates"), ""
	}
	return resource, namespace, name, ok
}

// CheckArguments compares the arguments of a Workflow with the parameters that its template
// declares: Argo ignores those that it does not know, and fails late without those that it
// needs or with a value that is not in an enum. The error is a *job.Refused.
func CheckArguments(workflow, template *unstructured.Unstructured) error {
	declared := parameters(template)
	given := arguments(workflow)
	what := template.GetKind() + " " + template.GetName()
	if template.GetNamespace() != "" {
		what = template.GetKind() + " " + template.GetNamespace() + "/" + template.GetName()
	}
	var known []string
	for _, p := range declared {
		known = append(known, p.name)
	}
	for _, a := range given {
		i := slices.Index(known, a.name)
		if i < 0 {
			if len(known) == 0 {
				return job.Refusef("%s has no parameters, so not %s", what, wire.Quote(a.name))
			}
			return job.Refusef("%s has no parameter %s%s", what, wire.Quote(a.name), nearest(a.name, known))
		}
		if choices := declared[i].enum; len(choices) > 0 && !slices.Contains(choices, a.value) {
			return job.Refusef("%s: parameter %s must be one of %s, not %s", what, a.name, strings.Join(choices, ", "), wire.Quote(a.value))
		}
	}
	for _, p := range declared {
		if !p.hasValue && !slices.ContainsFunc(given, func(a argument) bool { return a.name == p.name }) {
			return job.Refusef("%s needs the parameter %s", what, wire.Quote(p.name))
		}
	}
	return nil
}

// KeepArguments takes the arguments off a Workflow that its template does not declare: one
// that undoes what another did gets that one's arguments, as far as it wants them.
func KeepArguments(workflow, template *unstructured.Unstructured) {
	var known []string
	for _, p := range parameters(template) {
		known = append(known, p.name)
	}
	list, found, _ := unstructured.NestedSlice(workflow.Object, inWorkflow(workflow, "arguments", "parameters")...)
	if !found {
		return
	}
	kept := slices.DeleteFunc(list, func(entry any) bool { return !slices.Contains(known, nameIn(entry)) })
	_ = unstructured.SetNestedSlice(workflow.Object, kept, inWorkflow(workflow, "arguments", "parameters")...)
}

// parameter is one that a template declares.
type parameter struct {
	name     string
	hasValue bool     // it need not be given; a "default" alone does not do for Argo 4.0
	enum     []string // the values that it may have; empty: any
}

func parameters(template *unstructured.Unstructured) []parameter {
	list, _, _ := unstructured.NestedSlice(template.Object, "spec", "arguments", "parameters")
	declared := make([]parameter, 0, len(list))
	for _, entry := range list {
		p := parameter{name: nameIn(entry)}
		fields, _ := entry.(map[string]any)
		for _, key := range []string{"value", "valueFrom"} {
			_, has := fields[key]
			p.hasValue = p.hasValue || has
		}
		choices, _ := fields["enum"].([]any)
		for _, choice := range choices {
			p.enum = append(p.enum, fmt.Sprint(choice)) // Argo compares them as text
		}
		declared = append(declared, p)
	}
	return declared
}

// argument is one of a Workflow.
type argument struct{ name, value string }

func arguments(workflow *unstructured.Unstructured) []argument {
	list, _, _ := unstructured.NestedSlice(workflow.Object, inWorkflow(workflow, "arguments", "parameters")...)
	given := make([]argument, len(list))
	for i, entry := range list {
		fields, _ := entry.(map[string]any)
		value, _ := fields["value"].(string)
		given[i] = argument{nameIn(entry), value}
	}
	return given
}

func nameIn(entry any) string {
	fields, _ := entry.(map[string]any)
	name, _ := fields["name"].(string)
	return name
}
