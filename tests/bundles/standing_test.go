package bundles

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// up makes a standing bundle of the world.
func (w *world) up(d driver, set stage.Set) error {
	return d.Up(w.t.Context(), d.marked(set), eventually.Patience, false)
}

// administrator is the driver for bundles that no job owns.
func (w *world) administrator() driver {
	d := w.driver(0)
	d.Job = job.Job{Cluster: cluster}
	return d
}

func configMapWith(name, data string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}, data: " + data + "}"
}

func TestAStandingBundleIsChangedInPlaceAndPruned(t *testing.T) {
	w := newWorld(t)
	w.kubelet(running)
	d := w.administrator()
	first := w.set("web", phase("base", "", configMapWith("m", "{a: '1', b: '2'}"), configMap("old")), phase("server", "", deploymentOf("s", 1)))
	require.NoError(t, w.up(d, first))
	assert.Equal(t, []string{"leases/slurm-alps.web", "configmaps/m", "configmaps/old", "deployments/s"}, w.without("pods/"))
	assert.NotContains(t, w.get(configMaps, "m").GetLabels(), "slurmk8s.io/job-id")
	uid := w.get(configMaps, "m").GetUID()
	diff, err := d.Diff(t.Context(), d.marked(first))
	require.NoError(t, err)
	assert.Empty(t, diff)
	require.NoError(t, w.up(d, first), "once more is the same")

	second := w.set("web", phase("base", "", configMapWith("m", "{b: '3'}"), configMap("new")), phase("server", "", deploymentOf("s", 2)))
	diff, err = d.Diff(t.Context(), d.marked(second))
	require.NoError(t, err)
	of := func(name string) string { return w.namespace + "/" + name }
	assert.Equal(t, []stage.Difference{
		{Object: "configmap " + of("m"), Changes: []string{`data.a: "1" -> none`, `data.b: "2" -> "3"`}},
		{Object: "configmap " + of("new"), Made: true},
		{Object: "deployment " + of("s"), Changes: []string{"spec.replicas: 1 -> 2"}},
		{Object: "configmap " + of("old"), Pruned: true},
	}, diff)
	assert.Equal(t, map[string]any{"a": "1", "b": "2"}, w.get(configMaps, "m").Object["data"], "nothing is done")

	require.NoError(t, w.up(d, second))
	assert.Equal(t, []string{"leases/slurm-alps.web", "configmaps/m", "configmaps/new", "deployments/s"}, w.without("pods/"))
	assert.Equal(t, map[string]any{"b": "3"}, w.get(configMaps, "m").Object["data"])
	assert.Equal(t, uid, w.get(configMaps, "m").GetUID())
	diff, err = d.Diff(t.Context(), d.marked(second))
	require.NoError(t, err)
	assert.Empty(t, diff)

	found, err := d.Down(t.Context(), w.namespace, "web")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Empty(t, w.names())
	found, err = d.Down(t.Context(), w.namespace, "web")
	require.NoError(t, err)
	assert.False(t, found)
}

// without are the names but for those that begin with a prefix.
func (w *world) without(prefix string) []string {
	names := []string{}
	for _, name := range w.names() {
		if len(name) < len(prefix) || name[:len(prefix)] != prefix {
			names = append(names, name)
		}
	}
	return names
}

func TestAFieldThatCannotBeChangedNeedsANewObject(t *testing.T) {
	w := newWorld(t)
	d := w.administrator()
	require.NoError(t, w.up(d, w.set("web", phase("server", bundle.WaitNone, podOf("p")))))
	uid := w.get(pods, "p").GetUID()
	changed := phase("server", bundle.WaitNone, "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: x, workingDir: /tmp}]}}")
	set := d.marked(w.set("web", changed))
	diff, err := d.Diff(t.Context(), set)
	require.NoError(t, err)
	require.Len(t, diff, 1)
	assert.Contains(t, diff[0].Refused, "pod updates may not change fields")
	require.ErrorContains(t, d.Up(t.Context(), set, eventually.Patience, false), "pod updates may not change fields")
	assert.Equal(t, uid, w.get(pods, "p").GetUID())
	require.NoError(t, d.Up(t.Context(), set, eventually.Patience, true))
	assert.NotEqual(t, uid, w.get(pods, "p").GetUID())
	_, err = d.Down(t.Context(), w.namespace, "web")
	require.NoError(t, err)
	assert.Empty(t, w.names())
}

func TestStandingBundlesAndJobsLeaveEachOtherAlone(t *testing.T) {
	w := newWorld(t)
	admin, alice := w.administrator(), w.driver(12)
	alice.Alive = alive(false) // Slurm knows no job 0
	require.NoError(t, w.up(admin, w.set("web", phase("base", "", configMap("m")))))
	before := w.get(configMaps, "m")
	set := w.set("web", phase("base", "", configMap("m")))
	const want = "belongs to a bundle that an administrator made (slurmk8s bundle up): choose another name"
	require.ErrorContains(t, alice.Check(t.Context(), set), want)
	require.ErrorContains(t, alice.Bring(t.Context(), set, eventually.Patience), want)
	require.NoError(t, alice.End(t.Context(), w.namespace))
	assert.Equal(t, before, w.get(configMaps, "m"), "untouched")
	listed, err := alice.Kube.Objects(job.Leases, w.namespace).List(t.Context(), kube.Selection{Labels: job.ClusterBundleSelector(cluster)})
	require.NoError(t, err)
	assert.Empty(t, listed, "reconcile does not see it")

	require.NoError(t, alice.Bring(t.Context(), w.set("other", phase("base", "", configMap("j"))), eventually.Patience))
	w.create(configMaps, configMap("theirs"))
	require.ErrorContains(t, w.up(admin, w.set("two", phase("base", "", configMap("j")))), "belongs to job 12")
	require.ErrorContains(t, w.up(admin, w.set("two", phase("base", "", configMap("theirs")))), "was not made by slurmk8s")
	_, err = admin.Diff(t.Context(), admin.marked(w.set("two", phase("base", "", configMap("theirs")))))
	require.ErrorContains(t, err, "was not made by slurmk8s")
	_, err = admin.Down(t.Context(), w.namespace, "two")
	require.NoError(t, err)
	assert.Equal(t, []string{"leases/slurm-alps-12.other", "leases/slurm-alps.web", "configmaps/j", "configmaps/m", "configmaps/theirs"}, w.names())
}

// Up of another version, killed at each of its requests and run again.
func TestUpKilledAtEachRequest(t *testing.T) {
	w := newWorld(t)
	plain := w.administrator()
	before := w.set("web", phase("base", "", configMapWith("m", "{a: '1'}"), configMap("old")))
	after := w.set("web", phase("base", "", configMapWith("m", "{b: '2'}"), configMap("new")), phase("more", "", serviceOf("s")))
	for _, answered := range []bool{false, true} {
		for at := 1; ; at++ {
			require.NoError(t, w.up(plain, before))
			ctx, cancel := context.WithCancel(t.Context())
			k := &killer{at: at, after: answered, kill: cancel}
			d := w.over(0, func(next http.RoundTripper) http.RoundTripper { k.next = next; return k })
			d.Job = plain.Job
			err := d.Up(ctx, d.marked(after), eventually.Patience, false)
			cancel()
			require.NoError(t, w.up(plain, after), "after a kill at request %d (%t)", at, answered)
			require.Equal(t, []string{"leases/slurm-alps.web", "configmaps/m", "configmaps/new", "services/s"}, w.names(), "after a kill at request %d (%t)", at, answered)
			require.Equal(t, map[string]any{"b": "2"}, w.get(configMaps, "m").Object["data"])
			_, downError := plain.Down(t.Context(), w.namespace, "web")
			require.NoError(t, downError)
			require.Empty(t, w.names())
			if k.seen < at {
				require.NoError(t, err)
				require.Greater(t, at, 5, "there were requests")
				break
			}
		}
	}
}
