package stage

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// How long a pod may be in the way before its bundle has failed, since it was bound to a
// node. Some reasons go away by themselves: an image that is being pushed, a Secret that
// another object's controller makes.
const (
	configPatience = 30 * time.Second
	imagePatience  = 2 * time.Minute
	crashes        = 3 // restarts
)

// waitingReasons are those that do not end without a person, with the patience for them.
var waitingReasons = map[string]time.Duration{
	"InvalidImageName":           configPatience,
	"ErrImageNeverPull":          configPatience,
	"CreateContainerConfigError": configPatience,
	"CreateContainerError":       configPatience,
	"ErrImagePull":               imagePatience,
	"ImagePullBackOff":           imagePatience,
}

// trouble says why a pod is not ready, as "pod x: ImagePullBackOff: ...": nothing that is
// unusual is an empty text. fatal tells that waiting does not help.
func trouble(u *unstructured.Unstructured, now time.Time) (why string, fatal bool) {
	name := "pod " + u.GetName()
	if c := conditionOf(u, "PodScheduled"); c.status == "False" {
		return join(name, c.text()), false // another job may make room
	}
	bound := scheduled(u)
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		containers, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, c := range containers {
			c, _ := c.(map[string]any)
			waiting, _, _ := unstructured.NestedMap(c, "state", "waiting")
			reason, _ := waiting["reason"].(string)
			message, _ := waiting["message"].(string)
			if patience, known := waitingReasons[reason]; known {
				return join(name, reason, message), now.Sub(bound) > patience
			}
			if reason == "CrashLoopBackOff" {
				restarts, _, _ := unstructured.NestedInt64(c, "restartCount")
				return join(name, reason, exit(c, "lastState")), restarts >= crashes
			}
		}
	}
	return "", false
}

// scheduled is when a pod was bound to its node.
func scheduled(u *unstructured.Unstructured) time.Time {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		since, _ := c["lastTransitionTime"].(string)
		if at, err := time.Parse(time.RFC3339, since); err == nil && c["type"] == "PodScheduled" && c["status"] == "True" {
			return at
		}
	}
	return u.GetCreationTimestamp().Time
}

// exits is how the first container ended that did not end well.
func exits(u *unstructured.Unstructured) string {
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		containers, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, c := range containers {
			c, _ := c.(map[string]any)
			if code, _, _ := unstructured.NestedInt64(c, "state", "terminated", "exitCode"); code != 0 {
				return exit(c, "state")
			}
		}
	}
	return ""
}

// exit is "container x ended with exit code 1 (Error): message".
func exit(container map[string]any, state string) string {
	code, told, _ := unstructured.NestedInt64(container, state, "terminated", "exitCode")
	if !told {
		return ""
	}
	word := func(key string) string {
		s, _, _ := unstructured.NestedString(container, state, "terminated", key)
		return s
	}
	name, _ := container["name"].(string)
	return join(fmt.Sprintf("container %s ended with exit code %d (%s)", name, code, word("reason")), word("message"))
}

// madeBy tells whether a pod is one of a workload's.
func madeBy(pod, workload *unstructured.Unstructured) bool {
	for _, owner := range pod.GetOwnerReferences() {
		if owner.UID == workload.GetUID() {
			return true
		}
	}
	// Between a Deployment and its pods is a ReplicaSet.
	selector, _, _ := unstructured.NestedStringMap(workload.Object, "spec", "selector", "matchLabels")
	if workload.GetKind() != "Deployment" || len(selector) == 0 {
		return false
	}
	labels := pod.GetLabels()
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
