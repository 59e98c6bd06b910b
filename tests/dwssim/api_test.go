package dwssim

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// user is the workload manager of these tests.
type user struct {
	dynamic.Interface
	version string
}

func (u user) workflows() dynamic.ResourceInterface {
	return u.Resource(WorkflowsResource(u.version)).Namespace("default")
}

func (u user) create(ctx context.Context, name string, dryRun bool, directives ...string) (*Workflow, error) {
	w := probe(u.version, "")
	w.Name, w.Spec.DWDirectives = name, append([]string{}, directives...)
	object, err := w.Unstructured()
	if err != nil {
		return nil, err
	}
	options := metav1.CreateOptions{}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	created, err := u.workflows().Create(ctx, object, options)
	if err != nil {
		return nil, err
	}
	return FromUnstructured(created)
}

func (u user) desire(ctx context.Context, name, state string) error {
	patch := fmt.Sprintf(`{"spec":{"desiredState":%q}}`, state)
	_, err := u.workflows().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// pass takes a Workflow to a state and waits until it is ready there.
func (u user) pass(t *testing.T, name, state string) *Workflow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if state != Proposal {
		require.NoError(t, u.desire(ctx, name, state))
	}
	w, err := WaitFor(ctx, u, "default", name, "to be ready in "+state, Ready(state))
	require.NoError(t, err)
	return w
}

func (u user) mustCreate(t *testing.T, name string, directives ...string) {
	t.Helper()
	_, err := u.create(t.Context(), name, false, directives...)
	require.NoError(t, err)
}

// TestAPITier is one test with one API server: the faults come last.
func TestAPITier(t *testing.T) {
	server := apiserver.ForTest(t, apiserver.Options{})
	sim, err := Start(t.Context(), server.Config(), Options{Log: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() { sim.Stop() })
	client, err := dynamic.NewForConfig(server.Config())
	require.NoError(t, err)
	wlm := user{client, "v1alpha6"}

	t.Run("a Workflow passes all states and is deleted with its Computes", func(t *testing.T) {
		wlm.mustCreate(t, "all", "#DW jobdw type=xfs capacity=1GB name=my-a", "#DW Setup action=complete env=A:b delay=10ms")
		for _, state := range States {
			w := wlm.pass(t, "all", state)
			assert.NotNil(t, w.Status.ReadyChange)
			if state == PreRun {
				assert.Equal(t, map[string]string{
					"A":                     "b",
					"DW_JOB_my_a":           fmt.Sprintf("/mnt/nnf/%s-0", w.UID),
					"DW_WORKFLOW_NAME":      "all",
					"DW_WORKFLOW_NAMESPACE": "default",
				}, w.Status.Env)
			}
		}
		computes := wlm.Resource(ComputesResource("v1alpha7")).Namespace("default")
		object, err := computes.Get(t.Context(), "all", metav1.GetOptions{})
		require.NoError(t, err)
		require.Len(t, object.GetOwnerReferences(), 1)
		uid := string(object.GetOwnerReferences()[0].UID)
		assert.Equal(t, map[string]string{
			Group + "/owner.kind": "Workflow", Group + "/owner.name": "all", Group + "/owner.namespace": "default", Group + "/owner.uid": uid,
			Group + "/workflow.name": "all", Group + "/workflow.namespace": "default", Group + "/workflow.uid": uid,
		}, object.GetLabels())
		assert.NotContains(t, object.Object, "data", "until there are some")
		require.NoError(t, wlm.workflows().Delete(t.Context(), "all", metav1.DeleteOptions{}))
		wlm.untilGone(t, "all")
		_, err = computes.Get(t.Context(), "all", metav1.GetOptions{})
		assert.True(t, apierrors.IsNotFound(err), "%v", err)
	})

	t.Run("both versions show the same Workflow", func(t *testing.T) {
		wlm.mustCreate(t, "versions")
		for _, version := range DefaultVersions {
			object, err := user{client, version}.workflows().Get(t.Context(), "versions", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, Group+"/"+version, object.GetAPIVersion())
		}
	})

	t.Run("a test can act as the driver", func(t *testing.T) {
		wlm.mustCreate(t, "driver", "#DW Proposal action=wait")
		require.NoError(t, Fail(t.Context(), client, "default", "driver", Proposal, Error, "disk on fire"))
		w, err := WaitFor(t.Context(), client, "default", "driver", "to fail", func(w *Workflow) bool { return w.Status.Status == Error })
		require.NoError(t, err)
		assert.Equal(t, "DW Directive 0: Reported error: disk on fire", w.Status.Message)
		require.NoError(t, Complete(t.Context(), client, "default", "driver", Proposal))
		wlm.pass(t, "driver", Proposal)
	})

	t.Run("refusals are 403 from the webhook, in the words of DWS", func(t *testing.T) {
		_, err := wlm.create(t.Context(), "refused", false, "#DW jobdw type=xfs")
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.EqualError(t, err, `admission webhook "vworkflow.kb.io" denied the request: missing required argument '^capacity$'`)
		err = wlm.desire(t.Context(), "versions", PreRun)
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.ErrorContains(t, err, "states cannot be skipped")
		sim.SetRuleset(false)
		defer sim.SetRuleset(true)
		_, err = wlm.create(t.Context(), "refused", false, "#DW Setup action=wait")
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		assert.ErrorContains(t, err, "unable to find ruleset in namespace: dws-system")
	})

	t.Run("a Workflow lacks a field", func(t *testing.T) {
		const missing, typed = `spec.desiredState: Unsupported value: ""`, `spec.dwDirectives: Invalid value: "null"`
		for field, refusal := range map[string]string{
			"wlmID": "", "jobID": "", "userID": "", "groupID": "", "desiredState": missing, "dwDirectives": typed,
		} {
			object, err := probe(wlm.version, "#DW Setup action=wait").Unstructured()
			require.NoError(t, err)
			unstructured.RemoveNestedField(object.Object, "spec", field)
			_, err = wlm.workflows().Create(t.Context(), object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if refusal == "" {
				require.NoError(t, err, field)
				continue
			}
			require.True(t, apierrors.IsInvalid(err), "%s: %v", field, err)
			assert.ErrorContains(t, err, refusal)
		}
	})

	t.Run("a Workflow that cannot be decoded is 400", func(t *testing.T) {
		object, err := probe(wlm.version, "#DW Setup action=wait").Unstructured()
		require.NoError(t, err)
		require.NoError(t, unstructured.SetNestedField(object.Object, int64(-1), "spec", "userID"))
		_, err = wlm.workflows().Create(t.Context(), object, metav1.CreateOptions{})
		status := apierrors.APIStatus(nil)
		require.ErrorAs(t, err, &status)
		assert.EqualValues(t, 400, status.Status().Code)
		assert.Empty(t, status.Status().Reason)
		assert.ErrorContains(t, err, "json: cannot unmarshal number -1 into Go struct field")
	})

	t.Run("a wrong state is 422 by the schema", func(t *testing.T) {
		err := wlm.desire(t.Context(), "versions", "Lunch")
		assert.True(t, apierrors.IsInvalid(err), "%v", err)
	})

	t.Run("a blank directive and a dead webhook are 500", func(t *testing.T) {
		_, err := wlm.create(t.Context(), "blank", false, "#DW ")
		require.True(t, apierrors.IsInternalError(err), "%v", err)
		assert.ErrorContains(t, err, `failed calling webhook "mworkflow.kb.io"`)
		assert.ErrorContains(t, err, "/mutate-dataworkflowservices-github-io-v1alpha7-workflow?timeout=10s")
		sim.SetWebhookDown(true)
		defer sim.SetWebhookDown(false)
		_, err = wlm.create(t.Context(), "down", false)
		assert.True(t, apierrors.IsInternalError(err), "%v", err)
	})

	t.Run("a dry run is judged and leaves nothing", func(t *testing.T) {
		w, err := wlm.create(t.Context(), "dry", true, "#DW Setup action=wait")
		require.NoError(t, err)
		assert.Len(t, w.Status.Drivers, 1)
		_, err = wlm.workflows().Get(t.Context(), "dry", metav1.GetOptions{})
		assert.True(t, apierrors.IsNotFound(err))
		_, err = wlm.create(t.Context(), "dry", true, "#DW lunch")
		assert.True(t, apierrors.IsForbidden(err))
	})

	t.Run("deletion waits for the finalizers of others", func(t *testing.T) {
		wlm.mustCreate(t, "held")
		wlm.pass(t, "held", Proposal)
		wlm.patch(t, "held", `{"metadata":{"finalizers":["`+Finalizer+`","example.com/other"]}}`)
		require.NoError(t, wlm.workflows().Delete(t.Context(), "held", metav1.DeleteOptions{}))
		time.Sleep(200 * time.Millisecond) // nothing may happen; there is nothing to wait for
		object, err := wlm.workflows().Get(t.Context(), "held", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Contains(t, object.GetFinalizers(), Finalizer)
		wlm.patch(t, "held", `{"metadata":{"finalizers":["`+Finalizer+`"]}}`)
		wlm.untilGone(t, "held")
	})

	t.Run("a restart of the API server is survived", func(t *testing.T) {
		wlm.mustCreate(t, "outage", "#DW Proposal action=complete delay=500ms")
		server.StopAPIServer()
		require.NoError(t, server.StartAPIServer(t.Context()))
		wlm.pass(t, "outage", Proposal)
		wlm.pass(t, "outage", Setup)
	})

	t.Run("a pause of the API server is survived", func(t *testing.T) {
		wlm.mustCreate(t, "pause", "#DW Proposal action=complete delay=200ms")
		require.NoError(t, server.PauseAPIServer())
		time.Sleep(3 * time.Second) // longer than the driver needs
		require.NoError(t, server.ResumeAPIServer())
		wlm.pass(t, "pause", Proposal)
		wlm.pass(t, "pause", Setup)
	})

	t.Run("another DWS takes over with another version", func(t *testing.T) {
		wlm.mustCreate(t, "upgrade", "#DW Setup action=complete")
		wlm.pass(t, "upgrade", Proposal)
		sim.Stop()
		// This one has no more rights than deploy.yaml gives it in a cluster.
		deploy(t, client)
		pod, err := server.UserConfig("system:serviceaccount:dws-system:dwssim", "system:serviceaccounts")
		require.NoError(t, err)
		sim, err = Start(t.Context(), pod, Options{Versions: []string{"v1alpha8"}, Log: t.Output()})
		require.NoError(t, err)
		err = wlm.desire(t.Context(), "upgrade", Setup)
		require.True(t, apierrors.IsNotFound(err), "v1alpha6 is still served: %v", err)
		after := user{client, "v1alpha8"}
		after.pass(t, "upgrade", Setup)
		after.mustCreate(t, "new", "#DW Proposal action=complete")
		after.pass(t, "new", Proposal)
		require.NoError(t, after.workflows().Delete(t.Context(), "new", metav1.DeleteOptions{}))
		after.untilGone(t, "new")
	})
}

// deploy applies the roles of the manifest; there is nobody here to run its pod.
func deploy(t *testing.T, client dynamic.Interface) {
	t.Helper()
	manifest, err := os.ReadFile("deploy.yaml")
	require.NoError(t, err)
	rbac := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	resources := map[string]schema.GroupVersionResource{
		"ClusterRole":        rbac.WithResource("clusterroles"),
		"ClusterRoleBinding": rbac.WithResource("clusterrolebindings"),
	}
	applied := 0
	for _, document := range strings.Split(string(manifest), "\n---\n") {
		object, err := parseYAML([]byte(document))
		require.NoError(t, err)
		if resource, found := resources[object.GetKind()]; found {
			require.NoError(t, apply(t.Context(), client, resource, object))
			applied++
		}
	}
	require.Equal(t, len(resources), applied)
}

func (u user) patch(t *testing.T, name, patch string) {
	t.Helper()
	_, err := u.workflows().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

func (u user) untilGone(t *testing.T, name string) {
	t.Helper()
	eventually.True(t, "the Workflow is gone", func() bool {
		_, err := u.workflows().Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// BenchmarkTransition shows what this DWS adds to a measurement: from the patch of the desired
// state to the event that says ready, beside one write of the same Workflow.
func BenchmarkTransition(b *testing.B) {
	server := apiserver.ForTest(b, apiserver.Options{})
	sim, err := Start(b.Context(), server.Config(), Options{})
	require.NoError(b, err)
	defer sim.Stop()
	client, err := dynamic.NewForConfig(server.Config())
	require.NoError(b, err)
	wlm := user{client, sim.Version}
	for _, variant := range []struct{ name, arguments string }{{"driverless", ""}, {"all-complete", "action=complete"}} {
		b.Run(variant.name, func(b *testing.B) {
			var transitions, writes []time.Duration
			for i := range b.N {
				name := fmt.Sprintf("%s-%d-%d", variant.name, b.N, i)
				transitions = append(transitions, measureTransitions(b, wlm, name, variant.arguments)...)
				start := time.Now()
				_, err := wlm.workflows().Patch(b.Context(), name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
				require.NoError(b, err)
				writes = append(writes, time.Since(start))
			}
			b.ReportMetric(milliseconds(transitions), "ms-p50/transition")
			b.ReportMetric(milliseconds(writes), "ms-p50/write")
		})
	}
}

func measureTransitions(b *testing.B, wlm user, name, arguments string) []time.Duration {
	var directives []string
	if arguments != "" {
		for _, state := range States {
			directives = append(directives, "#DW "+state+" "+arguments)
		}
	}
	_, err := wlm.create(b.Context(), name, false, directives...)
	require.NoError(b, err)
	_, err = WaitFor(b.Context(), wlm, "default", name, "to be ready", Ready(Proposal))
	require.NoError(b, err)
	watcher, err := wlm.workflows().Watch(b.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	require.NoError(b, err)
	defer watcher.Stop()
	var times []time.Duration
	for _, state := range States[1:] {
		start := time.Now()
		require.NoError(b, wlm.desire(b.Context(), name, state))
		for event := range watcher.ResultChan() {
			object, ok := event.Object.(*unstructured.Unstructured)
			require.True(b, ok, "%v", event)
			w, err := FromUnstructured(object)
			require.NoError(b, err)
			if Ready(state)(w) {
				break
			}
		}
		times = append(times, time.Since(start))
	}
	return times
}

func milliseconds(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Microseconds()) / 1000
}
