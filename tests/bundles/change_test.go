package bundles

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// A requeued job changes what its earlier run left; another job of the same id begins anew.
func TestAnotherRunTakesOverWhatTheJobLeft(t *testing.T) {
	set := func(w *world, name string) stage.Set { return w.set("aok", phase("base", "", configMap(name))) }
	for name, change := range map[string]func(driver){
		"requeued":       func(d driver) { d.Job.Restarts = 1 },
		"an id again":    func(d driver) { d.Job.UID, d.Job.User, d.Job.SubmitTime = 1001, "bob", "1800000000" },
		"the same again": func(driver) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, second := w.driver(12), w.driver(12)
			change(second)
			require.NoError(t, first.Bring(t.Context(), set(w, "m"), eventually.Patience))
			before := w.get(configMaps, "m").GetUID()
			require.NoError(t, second.Bring(t.Context(), set(w, "m"), eventually.Patience))
			if name == "an id again" {
				assert.NotEqual(t, before, w.get(configMaps, "m").GetUID())
			} else {
				assert.Equal(t, before, w.get(configMaps, "m").GetUID())
			}
			assert.Equal(t, second.Job.Annotations()[job.AnnotationRestart], w.get(configMaps, "m").GetAnnotations()[job.AnnotationRestart], "the object is of this run")
			require.NoError(t, second.Bring(t.Context(), set(w, "other"), eventually.Patience))
			assert.Equal(t, []string{"leases/slurm-alps-12.aok", "configmaps/other"}, w.names(), "what the bundle has no more is removed")
			require.NoError(t, second.End(t.Context(), w.namespace))
			assert.Empty(t, w.names())
		})
	}
}

// changing are two contents of one bundle: other data, a field that cannot be changed, an object
// less and one more.
func (w *world) changing() (before, after stage.Set) {
	before = w.set("aok", phase("base", "", configMapWith("m", "{a: '1', b: '2'}"), configMap("less")),
		phase("server", "", deploymentOf("s", 0), deploymentOf("fixed", 0)))
	other := strings.ReplaceAll(deploymentOf("fixed", 0), "app: fixed", "app: other") // its selector
	after = w.set("aok", phase("base", "", configMapWith("m", "{b: '3'}"), configMap("more")),
		phase("server", "", strings.Replace(deploymentOf("s", 0), "image: x", "image: newer", 1), other))
	return before, after
}

func TestAChangedBundleOfARequeuedJobIsChangedInPlace(t *testing.T) {
	w := newWorld(t)
	before, after := w.changing()
	first, second := w.driver(12), w.driver(12)
	second.Job.Restarts = 1
	require.NoError(t, first.Bring(t.Context(), before, eventually.Patience))
	of := func(gvr schema.GroupVersionResource, name string) types.UID { return w.get(gvr, name).GetUID() }
	m, s, fixed := of(configMaps, "m"), of(deployments, "s"), of(deployments, "fixed")

	require.NoError(t, second.Claim(t.Context(), after))
	assert.Equal(t, []string{"leases/slurm-alps-12.aok", "configmaps/less", "configmaps/m", "deployments/fixed", "deployments/s"}, w.names(), "nothing is removed yet")
	require.NoError(t, second.Bring(t.Context(), after, eventually.Patience))
	assert.Equal(t, []string{"leases/slurm-alps-12.aok", "configmaps/m", "configmaps/more", "deployments/fixed", "deployments/s"}, w.names())
	assert.Equal(t, m, of(configMaps, "m"))
	assert.Equal(t, map[string]any{"b": "3"}, w.get(configMaps, "m").Object["data"])
	assert.Equal(t, s, of(deployments, "s"))
	containers, _, _ := unstructured.NestedSlice(w.get(deployments, "s").Object, "spec", "template", "spec", "containers")
	require.Len(t, containers, 1)
	assert.Equal(t, "newer", containers[0].(map[string]any)["image"])
	assert.NotEqual(t, fixed, of(deployments, "fixed"), "a selector cannot be changed")
	require.NoError(t, second.Ready(t.Context(), after))

	require.NoError(t, second.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

// A pod of an earlier run has done that run's work.
func TestEachRunOfAJobHasItsOwnPods(t *testing.T) {
	w := newWorld(t)
	w.kubelet(running)
	first, second := w.driver(12), w.driver(12)
	second.Job.Restarts = 1
	set := w.set("aok", phase("base", "", podOf("p")))
	require.NoError(t, first.Bring(t.Context(), set, eventually.Patience))
	before := w.get(pods, "p").GetUID()
	require.NoError(t, second.Bring(t.Context(), set, eventually.Patience))
	assert.NotEqual(t, before, w.get(pods, "p").GetUID())
	require.NoError(t, second.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}

func TestAChangeLeavesAloneWhatIsSomebodyElses(t *testing.T) {
	w := newWorld(t)
	foreign := w.create(configMaps, configMap("more"))
	before, after := w.changing()
	first, second := w.driver(12), w.driver(12)
	second.Job.Restarts = 1
	require.NoError(t, first.Bring(t.Context(), before, eventually.Patience))
	require.ErrorContains(t, second.Bring(t.Context(), after, eventually.Patience), "was not made by slurmk8s")
	require.NoError(t, second.End(t.Context(), w.namespace))
	assert.Equal(t, []string{"configmaps/more"}, w.names(), "and all that is ours goes with the job")
	assert.Equal(t, foreign, w.get(configMaps, "more"), "untouched")
}

func TestAChangeThatIsKilledAtEachRequest(t *testing.T) {
	w := newWorld(t)
	before, after := w.changing()
	plain := w.driver(12)
	want := []string{"leases/slurm-alps-12.aok", "configmaps/m", "configmaps/more", "deployments/fixed", "deployments/s"}
	for at := 1; ; at++ {
		require.NoError(t, plain.Bring(t.Context(), before, eventually.Patience))
		killed := w.interrupted(func(ctx context.Context, d driver) error { return d.Bring(ctx, after, eventually.Patience) }, at, at%2 == 0)
		require.NoError(t, plain.Bring(t.Context(), after, eventually.Patience), "after a kill at request %d", at)
		require.Equal(t, want, w.names(), "after a kill at request %d", at)
		require.Equal(t, map[string]any{"b": "3"}, w.get(configMaps, "m").Object["data"])
		require.NoError(t, plain.Ready(t.Context(), after))
		if !killed {
			require.Greater(t, at, 10, "there were requests")
			break
		}
	}
	require.NoError(t, plain.End(t.Context(), w.namespace))
	assert.Empty(t, w.names())
}
