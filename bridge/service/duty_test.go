package service

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// item is an object of a job, as a list of the API server has it.
func item(name, id, cluster string, more kubetest.Object) kubetest.Object {
	o := kubetest.Object{"metadata": kubetest.Object{"name": name, "namespace": "jobs", "uid": "u-" + name, "resourceVersion": "7",
		"labels": kubetest.Object{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": cluster, "slurmk8s.io/job-id": id}}}
	for key, value := range more {
		o[key] = value
	}
	return o
}

// listed are the objects of cluster hpc in namespace jobs.
func listed(t *testing.T, server *kubetest.Server) []duty.Object {
	t.Helper()
	cfg := slurmconf.Default()
	cfg.Cluster = "hpc"
	cfg.Services.Allow = []slurmconf.ServiceRule{{Namespaces: []string{"jobs"}}}
	log := logrus.New()
	log.SetOutput(t.Output())
	client, err := kube.For(cfg, server.Kubeconfig(), "test", logrus.NewEntry(log))
	require.NoError(t, err)
	objects, err := Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: client, Log: logrus.NewEntry(log)})
	require.NoError(t, err)
	return objects
}

func TestTheObjectsOfServicesInTheOrderOfTheirRemoval(t *testing.T) {
	lists := map[string][2]any{
		"endpointslices": {"discovery.k8s.io/v1 EndpointSliceList", []any{
			item("web-2", "2", "hpc", kubetest.Object{"endpoints": []any{kubetest.Object{"addresses": []any{"10.1.0.1"}, "conditions": kubetest.Object{"ready": true}}}}),
			item("web-1", "1", "hpc", nil)}},
		"services": {"v1 ServiceList", []any{item("web", "1", "hpc", kubetest.Object{"spec": kubetest.Object{"type": "ClusterIP", "ports": []any{kubetest.Object{"port": 8888}}}}),
			item("others", "1", "other", nil)}},
		"leases": {"coordination.k8s.io/v1 LeaseList", []any{item("slurm-hpc-1", "1", "hpc", nil)}},
	}
	server := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		list, known := lists[resource]
		if r.Method != http.MethodGet || !known {
			kubetest.JSON(w, 200, kubetest.Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
			return
		}
		version, kind, _ := strings.Cut(list[0].(string), " ")
		kubetest.JSON(w, 200, kubetest.Object{"apiVersion": version, "kind": kind, "metadata": kubetest.Object{}, "items": list[1]})
	})
	objects := listed(t, server)

	var shown []string
	for _, o := range objects {
		assert.True(t, o.Allocation)
		assert.Equal(t, strings.HasPrefix(o.Name, "lease"), o.Last)
		shown = append(shown, o.Name+": "+o.Detail)
	}
	assert.Equal(t, []string{"endpointslice jobs/web-1: no address", "service jobs/web: ClusterIP 8888", "lease jobs/slurm-hpc-1: never renewed",
		"endpointslice jobs/web-2: 10.1.0.1 ready"}, shown)
	assert.Equal(t, objects[0].Chain, objects[2].Chain)
	assert.NotEqual(t, objects[0].Chain, objects[3].Chain)

	require.NoError(t, objects[1].Remove(t.Context()))
	requests := server.Requests()
	last := requests[len(requests)-1]
	assert.Equal(t, "DELETE /api/v1/namespaces/jobs/services/web", last.String())
	assert.Contains(t, last.Body, `"uid":"u-web"`)
}

// A job was requeued between reconcile's list and its writes, and its new run needs nothing
// changed but the Lease.
func TestReconcileLeavesAJobThatHasRegisteredAgain(t *testing.T) {
	owned := func(o kubetest.Object, leases ...string) kubetest.Object {
		var owners []any
		for _, lease := range leases {
			owners = append(owners, kubetest.Object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": lease, "uid": "u-" + lease})
		}
		kubetest.Meta(o)["ownerReferences"] = owners
		return o
	}
	array := owned(item("worker", "12", "hpc", kubetest.Object{"apiVersion": "v1", "kind": "Service"}), "slurm-hpc-13", "slurm-hpc-14")
	kubetest.Meta(array)["labels"].(kubetest.Object)["slurmk8s.io/array-id"] = "12"
	for name, tt := range map[string]struct {
		object string // the one that is removed
		renew  int    // the Lease is renewed before this write; 0: never
		lost   bool   // the Lease was not there when all was listed
		want   []string
	}{
		"an endpoint":                    {object: "endpointslice jobs/web-13", want: []string{"DELETE web-13"}},
		"an endpoint that is used again": {object: "endpointslice jobs/web-13", renew: 1},
		"a Service that is used again":   {object: "service jobs/web", renew: 1, lost: true},
		"a part in an array's Service":   {object: "service jobs/worker", want: []string{"PUT worker", "PUT worker"}},
		"one that is taken again":        {object: "service jobs/worker", renew: 1},
		"one that is taken meanwhile":    {object: "service jobs/worker", renew: 2, want: []string{"PUT worker"}},
	} {
		t.Run(name, func(t *testing.T) {
			var wrote []string
			lease, begun := item("slurm-hpc-13", "13", "hpc", nil), false
			server := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
				if begun && tt.renew == len(wrote)+1 {
					kubetest.Meta(lease)["resourceVersion"] = "8"
				}
				resource, object, _ := strings.Cut(r.URL.Path[strings.LastIndex(r.URL.Path, "/jobs/")+len("/jobs/"):], "/")
				if r.Method != http.MethodGet {
					if wrote = append(wrote, r.Method+" "+object); r.Method == http.MethodPut && len(wrote) == 1 {
						kubetest.Status(w, 409, "Conflict", "somebody wrote it")
						return
					}
					kubetest.JSON(w, 200, array)
					return
				}
				all := map[string][]kubetest.Object{
					"endpointslices": {item("web-13", "13", "hpc", nil)}, "services": {item("web", "13", "hpc", nil), array}, "leases": {lease},
				}[resource]
				items := []any{}
				for _, o := range all {
					name := kubetest.Meta(o)["name"].(string)
					selected := r.URL.Query().Get("fieldSelector")
					if (selected == "" || selected == "metadata.name="+name) && (begun || !tt.lost || resource != "leases") {
						items = append(items, o)
					}
				}
				kubetest.JSON(w, 200, kubetest.Object{"apiVersion": "v1", "kind": "List", "metadata": kubetest.Object{}, "items": items})
			})
			objects := listed(t, server)
			begun = true
			for _, o := range objects {
				if strings.HasSuffix(o.Name, tt.object[strings.Index(tt.object, " "):]) && o.JobID == 13 {
					err := o.Remove(t.Context())
					if tt.renew == 0 {
						require.NoError(t, err)
					} else {
						require.ErrorIs(t, err, duty.ErrChanged)
					}
				}
			}
			assert.Equal(t, tt.want, wrote)
		})
	}
}
