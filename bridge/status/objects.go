package status

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func text(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

// workflowState is "PreRun, ready" or "DataIn, DriverWait"; wrong is the message of a
// driver's error.
func workflowState(u *unstructured.Unstructured) (state, wrong string) {
	wanted, is := text(u, "spec", "desiredState"), text(u, "status", "state")
	ready, _, _ := unstructured.NestedBool(u.Object, "status", "ready")
	how := text(u, "status", "status")
	switch {
	case is == "":
		return wanted + ", not started by DWS", ""
	case wanted != is:
		return is + ", asked for " + wanted, ""
	case how == "Error" || how == "TransientCondition":
		return is + ", " + how, text(u, "status", "message")
	case ready:
		return is + ", ready", ""
	}
	return is + ", " + how, ""
}

// serviceState is "ClusterIP 8888, 9000".
func serviceState(u *unstructured.Unstructured, _ time.Time) string {
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	var numbers []string
	for _, p := range ports {
		if p, ok := p.(map[string]any); ok {
			numbers = append(numbers, fmt.Sprint(p["port"]))
		}
	}
	kind := text(u, "spec", "type")
	if text(u, "spec", "clusterIP") == "None" {
		kind = "headless"
	}
	return kind + " " + strings.Join(numbers, ", ")
}

// endpointState is "10.1.0.1 ready".
func endpointState(u *unstructured.Unstructured, _ time.Time) string {
	endpoints, _, _ := unstructured.NestedSlice(u.Object, "endpoints")
	var all []string
	for _, e := range endpoints {
		e, _ := e.(map[string]any)
		addresses, _, _ := unstructured.NestedStringSlice(e, "addresses")
		ready, _, _ := unstructured.NestedBool(e, "conditions", "ready")
		terminating, _, _ := unstructured.NestedBool(e, "conditions", "terminating")
		how := "not ready"
		switch {
		case terminating:
			how = "terminating"
		case ready:
			how = "ready"
		}
		all = append(all, strings.Join(addresses, ", ")+" "+how)
	}
	if len(all) == 0 {
		return "no address"
	}
	return strings.Join(all, "; ")
}

// leaseState is "renewed 12s ago".
func leaseState(u *unstructured.Unstructured, now time.Time) string {
	at, err := time.Parse(time.RFC3339, text(u, "spec", "renewTime"))
	if err != nil {
		return "never renewed"
	}
	state := "renewed " + Age(now.Sub(at)) + " ago"
	seconds, bounded, _ := unstructured.NestedInt64(u.Object, "spec", "leaseDurationSeconds")
	if bounded && now.After(at.Add(time.Duration(seconds)*time.Second)) {
		state += ", run out"
	}
	return state
}

// Age is a duration for a person, as kubectl writes it.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
