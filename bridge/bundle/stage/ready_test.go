package stage

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/bundle"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	body, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(body); err != nil {
		require.NoError(t, err)
	}
	return u
}

func TestReadinessByKind(t *testing.T) {
	const deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x, generation: 2}, spec: {replicas: 2}, status: %s}"
	const statefulSet = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: x, generation: 1}, spec: {%s}, status: %s}"
	const pod = "{apiVersion: v1, kind: Pod, metadata: {name: x}, status: %s}"
	const job = "{apiVersion: batch/v1, kind: Job, metadata: {name: x}, status: {active: 1, conditions: [%s]}}"
	const route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}, status: {parents: [{conditions: [%s]}]}}"
	const argo = "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: x}, status: %s}"
	const widget = "{apiVersion: example.org/v1, kind: Widget, metadata: {name: x, generation: 3}, status: %s}"
	for _, tt := range []struct {
		name, text, wait string
		want             verdict
		says             string
	}{
		{"a Deployment without a status is not ready", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: 0}}", "", waiting, "0 of 0 available"},
		{"a Deployment of which all are available", fmt.Sprintf(deployment, "{observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2}"), "", ready, ""},
		{"a Deployment whose status is of an earlier generation", fmt.Sprintf(deployment, "{observedGeneration: 1, replicas: 2, updatedReplicas: 2, availableReplicas: 2}"), "", waiting, "2 of 2 available"},
		{"a Deployment with an old pod left", fmt.Sprintf(deployment, "{observedGeneration: 2, replicas: 3, updatedReplicas: 2, availableReplicas: 2}"), "", waiting, "2 of 2"},
		{"a Deployment that lacks one", fmt.Sprintf(deployment, "{observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1}"), "", waiting, "1 of 2 available"},
		{"a Deployment that a quota refuses", fmt.Sprintf(deployment, "{observedGeneration: 2, conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: exceeded quota}]}"), "", waiting, "0 of 2 available: FailedCreate: exceeded quota"},
		{"a Deployment out of time", fmt.Sprintf(deployment, "{observedGeneration: 2, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}"), "", failed, "ProgressDeadlineExceeded"},
		{"wait=none needs no more than the object", fmt.Sprintf(deployment, "{}"), bundle.WaitNone, ready, ""},

		{"a StatefulSet", fmt.Sprintf(statefulSet, "replicas: 2", "{observedGeneration: 1, replicas: 2, readyReplicas: 2, updateRevision: a, currentRevision: a}"), "", ready, ""},
		{"a StatefulSet that rolls out", fmt.Sprintf(statefulSet, "replicas: 2", "{observedGeneration: 1, replicas: 2, readyReplicas: 2, updateRevision: b, currentRevision: a}"), "", waiting, "2 of 2 ready"},
		{"a StatefulSet that nobody rolls out", fmt.Sprintf(statefulSet, "replicas: 2, updateStrategy: {type: OnDelete}", "{observedGeneration: 1, replicas: 2, readyReplicas: 2, updateRevision: b, currentRevision: a}"), "", ready, ""},

		{"a Pod that runs and is ready", fmt.Sprintf(pod, "{phase: Running, conditions: [{type: Ready, status: 'True'}]}"), "", ready, ""},
		{"a Pod that runs", fmt.Sprintf(pod, "{phase: Running, conditions: [{type: Ready, status: 'False'}]}"), "", waiting, "Running, not ready"},
		{"a Pod that has done its work", fmt.Sprintf(pod, "{phase: Succeeded}"), "", ready, ""},
		{"a Pod that failed", fmt.Sprintf(pod, "{phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 3, reason: Error}}}]}"), "", failed, "Failed: container c ended with exit code 3 (Error)"},
		{"a Pod without a status", "{apiVersion: v1, kind: Pod, metadata: {name: x}}", "", waiting, "Pending"},

		{"a Job that began", fmt.Sprintf(job, ""), "", waiting, "1 active"},
		{"a Job that is complete", fmt.Sprintf(job, "{type: Complete, status: 'True'}"), "", ready, ""},
		{"a Job that failed", fmt.Sprintf(job, "{type: Failed, status: 'True', reason: BackoffLimitExceeded}"), "", failed, "BackoffLimitExceeded"},
		{"a Job that is about to fail", fmt.Sprintf(job, "{type: FailureTarget, status: 'True', reason: DeadlineExceeded}"), "", failed, "DeadlineExceeded"},

		{"a Service", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: ClusterIP}}", "", ready, ""},
		{"a load balancer without an address", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: LoadBalancer}, status: {loadBalancer: {}}}", "", waiting, "no address"},
		{"a load balancer", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}}", "", ready, ""},
		{"a lost volume", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: x}, status: {phase: Lost}}", "", failed, "Lost"},
		{"a volume that is bound when a pod needs it", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: x}, status: {phase: Pending}}", "", ready, ""},
		{"a ConfigMap", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}", "", ready, ""},

		{"a route that nobody has seen", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}}", "", waiting, "no gateway"},
		{"a route", fmt.Sprintf(route, "{type: Accepted, status: 'True'}"), "", ready, ""},
		{"a route that is refused", fmt.Sprintf(route, "{type: Accepted, status: 'False', reason: NotAllowedByListeners}"), "", failed, "NotAllowedByListeners"},

		{"a Workflow that no controller takes", "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: x}}", "", waiting, "no workflow-controller"},
		{"a Workflow that runs", fmt.Sprintf(argo, "{phase: Running, message: one of two}"), "", waiting, "Running: one of two"},
		{"a Workflow that succeeded", fmt.Sprintf(argo, "{phase: Succeeded}"), "", ready, ""},
		{"a Workflow that failed", fmt.Sprintf(argo, "{phase: Failed, message: child failed}"), "", failed, "Failed: child failed"},
		{"a Workflow whose step failed", fmt.Sprintf(argo, "{phase: Failed, message: child w-1 failed, nodes: {"+
			"w: {type: Steps, phase: Failed, displayName: w, message: child w-1 failed, finishedAt: '2026-01-02T03:04:09Z'}, "+
			"w-1: {type: StepGroup, phase: Failed, displayName: '[0]', message: child w-1-a failed, finishedAt: '2026-01-02T03:04:01Z'}, "+
			"w-1-a: {type: Pod, phase: Failed, displayName: deploy, message: Error (exit code 3), finishedAt: '2026-01-02T03:04:06Z'}, "+
			"w-1-b: {type: Pod, phase: Error, displayName: later, message: stopped, finishedAt: '2026-01-02T03:04:07Z'}, "+
			"w-1-c: {type: Pod, phase: Succeeded, displayName: fine, message: fine, finishedAt: '2026-01-02T03:04:05Z'}}}"), "", failed, "Failed: step deploy: Error (exit code 3)"},
		{"a Workflow whose steps say nothing", fmt.Sprintf(argo, "{phase: Error, message: no such template, nodes: {a: {type: Pod, phase: Error}}}"), "", failed, "Error: no such template"},

		{"a kind without conditions", fmt.Sprintf(widget, "{}"), "", ready, ""},
		{"a kind that is ready", fmt.Sprintf(widget, "{observedGeneration: 3, conditions: [{type: Ready, status: 'True'}]}"), "", ready, ""},
		{"a kind that was ready", fmt.Sprintf(widget, "{observedGeneration: 2, conditions: [{type: Ready, status: 'True'}]}"), "", waiting, "not ready"},
		{"a kind that is not ready", fmt.Sprintf(widget, "{conditions: [{type: Ready, status: 'False', message: later}]}"), "", waiting, "not ready: later"},
		{"a kind that stalled", fmt.Sprintf(widget, "{conditions: [{type: Stalled, status: 'True', reason: Quota}]}"), "", failed, "Quota"},
		{"a condition that was asked for", fmt.Sprintf(widget, "{conditions: [{type: Synced, status: 'True'}]}"), "condition:Synced=True", ready, ""},
		{"a condition that is another", fmt.Sprintf(widget, "{conditions: [{type: Synced, status: 'False'}]}"), "condition:Synced=True", waiting, "Synced is False, not True"},
		{"a condition that nobody tells", fmt.Sprintf(widget, "{}"), "condition:Synced=True", waiting, "Synced is not told, not True"},
		{"a condition of what failed", fmt.Sprintf(job, "{type: Failed, status: 'True'}"), "condition:Complete=True", failed, ""},

		{"what is being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, deletionTimestamp: '2026-01-02T03:04:05Z'}}", "", waiting, "being deleted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readiness(object(t, tt.text), tt.wait)
			assert.Equal(t, tt.want, got.verdict, got.text)
			assert.Contains(t, got.text, tt.says)
		})
	}
	assert.Equal(t, progress{waiting, "missing"}, readiness(nil, ""))
}

func TestThePodsReasonIsTold(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 10, 0, 0, time.UTC)
	const pod = `{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {conditions: [{type: PodScheduled, status: 'True', lastTransitionTime: %s}], %s: [%s]}}`
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }
	for _, tt := range []struct {
		name, text, says string
		fatal            bool
	}{
		{"nothing unusual", fmt.Sprintf(pod, ago(0), "containerStatuses", "{name: c, state: {waiting: {reason: ContainerCreating}}}"), "", false},
		{"an image that may still come", fmt.Sprintf(pod, ago(time.Minute), "containerStatuses", "{name: c, state: {waiting: {reason: ImagePullBackOff, message: not found}}}"), "pod p: ImagePullBackOff: not found", false},
		{"an image that does not come", fmt.Sprintf(pod, ago(3*time.Minute), "containerStatuses", "{name: c, state: {waiting: {reason: ErrImagePull, message: not found}}}"), "pod p: ErrImagePull: not found", true},
		{"a missing ConfigMap, at first", fmt.Sprintf(pod, ago(10*time.Second), "containerStatuses", "{name: c, state: {waiting: {reason: CreateContainerConfigError, message: no map}}}"), "no map", false},
		{"a missing ConfigMap", fmt.Sprintf(pod, ago(31*time.Second), "initContainerStatuses", "{name: c, state: {waiting: {reason: CreateContainerConfigError, message: no map}}}"), "no map", true},
		{"a crash", fmt.Sprintf(pod, ago(time.Minute), "containerStatuses", "{name: c, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: Error}}}"), "pod p: CrashLoopBackOff: container c ended with exit code 1 (Error)", false},
		{"crashes", fmt.Sprintf(pod, ago(time.Minute), "containerStatuses", "{name: c, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}}"), "CrashLoopBackOff", true},
		{"no room, for however long", "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: 0/3 nodes}]}}", "pod p: Unschedulable: 0/3 nodes", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, fatal := trouble(object(t, tt.text), now)
			assert.Equal(t, tt.fatal, fatal)
			assert.Contains(t, why, tt.says)
			if tt.says == "" {
				assert.Empty(t, why)
			}
		})
	}
}

// seen is a view of objects that were listed.
func seen(t *testing.T, texts ...string) view {
	v := view{known: map[schema.GroupVersionResource]map[string]*unstructured.Unstructured{}}
	for _, text := range texts {
		u := object(t, text)
		gvr, known := Resource(u.GetAPIVersion(), u.GetKind())
		if !known {
			gvr = slicesGVR
		}
		if v.known[gvr] == nil {
			v.known[gvr] = map[string]*unstructured.Unstructured{}
		}
		v.known[gvr][u.GetName()] = u
	}
	return v
}

func TestAPhaseIsReadyWhenAllOfItIs(t *testing.T) {
	of := func(kind, name, wait string) item {
		version := map[string]string{"Deployment": "apps/v1"}[kind]
		if version == "" {
			version = "v1"
		}
		gvr, _ := Resource(version, kind)
		return item{Phase: "a", Wait: wait, Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Kind: kind, Name: name}
	}
	now := time.Date(2026, 1, 2, 3, 10, 0, 0, time.UTC)
	const deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, uid: u1}, spec: {replicas: 1, selector: {matchLabels: {app: d}}}, status: {observedGeneration: 0}}"
	const pod = "{apiVersion: v1, kind: Pod, metadata: {name: d-1, labels: {app: %s}, creationTimestamp: '2026-01-02T03:00:00Z'}, status: {containerStatuses: [{name: c, state: {waiting: {reason: %s, message: gone}}}]}}"
	const service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ClusterIP}}"
	const slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, labels: {kubernetes.io/service-name: %s}}, endpoints: [{conditions: {ready: %t}}]}"
	for _, tt := range []struct {
		name  string
		v     view
		items []item
		want  progress
	}{
		{"what is not there", seen(t), []item{of("Deployment", "d", "")}, progress{waiting, "deployment d: missing"}},
		{"what has to exist only", seen(t), []item{of("ConfigMap", "m", ""), of("Deployment", "d", bundle.WaitNone)}, progress{ready, ""}},
		{"its pod cannot become ready", seen(t, deployment, fmt.Sprintf(pod, "d", "ErrImagePull")), []item{of("Deployment", "d", "")},
			progress{failed, "deployment d: 0 of 1 available: pod d-1: ErrImagePull: gone"}},
		{"another's pod cannot", seen(t, deployment, fmt.Sprintf(pod, "e", "ErrImagePull")), []item{of("Deployment", "d", "")},
			progress{waiting, "deployment d: 0 of 1 available"}},
		{"a Service whose endpoints are not asked for", seen(t, service), []item{of("Service", "s", "")}, progress{ready, ""}},
		{"a Service without endpoints", seen(t, service), []item{of("Service", "s", bundle.WaitEndpoints)}, progress{waiting, "service s: no endpoint is ready"}},
		{"another Service's endpoints", seen(t, service, fmt.Sprintf(slice, "x", true)), []item{of("Service", "s", bundle.WaitEndpoints)}, progress{waiting, "service s: no endpoint is ready"}},
		{"an endpoint that is not ready", seen(t, service, fmt.Sprintf(slice, "s", false)), []item{of("Service", "s", bundle.WaitEndpoints)}, progress{waiting, "service s: no endpoint is ready"}},
		{"a ready endpoint", seen(t, service, fmt.Sprintf(slice, "s", true)), []item{of("Service", "s", bundle.WaitEndpoints)}, progress{ready, ""}},
		{"two that are waited for", seen(t, deployment), []item{of("Deployment", "d", ""), of("Service", "s", "")},
			progress{waiting, "deployment d: 0 of 1 available; service s: missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, tt.v.judge(tt.items, now)) })
	}
}

func TestALeaseIsReadAsItWasWritten(t *testing.T) {
	items := []item{{Phase: "a", Version: "v1", Resource: "configmaps", Kind: "ConfigMap", Name: "m"},
		{Phase: "b", Wait: bundle.WaitNone, Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment", Name: "d"}}
	set := Set{Bundle: "exporter", Instance: "e2", Namespace: "jobs", DeleteTimeout: 20 * time.Second,
		Last: []bundle.Phase{{Name: "z", Objects: []*unstructured.Unstructured{object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: last}}")}}}}
	u, err := wanted(theJob, set, items, "d1")
	require.NoError(t, err)
	l, err := read(u)
	require.NoError(t, err)
	assert.Equal(t, items, l.Items)
	assert.Equal(t, set, l.Set)
	assert.Equal(t, StateClaimed, l.State)
	assert.Len(t, l.phases(), 2)
	assert.Equal(t, "slurm-alps-12.e2", u.GetName())
	assert.Equal(t, "bundle exporter (as e2)", l.Set.String())

	notes := u.GetAnnotations()
	notes[annotationInventory] = "{"
	u.SetAnnotations(notes)
	_, err = read(u)
	require.ErrorContains(t, err, "slurmk8s.io/inventory is damaged")
}

func TestTheDigestTellsSetsApart(t *testing.T) {
	set := func(value, wait string) Set {
		return Set{Phases: []bundle.Phase{{Name: "a", Wait: wait, Objects: []*unstructured.Unstructured{
			object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {k: "+value+"}}")}}}}
	}
	digest := func(s Set) string {
		d, err := digestOf(s)
		require.NoError(t, err)
		return d
	}
	assert.Equal(t, digest(set("x", "")), digest(set("x", "")))
	assert.NotEqual(t, digest(set("x", "")), digest(set("y", "")))
	assert.NotEqual(t, digest(set("x", "")), digest(set("x", bundle.WaitNone)))
}

func TestAnotherRunOfTheJobIsTold(t *testing.T) {
	d := &Driver{Job: theJob}
	u := &unstructured.Unstructured{}
	u.SetAnnotations(map[string]string{"slurmk8s.io/uid": "1000", "slurmk8s.io/restart-count": "0", "slurmk8s.io/submit-time": "1700000000"})
	assert.True(t, d.thisRun(u))
	for key, value := range map[string]string{"slurmk8s.io/uid": "1001", "slurmk8s.io/restart-count": "1", "slurmk8s.io/submit-time": "1700000001"} {
		other := u.DeepCopy()
		notes := other.GetAnnotations()
		notes[key] = value
		other.SetAnnotations(notes)
		assert.False(t, d.thisRun(other), key)
	}
	u.SetCreationTimestamp(metav1.Now())
	u.SetAnnotations(nil) // Slurm 22.05 tells nothing
	assert.True(t, d.thisRun(u))
}
