package dwssim

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// patchObject is a merge patch of one of NNF's objects, by the workload manager or the administrator.
func (u user) patchObject(ctx context.Context, k kind, name string, patch any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = u.Resource(k.resource(u.version)).Namespace("default").Patch(ctx, name, types.MergePatchType, text, metav1.PatchOptions{})
	return err
}

// place fills a Servers, as a workload manager does.
func (u user) place(t *testing.T, servers string, sets ...ServersSet) {
	t.Helper()
	require.NoError(t, u.patchObject(t.Context(), kindServers, servers, map[string]any{"spec": ServersSpec{AllocationSets: sets}}))
}

// use fills the Computes.
func (u user) use(t *testing.T, name string, nodes ...string) {
	t.Helper()
	data := []map[string]string{}
	for _, node := range nodes {
		data = append(data, map[string]string{"name": node})
	}
	text, err := json.Marshal(map[string]any{"data": data})
	require.NoError(t, err)
	_, err = u.Resource(ComputesResource(u.version)).Namespace("default").Patch(t.Context(), name, types.MergePatchType, text, metav1.PatchOptions{})
	require.NoError(t, err)
}

// says waits for a message of a Workflow.
func (u user) says(t *testing.T, name, message string) *Workflow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := WaitFor(ctx, u, "default", name, "to say "+message, func(w *Workflow) bool { return w.Status.Message == message })
	require.NoError(t, err)
	return w
}

func (u user) destroy(t *testing.T, name string) {
	t.Helper()
	u.pass(t, name, Teardown)
	require.NoError(t, u.workflows().Delete(t.Context(), name, metav1.DeleteOptions{}))
	u.untilGone(t, name)
}

func xfs(size int64, storage ...ServersStorage) ServersSet {
	return ServersSet{AllocationSize: size, Label: "xfs", Storage: storage}
}

// TestNNFOnAnAPIServer is what the tests in memory cannot show: definitions, rights, watches,
// finalizers and restarts.
func TestNNFOnAnAPIServer(t *testing.T) {
	server := apiserver.ForTest(t, apiserver.Options{})
	client, err := dynamic.NewForConfig(server.Config())
	require.NoError(t, err)
	// No more rights than deploy.yaml gives it in a cluster.
	deploy(t, client)
	pod, err := server.UserConfig("system:serviceaccount:dws-system:dwssim", "system:serviceaccounts")
	require.NoError(t, err)
	options := Options{Log: t.Output(), NNF: &NNF{Rabbits: recordedRabbits, External: []string{"x01"}}}
	sim, err := Start(t.Context(), pod, options)
	require.NoError(t, err)
	t.Cleanup(func() { sim.Stop() })
	wlm := user{client, "v1alpha6"}
	const total = drivesOfRabbit * (2 << 40)
	storage := func(rabbit string) *Storage {
		t.Helper()
		found, err := read[Storage](t.Context(), sim.nnf.api, kindStorage, SystemNamespace, rabbit)
		require.NoError(t, err)
		return found
	}
	eventually.True(t, "the rabbits are Ready", func() bool {
		return storage("r1").Status.Status == "Ready" && storage("r3").Status.Status == "Ready"
	})
	const job = "#DW jobdw type=xfs capacity=50GB name=scratch"

	t.Run("a job's storage lives", func(t *testing.T) {
		wlm.mustCreate(t, "life", job)
		w := wlm.pass(t, "life", Proposal)
		assert.Equal(t, []ObjectReference{{Kind: "DirectiveBreakdown", Namespace: "default", Name: "life-0"}}, w.Status.DirectiveBreakdowns)
		wlm.place(t, "life-0", xfs(50314572800, ServersStorage{2, "r1"}, ServersStorage{1, "r2"}))
		wlm.pass(t, "life", Setup)
		assert.EqualValues(t, total-100629151744, sim.Free("r1"))
		assert.EqualValues(t, total, storage("r1").Status.Capacity, "allocations do not change it")
		wlm.pass(t, "life", DataIn)
		wlm.use(t, "life", "c01", "c02", "c05")
		w = wlm.pass(t, "life", PreRun)
		assert.Equal(t, mountPath(w, 0), w.Status.Env["DW_JOB_scratch"])
		versions := func() map[string]string {
			found := map[string]string{}
			for _, k := range nnfKinds {
				all, err := client.Resource(k.resource("v1alpha7")).List(t.Context(), metav1.ListOptions{})
				require.NoError(t, err)
				for _, object := range all.Items {
					found[k.name+" "+key(&object)] = object.GetResourceVersion()
				}
			}
			return found
		}
		before := versions()
		time.Sleep(300 * time.Millisecond) // nothing may happen; there is nothing to wait for
		assert.Equal(t, before, versions(), "what is as it should be is not written again")
		wlm.pass(t, "life", PostRun)
		wlm.pass(t, "life", DataOut)
		wlm.destroy(t, "life")
		assert.EqualValues(t, total, sim.Free("r1"))
		for _, k := range []kind{kindServers, kindBreakdown, kindClientMount} {
			left, err := client.Resource(k.resource("v1alpha7")).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)
			assert.Empty(t, left.Items, k.name)
		}
	})

	t.Run("the definition judges what is written into Servers", func(t *testing.T) {
		wlm.mustCreate(t, "judged", job)
		wlm.pass(t, "judged", Proposal)
		defer wlm.destroy(t, "judged")
		recordings := recorded[map[string]any](t, "setup.json")["CRD validation of the patch"]
		patches := map[string]any{
			"count zero":       map[string]any{"label": "xfs", "allocationSize": 1, "storage": []any{map[string]any{"name": "r1", "allocationCount": 0}}},
			"size zero":        map[string]any{"label": "xfs", "allocationSize": 0, "storage": []any{map[string]any{"name": "r1", "allocationCount": 1}}},
			"no name":          map[string]any{"label": "xfs", "allocationSize": 1, "storage": []any{map[string]any{"allocationCount": 1}}},
			"label of nothing": map[string]any{"label": "nothing", "allocationSize": 1, "storage": []any{map[string]any{"name": "r1", "allocationCount": 1}}},
			"size as string":   map[string]any{"label": "xfs", "allocationSize": "1", "storage": []any{map[string]any{"name": "r1", "allocationCount": 1}}},
		}
		require.Len(t, patches, len(recordings))
		for name, set := range patches {
			err := wlm.patchObject(t.Context(), kindServers, "judged-0", map[string]any{"spec": map[string]any{"allocationSets": []any{set}}})
			if recordings[name] == "accepted" {
				assert.NoError(t, err, name)
				continue
			}
			require.True(t, apierrors.IsInvalid(err), "%s: %v", name, err)
			message := recordings[name].(map[string]any)["message"].(string)
			assert.Equal(t, message[len(`Servers.dataworkflowservices.github.io "NAME-0"`):], err.Error()[len(`Servers.dataworkflowservices.github.io "judged-0"`):], name)
		}
	})

	t.Run("a Setup that failed is ready once Servers is right", func(t *testing.T) {
		wlm.mustCreate(t, "healed", job)
		wlm.pass(t, "healed", Proposal)
		require.NoError(t, sim.SetFull(t.Context(), "r1", true))
		eventually.True(t, "r1 is full", func() bool { return sim.nnf.ledger.isFull("r1") })
		wlm.place(t, "healed-0", xfs(50314572800, ServersStorage{1, "r1"}))
		require.NoError(t, wlm.desire(t.Context(), "healed", Setup))
		wlm.says(t, "healed", "DW Directive 0: WLM error: r1: insufficient capacity available")
		wlm.place(t, "healed-0", xfs(50314572800, ServersStorage{1, "r2"}))
		wlm.pass(t, "healed", Setup)
		require.NoError(t, sim.SetFull(t.Context(), "r1", false))
		wlm.destroy(t, "healed")
		assert.EqualValues(t, total, sim.Free("r2"))
	})

	t.Run("a node that hangs is waited for until it is disabled", func(t *testing.T) {
		wlm.mustCreate(t, "hung", job)
		wlm.pass(t, "hung", Proposal)
		wlm.place(t, "hung-0", xfs(50314572800, ServersStorage{2, "r1"}))
		wlm.pass(t, "hung", Setup)
		wlm.pass(t, "hung", DataIn)
		wlm.use(t, "hung", "c02", "c03")
		wlm.pass(t, "hung", PreRun)
		require.NoError(t, sim.SetHung(t.Context(), "c03"))
		require.NoError(t, wlm.desire(t.Context(), "hung", PostRun))
		wlm.says(t, "hung", "DW Directive 0: pending unmount")
		require.NoError(t, wlm.desire(t.Context(), "hung", Teardown))
		wlm.says(t, "hung", "DW Directive 0: delete")
		status := &SystemStatus{Data: SystemStatusData{Nodes: map[string]string{"c03": "Disabled"}}}
		status.Name, status.Namespace = "default", "default"
		require.NoError(t, api{client, "v1alpha7"}.write(t.Context(), change{create, kindSystemStatus, status}))
		wlm.destroy(t, "hung")
		require.NoError(t, sim.SetHung(t.Context()))
		require.NoError(t, wlm.patchObject(t.Context(), kindSystemStatus, "default", map[string]any{"data": map[string]any{"nodes": nil}}))
		assert.EqualValues(t, total, sim.Free("r1"))
	})

	t.Run("an administrator disables a rabbit, a test drains it", func(t *testing.T) {
		is := func(status, message string) func() bool {
			return func() bool {
				got := storage("r3").Status
				return got.Status == status && got.Message == message
			}
		}
		require.NoError(t, wlm.patchObject(t.Context(), kindStorage, "r3", map[string]any{"spec": map[string]any{"state": "Disabled"}}))
		eventually.True(t, "r3 is Disabled", is("Disabled", "Storage node manually disabled"))
		require.NoError(t, wlm.patchObject(t.Context(), kindStorage, "r3", map[string]any{"spec": map[string]any{"state": "Enabled"}}))
		eventually.True(t, "r3 is Ready", is("Ready", ""))
		require.NoError(t, sim.SetStorageStatus(t.Context(), "r3", "Drained"))
		eventually.True(t, "r3 is Drained", is("Drained", "Kubernetes node is tainted with cray.nnf.node.drain"))
		require.NoError(t, sim.SetStorageStatus(t.Context(), "r3", ""))
		eventually.True(t, "r3 is Ready, with its old message", is("Ready", "Kubernetes node is tainted with cray.nnf.node.drain"))
		require.NoError(t, sim.SetLinks(t.Context(), "r3", map[string]string{"c09": "Offline"}))
		eventually.True(t, "c09 is Offline", func() bool { return storage("r3").Status.Access.Computes[0].Status == "Offline" })
		require.NoError(t, sim.SetLinks(t.Context(), "r3", nil))
	})

	t.Run("what is allocated stays so over a restart", func(t *testing.T) {
		wlm.mustCreate(t, "restart", job)
		wlm.pass(t, "restart", Proposal)
		wlm.place(t, "restart-0", xfs(50314572800, ServersStorage{2, "r1"}))
		wlm.pass(t, "restart", Setup)
		sim.Stop()
		sim, err = Start(t.Context(), pod, options)
		require.NoError(t, err)
		assert.EqualValues(t, total-100629151744, sim.Free("r1"))
		wlm.pass(t, "restart", DataIn)
		wlm.use(t, "restart", "c01", "c02")
		wlm.pass(t, "restart", PreRun)
		wlm.destroy(t, "restart")
		assert.EqualValues(t, total, sim.Free("r1"))
	})

	t.Run("a rabbit is added to the configuration", func(t *testing.T) {
		system, err := read[SystemConfiguration](t.Context(), sim.nnf.api, kindSystem, SystemNamespace, "default")
		require.NoError(t, err)
		nodes := append(system.Spec.StorageNodes, SystemStorageNode{Type: "Rabbit", Name: "r4", ComputesAccess: []ComputeAccess{{0, "c13"}}})
		require.NoError(t, wlm.patchObject(t.Context(), kindSystem, "default", map[string]any{"spec": map[string]any{"storageNodes": nodes}}))
		eventually.True(t, "r4 is Ready", func() bool {
			found, err := read[Storage](t.Context(), sim.nnf.api, kindStorage, SystemNamespace, "r4")
			return err == nil && found != nil && found.Status.Status == "Ready"
		})
		wlm.mustCreate(t, "added", job)
		wlm.pass(t, "added", Proposal)
		wlm.place(t, "added-0", xfs(50314572800, ServersStorage{1, "r4"}))
		wlm.pass(t, "added", Setup)
		wlm.pass(t, "added", DataIn)
		wlm.use(t, "added", "c13")
		wlm.pass(t, "added", PreRun)
		wlm.destroy(t, "added")
	})

	t.Run("many at once get no more than there is", func(t *testing.T) {
		const jobs, fit = 6, 3 // of 10 TiB, on 32 TiB
		for i := range jobs {
			wlm.mustCreate(t, fmt.Sprintf("many-%d", i), "#DW jobdw type=xfs capacity=10TiB name=big profile=nopad")
		}
		for i := range jobs {
			name := fmt.Sprintf("many-%d", i)
			wlm.pass(t, name, Proposal)
			wlm.place(t, name+"-0", xfs(10<<40, ServersStorage{1, "r1"}))
			require.NoError(t, wlm.desire(t.Context(), name, Setup))
		}
		ready, full := 0, 0
		for i := range jobs {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			w, err := WaitFor(ctx, wlm, "default", fmt.Sprintf("many-%d", i), "to be decided", func(w *Workflow) bool {
				return Ready(Setup)(w) || w.Status.Status == Error
			})
			cancel()
			require.NoError(t, err)
			if w.Status.Ready {
				ready++
			} else {
				full++
				assert.Equal(t, "DW Directive 0: WLM error: r1: insufficient capacity available", w.Status.Message)
			}
		}
		assert.Equal(t, []int{fit, jobs - fit}, []int{ready, full})
		for i := range jobs {
			wlm.destroy(t, fmt.Sprintf("many-%d", i))
		}
		assert.EqualValues(t, total, sim.Free("r1"))
	})
}
