package mirror

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// pressures are the conditions in which a kubelet takes no new pods.
var pressures = []string{"DiskPressure", "MemoryPressure", "PIDPressure"}

// leaving are the taints of a Node that will be deleted, or whose machine is off. A mere
// candidate (DeletionCandidateOfClusterAutoscaler) is not.
var leaving = []string{
	"ToBeDeletedByClusterAutoscaler",
	"karpenter.sh/disrupted", "karpenter.sh/disruption",
	"node.kubernetes.io/out-of-service",
}

// ills are what is wrong with a Node, apart from a cordon.
type ills struct {
	lasting []string // long enough to act on: "DiskPressure"
	recent  []string // conditions that changed a moment ago, to either side
	// notReady stands apart: a machine may be silent by Slurm's own doing.
	notReady struct {
		word   string // "NotReady" if it has lasted
		recent bool   // changed a moment ago, or the kubelet never told
	}
}

// illsOf reads a Node. Ages are by the clock of Kubernetes: a clock that is wrong here makes
// a condition recent for longer, or for less long.
func (p policy) illsOf(node *unstructured.Unstructured, now time.Time) (i ills) {
	if node.GetDeletionTimestamp() != nil {
		i.lasting = append(i.lasting, "deleted")
	}
	taints, _, _ := unstructured.NestedSlice(node.Object, "spec", "taints")
	for _, taint := range taints {
		if taint, ok := taint.(map[string]any); ok {
			if key, _ := taint["key"].(string); slices.Contains(leaving, key) {
				i.lasting = append(i.lasting, key)
			}
		}
	}
	i.notReady.recent = true
	conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		name, _ := condition["type"].(string)
		status, _ := condition["status"].(string)
		since, _ := condition["lastTransitionTime"].(string)
		at, err := time.Parse(time.RFC3339, since)
		recent := err != nil || now.Sub(at) < p.after
		switch {
		case name == "Ready":
			i.notReady.recent = recent
			if status != "True" && !recent {
				i.notReady.word = "NotReady"
			}
		case !slices.Contains(pressures, name) && !slices.Contains(p.conditions, name):
		case recent:
			i.recent = append(i.recent, name)
		case status == "True":
			i.lasting = append(i.lasting, name)
		}
	}
	slices.Sort(i.lasting)
	return i
}
