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
	cfg := slurmconf.Default()
	cfg.Cluster = "hpc"
	cfg.Services.Allow = []slurmconf.ServiceRule{{Namespaces: []string{"jobs"}}}
	log := logrus.New()
	log.SetOutput(t.Output())
	client, err := kube.For(cfg, server.Kubeconfig(), "test", logrus.NewEntry(log))
	require.NoError(t, err)
	objects, err := Duty{}.List(t.Context(), duty.Host{Config: cfg, Kube: client, Log: logrus.NewEntry(log)})
	require.NoError(t, err)

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
