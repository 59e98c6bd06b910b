package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
)

func TestOfTwoJobsWithOneNameTheSecondIsToldOfTheFirst(t *testing.T) {
	parallel(t)
	name, port := unique("wanted"), freePort()
	first := register(t, name, port)
	first.serves(jobsNamespace, name)
	second := register(t, name, freePort())
	second.ends("FAILED")
	require.Equal(t, fmt.Sprintf("slurmk8s: service slurm-jobs/%s belongs to job %d, which is running: choose another name or wait until it ends\n", name, first.id),
		second.output())
	second.unregistered()
	require.Equal(t, fmt.Sprintf("port %d of job %d on %s", port, first.id, first.node()),
		pageFrom(t, first.node(), fmt.Sprintf("http://%s.slurm-jobs.svc:%d/", name, port)), "the first one's service is as it was")
	first.tell()
	first.ends("COMPLETED")

	third := register(t, name, freePort())
	third.serves(jobsNamespace, name)
	third.tell()
	third.ends("COMPLETED")
}

// create makes an object that no job of this test made; at the test's end it is removed.
func create(t *testing.T, gvr schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{Object: object}
	resource := cluster.Kube.Resource(gvr).Namespace(u.GetNamespace())
	made, err := resource.Create(deadline(t, patience), u, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = resource.Delete(deadline(t, patience), u.GetName(), metav1.DeleteOptions{}) })
	return made
}

func plainService(name string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": name, "namespace": jobsNamespace},
		"spec":     map[string]any{"ports": []any{map[string]any{"port": int64(80)}}},
	}
}

func TestAServiceThatIsNotOursIsLeftAlone(t *testing.T) {
	parallel(t)
	name := unique("foreign")
	foreign := create(t, service.Services, plainService(name))
	j := register(t, name, freePort())
	j.ends("FAILED")
	require.Equal(t, "slurmk8s: service slurm-jobs/"+name+" exists and was not made by slurmk8s: choose another name\n", j.output())
	now, err := cluster.Kube.Resource(service.Services).Namespace(jobsNamespace).Get(deadline(t, patience), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, foreign, now)
	require.Empty(t, endpoints(t, jobsNamespace, name))
}

// forgotten is a job that Slurm no longer knows: its counter began at FirstJobId.
const forgotten = "7"

func TestWhatADeadJobLeftIsTakenOver(t *testing.T) {
	parallel(t)
	marks := map[string]any{slurmjob.LabelManagedBy: slurmjob.ManagedBy, slurmjob.LabelCluster: "test", slurmjob.LabelJobID: forgotten}
	name, port := unique("left"), freePort()
	left := plainService(name)
	left["metadata"].(map[string]any)["labels"] = marks
	create(t, service.Services, left)
	create(t, service.EndpointSlices, map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": map[string]any{"name": name + ".test." + forgotten + ".x", "namespace": jobsNamespace, "labels": map[string]any{
			slurmjob.LabelManagedBy: slurmjob.ManagedBy, slurmjob.LabelCluster: "test", slurmjob.LabelJobID: forgotten, "kubernetes.io/service-name": name}},
		"addressType": "IPv4",
		"endpoints":   []any{map[string]any{"addresses": []any{"192.0.2.1"}, "conditions": map[string]any{"ready": true}}},
		"ports":       []any{map[string]any{"name": "", "port": int64(80), "protocol": "TCP"}},
	})
	j := register(t, name, port)
	j.serves(jobsNamespace, name) // by its own endpoint, and no other
	require.Equal(t, fmt.Sprintf("port %d of job %d on %s", port, j.id, j.node()),
		pageFrom(t, j.node(), fmt.Sprintf("http://%s.slurm-jobs.svc:%d/", name, port)))
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

func TestReconcileLeavesARunningJobAndForeignObjectsAlone(t *testing.T) {
	parallel(t)
	foreign := create(t, service.Services, plainService(unique("not-ours")))
	name := unique("running")
	j := register(t, name, freePort())
	j.serves(jobsNamespace, name)
	reconcile(t)
	for _, n := range cluster.Nodes {
		reconcileNode(t, n)
	}
	j.serves(jobsNamespace, name)
	now, err := cluster.Kube.Resource(service.Services).Namespace(jobsNamespace).Get(deadline(t, patience), foreign.GetName(), metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, foreign, now)
	j.tell()
	j.ends("COMPLETED")
}
