package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// application is one as Spark's: a driver on the control plane, whose executors are pods that it
// makes and owns (workload/driver.go).
type application struct {
	t *testing.T
}

const driverName = "spark"

// spark starts an application and waits until all its executors run.
func spark(t *testing.T, executors, tasks int) *application {
	t.Helper()
	executor, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": podSpec(t, workersOnly, 1, "executor")})
	require.NoError(t, err)
	spec := podSpec(t, controlPlaneOnly, 1, "driver")
	spec["serviceAccountName"], spec["restartPolicy"] = "driver", "Never"
	value := func(name string, value any) any {
		text, _ := json.Marshal(value)
		return map[string]any{"name": name, "value": string(text)}
	}
	field := func(name, path string) any {
		return map[string]any{"name": name, "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": path}}}
	}
	spec["containers"].([]any)[0].(map[string]any)["env"] = []any{
		value("EXECUTORS", executors), value("TASKS", tasks), map[string]any{"name": "EXECUTOR_POD", "value": string(executor)},
		field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid"),
		field("POD_NAMESPACE", "metadata.namespace"), field("POD_IP", "status.podIP"),
	}
	createShared(t, node.Pods, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": driverName}, "spec": spec})
	a := &application{t: t}
	eventually.Equal(t, executors, a.runningExecutors, "executors that run")
	return a
}

func (a *application) runningExecutors() int {
	list, err := cluster.Kube.Resource(node.Pods).Namespace(shared).List(deadline(a.t, patience),
		metav1.ListOptions{LabelSelector: "driver=" + driverName, FieldSelector: "status.phase=Running"})
	require.NoError(a.t, err)
	return len(list.Items)
}

// succeeds waits until all tasks are done, and requires that executors were lost on the way.
func (a *application) succeeds() {
	a.t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(lookAgain) {
		pod, err := cluster.Kube.Resource(node.Pods).Namespace(shared).Get(deadline(a.t, patience), driverName, metav1.GetOptions{})
		require.NoError(a.t, err, "the driver is gone")
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		require.NotEqual(a.t, "Failed", phase, "the application failed")
		if phase == "Succeeded" {
			statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
			message, _, _ := unstructured.NestedString(statuses[0].(map[string]any), "state", "terminated", "message")
			a.t.Log("spark: " + message)
			require.Regexp(a.t, `^\d+ tasks done in \d+ attempts by ([5-9]|\d\d+) executors$`, message, "none was lost")
			return
		}
		require.True(a.t, time.Now().Before(until), "the application does not end: it is %s", phase)
	}
}
