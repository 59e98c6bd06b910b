package stage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/bundle"
)

// verdict is whether an object is ready.
type verdict int

const (
	waiting verdict = iota
	ready
	failed // it never will be
)

// progress is a verdict with its reason, for a person: "1 of 2 available".
type progress struct {
	verdict
	text string
}

// readiness judges an object as it is in Kubernetes; nil: it is missing.
func readiness(u *unstructured.Unstructured, wait string) progress {
	switch {
	case u == nil:
		return progress{waiting, "missing"}
	case u.GetDeletionTimestamp() != nil:
		return progress{waiting, "being deleted"}
	case wait == bundle.WaitNone, kindOf(u.GetAPIVersion(), u.GetKind()).readyAtOnce:
		return progress{ready, ""}
	}
	judge := judges[u.GetKind()]
	if judge == nil {
		judge = byConditions
	}
	if condition, asked := strings.CutPrefix(wait, bundle.WaitCondition); asked && u.GetKind() != "Service" {
		if p := judge(u); p.verdict == failed {
			return p
		}
		return hasCondition(u, condition)
	}
	return judge(u)
}

// judges are the rules by kind. That two API groups have kinds of one name is not met
// among those that a bundle may have.
var judges = map[string]func(*unstructured.Unstructured) progress{
	"Deployment":            deployment,
	"StatefulSet":           statefulSet,
	"Pod":                   pod,
	"Job":                   batchJob,
	"Service":               service,
	"PersistentVolumeClaim": claim,
	"HTTPRoute":             httpRoute,
	"Workflow":              workflow,
	"CronWorkflow":          cronWorkflow,
}

func deployment(u *unstructured.Unstructured) progress {
	if c := conditionOf(u, "Progressing"); c.status == "False" && c.reason == "ProgressDeadlineExceeded" {
		return progress{failed, c.text()}
	}
	want := replicas(u)
	available := number(u, "status", "availableReplicas")
	if observed(u) && number(u, "status", "replicas") == want && number(u, "status", "updatedReplicas") == want && available >= want {
		return progress{ready, ""}
	}
	return progress{waiting, fmt.Sprintf("%d of %d available", available, want) + refusedPods(u)}
}

func statefulSet(u *unstructured.Unstructured) progress {
	want, is := replicas(u), number(u, "status", "readyReplicas")
	updated := text(u, "status", "updateRevision") == text(u, "status", "currentRevision") ||
		text(u, "spec", "updateStrategy", "type") == "OnDelete" || number(u, "spec", "updateStrategy", "rollingUpdate", "partition") > 0
	if observed(u) && updated && number(u, "status", "replicas") == want && is >= want {
		return progress{ready, ""}
	}
	return progress{waiting, fmt.Sprintf("%d of %d ready", is, want) + refusedPods(u)}
}

// refusedPods says why a controller cannot make pods: a quota, or an admission.
func refusedPods(u *unstructured.Unstructured) string {
	if c := conditionOf(u, "ReplicaFailure"); c.status == "True" {
		return ": " + c.text()
	}
	return ""
}

func pod(u *unstructured.Unstructured) progress {
	switch phase := text(u, "status", "phase"); phase {
	case "Succeeded":
		return progress{ready, ""}
	case "Failed":
		return progress{failed, join("Failed", cmp.Or(text(u, "status", "message"), text(u, "status", "reason"), exits(u)))}
	case "Running":
		if conditionOf(u, "Ready").status == "True" {
			return progress{ready, ""}
		}
		return progress{waiting, "Running, not ready"}
	default:
		return progress{waiting, cmp.Or(phase, "Pending")}
	}
}

func batchJob(u *unstructured.Unstructured) progress {
	for _, failure := range []string{"Failed", "FailureTarget"} {
		if c := conditionOf(u, failure); c.status == "True" {
			return progress{failed, c.text()}
		}
	}
	if conditionOf(u, "Complete").status == "True" {
		return progress{ready, ""}
	}
	return progress{waiting, fmt.Sprintf("%d active, %d failed", number(u, "status", "active"), number(u, "status", "failed"))}
}

// service: only a load balancer has to wait, for its address.
func service(u *unstructured.Unstructured) progress {
	if text(u, "spec", "type") != "LoadBalancer" {
		return progress{ready, ""}
	}
	ingress, _, _ := unstructured.NestedSlice(u.Object, "status", "loadBalancer", "ingress")
	for _, i := range ingress {
		if i, _ := i.(map[string]any); i["ip"] != nil || i["hostname"] != nil {
			return progress{ready, ""}
		}
	}
	return progress{waiting, "no address of a load balancer yet"}
}

// claim of a volume: whether it is bound before a pod needs it is for its class to say,
// which only a right in the whole cluster could read.
func claim(u *unstructured.Unstructured) progress {
	if text(u, "status", "phase") == "Lost" {
		return progress{failed, "Lost: its volume is gone"}
	}
	return progress{ready, ""}
}

func httpRoute(u *unstructured.Unstructured) progress {
	parents, _, _ := unstructured.NestedSlice(u.Object, "status", "parents")
	accepted := false
	for _, p := range parents {
		parent, _ := p.(map[string]any)
		switch c := conditionIn(parent, "Accepted"); c.status {
		case "True":
			accepted = true
		case "False":
			return progress{failed, "not accepted: " + c.text()}
		}
	}
	if accepted {
		return progress{ready, ""}
	}
	return progress{waiting, "no gateway has accepted it yet"}
}

func argoPhase(u *unstructured.Unstructured) string { return text(u, "status", "phase") }

func argoOver(phase string) bool {
	return phase == "Succeeded" || phase == "Failed" || phase == "Error"
}

func workflow(u *unstructured.Unstructured) progress {
	switch phase := argoPhase(u); phase {
	case "Succeeded":
		return progress{ready, ""}
	case "Failed", "Error":
		return progress{failed, join(phase, cmp.Or(failedStep(u), text(u, "status", "message")))}
	case "":
		return progress{waiting, "no workflow-controller has taken it (is one running? instanceID?)"}
	default:
		return progress{waiting, join(phase, text(u, "status", "message"))}
	}
}

// argoInner are the types of nodes of a Workflow that only hold others: their messages say no more
// than that a child failed (NodeType, pkg/apis/workflow/v1alpha1/workflow_types.go of Argo 4.0).
var argoInner = map[string]bool{"Steps": true, "StepGroup": true, "DAG": true, "TaskGroup": true, "Retry": true}

// failedStep is what the step of a Workflow that failed first says, "step NAME: MESSAGE"; "" if none
// says anything.
func failedStep(u *unstructured.Unstructured) string {
	type step struct{ end, name, message string }
	var steps []step
	nodes, _, _ := unstructured.NestedMap(u.Object, "status", "nodes")
	for _, n := range nodes {
		node, _ := n.(map[string]any)
		of := func(key string) string { text, _ := node[key].(string); return text }
		if phase := of("phase"); (phase == "Failed" || phase == "Error") && of("message") != "" && !argoInner[of("type")] {
			steps = append(steps, step{of("finishedAt"), of("displayName"), of("message")})
		}
	}
	if len(steps) == 0 {
		return ""
	}
	first := slices.MinFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name), cmp.Compare(a.message, b.message))
	})
	return join(strings.TrimSpace("step "+first.name), first.message)
}

func cronWorkflow(u *unstructured.Unstructured) progress {
	if c := conditionOf(u, "SpecError"); c.status == "True" {
		return progress{failed, c.text()}
	}
	return progress{ready, ""}
}

// byConditions is for kinds that nothing else is known of.
func byConditions(u *unstructured.Unstructured) progress {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, failure := range []string{"Stalled", "Failed"} {
		if c := conditionOf(u, failure); c.status == "True" {
			return progress{failed, c.text()}
		}
	}
	told := false
	for _, success := range []string{"Ready", "Available"} {
		switch c := conditionOf(u, success); c.status {
		case "":
		case "True":
			if observed(u) {
				return progress{ready, ""}
			}
			told = true
		default:
			return progress{waiting, join("not ready", c.text())}
		}
	}
	if len(conditions) > 0 || told {
		return progress{waiting, "not ready"}
	}
	return progress{ready, ""}
}

// hasCondition judges by "TYPE=STATUS".
func hasCondition(u *unstructured.Unstructured, asked string) progress {
	name, status, _ := strings.Cut(asked, "=")
	c := conditionOf(u, name)
	if c.status == status && observed(u) {
		return progress{ready, ""}
	}
	return progress{waiting, join(fmt.Sprintf("%s is %s, not %s", name, cmp.Or(c.status, "not told"), status), c.text())}
}

type condition struct{ status, reason, message string }

// text is "FailedCreate: exceeded quota".
func (c condition) text() string { return join(c.reason, c.message) }

func conditionOf(u *unstructured.Unstructured, name string) condition {
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	return conditionIn(status, name)
}

func conditionIn(status map[string]any, name string) condition {
	all, _, _ := unstructured.NestedSlice(status, "conditions")
	for _, c := range all {
		c, _ := c.(map[string]any)
		if c["type"] == name {
			word := func(key string) string { text, _ := c[key].(string); return text }
			return condition{word("status"), word("reason"), word("message")}
		}
	}
	return condition{}
}

// observed tells whether the status is of the object as it is. A kind that does not tell
// counts as observed, but a workload without a status does not.
func observed(u *unstructured.Unstructured) bool {
	seen, told, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if !told {
		return u.GetKind() != "Deployment" && u.GetKind() != "StatefulSet"
	}
	return seen >= u.GetGeneration()
}

func replicas(u *unstructured.Unstructured) int64 {
	n, given, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if !given {
		return 1
	}
	return n
}

func number(u *unstructured.Unstructured, fields ...string) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, fields...)
	return n
}

func text(u *unstructured.Unstructured, fields ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, fields...)
	return s
}

// join is "a: b", without what is empty.
func join(parts ...string) string {
	var given []string
	for _, p := range parts {
		if p != "" {
			given = append(given, p)
		}
	}
	return strings.Join(given, ": ")
}
