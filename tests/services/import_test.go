package services

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
)

// status sets a field of an object's status, as a controller would.
func (w *world) status(gvr schema.GroupVersionResource, namespace, name string, status map[string]any) {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"status": status})
	require.NoError(w.t, err)
	_, err = w.admin.Resource(gvr).Namespace(namespace).Patch(w.t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	require.NoError(w.t, err)
}

// The ways to a Service, in the order in which they are tried.
func TestWhereAServiceIsReached(t *testing.T) {
	w := newWorld(t)
	nodes := schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	resolver := &service.Resolver{Kube: w.client(w.server.Kubeconfig()), Log: apiserver.Log(t)}
	resolve := func(name, port string) (map[string]string, error) {
		return resolver.Resolve(t.Context(), service.Import{Namespace: w.namespace, Name: name, Port: port})
	}
	service1 := func(name, kind string) *unstructured.Unstructured {
		return w.create(service.Services, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"type": kind, "ports": []any{
				map[string]any{"name": "web", "port": int64(80), "targetPort": int64(8080)}, map[string]any{"name": "db-x", "port": int64(5432)}}}})
	}
	field := func(u *unstructured.Unstructured, fields ...string) string {
		v, _, _ := unstructured.NestedString(u.Object, fields...)
		return v
	}

	u := service1("plain-one", "ClusterIP")
	ip := field(u, "spec", "clusterIP")
	vars, err := resolve("plain-one", "")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"PLAIN_ONE_SERVICE_HOST": ip, "PLAIN_ONE_SERVICE_PORT": "80", "PLAIN_ONE_ADDRESS": ip + ":80",
		"PLAIN_ONE_SERVICE_PORT_WEB": "80", "PLAIN_ONE_SERVICE_PORT_DB_X": "5432",
	}, vars)
	for _, port := range []string{"db-x", "5432"} {
		vars, err = resolve("plain-one", port)
		require.NoError(t, err)
		assert.Equal(t, ip+":5432", vars["PLAIN_ONE_ADDRESS"])
	}
	_, err = resolve("plain-one", "81")
	assert.EqualError(t, err, `--k8s-import: service `+w.namespace+`/plain-one has no port "81", only web:80, db-x:5432`)
	_, err = resolve("nowhere", "")
	assert.EqualError(t, err, "--k8s-import: service "+w.namespace+"/nowhere does not exist")

	// A node port needs a node that is ready.
	u = service1("edge", "NodePort")
	vars, err = resolve("edge", "")
	require.NoError(t, err)
	assert.Equal(t, field(u, "spec", "clusterIP")+":80", vars["EDGE_ADDRESS"])
	for _, name := range []string{"down", "up"} {
		_, err := w.admin.Resource(nodes).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	condition := func(ready string) []any { return []any{map[string]any{"type": "Ready", "status": ready}} }
	w.status(nodes, "", "down", map[string]any{"conditions": condition("False"), "addresses": []any{map[string]any{"type": "InternalIP", "address": "192.0.2.66"}}})
	w.status(nodes, "", "up", map[string]any{"conditions": condition("True"), "addresses": []any{
		map[string]any{"type": "Hostname", "address": "up"}, map[string]any{"type": "InternalIP", "address": "192.0.2.77"}}})
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	vars, err = resolve("edge", "")
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.77", vars["EDGE_SERVICE_HOST"])
	assert.Equal(t, jsonNumber(ports[0].(map[string]any)["nodePort"]), vars["EDGE_SERVICE_PORT"])
	assert.Equal(t, jsonNumber(ports[1].(map[string]any)["nodePort"]), vars["EDGE_SERVICE_PORT_DB_X"])

	// A load balancer counts most, once it has an address.
	service1("front", "LoadBalancer")
	vars, err = resolve("front", "")
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.77", vars["FRONT_SERVICE_HOST"])
	w.status(service.Services, w.namespace, "front", map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"hostname": "lb.example.org"}}}})
	vars, err = resolve("front", "db-x")
	require.NoError(t, err)
	assert.Equal(t, "lb.example.org:5432", vars["FRONT_ADDRESS"])
	w.status(service.Services, w.namespace, "front", map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "198.51.100.7"}}}})
	vars, err = resolve("front", "")
	require.NoError(t, err)
	assert.Equal(t, "198.51.100.7:80", vars["FRONT_ADDRESS"])
}

func jsonNumber(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// One job's headless service is reached by another job at an endpoint that is ready.
func TestAnImportOfAHeadlessService(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	regs, err := r.Register(t.Context(), w.specs("name=dask,port=web:80:8787,host=all"))
	require.NoError(t, err)
	resolver := &service.Resolver{Kube: r.Kube, Log: apiserver.Log(t)}
	_, err = resolver.Resolve(t.Context(), service.Import{Namespace: w.namespace, Name: "dask"})
	require.EqualError(t, err, "service "+w.namespace+"/dask has no ready endpoint")
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	vars, err := resolver.Resolve(t.Context(), service.Import{Namespace: w.namespace, Name: "dask"})
	require.NoError(t, err)
	assert.Equal(t, "10.1.0.1:8787", vars["DASK_ADDRESS"])
}

// A job's Service with a cluster IP is reached at the job's own host and port: a Slurm node need
// not run kube-proxy. One that somebody else made without a selector keeps its address.
func TestAnImportOfAJobsServiceNeedsNoKubeProxy(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	regs, err := r.Register(t.Context(), w.specs("name=web,port=http:80:8787"))
	require.NoError(t, err)
	require.NoError(t, r.Ready(t.Context(), regs[0]))
	resolver := &service.Resolver{Kube: r.Kube, Log: apiserver.Log(t)}
	vars, err := resolver.Resolve(t.Context(), service.Import{Namespace: w.namespace, Name: "web"})
	require.NoError(t, err)
	assert.Equal(t, "10.1.0.1:8787", vars["WEB_ADDRESS"])
	assert.Equal(t, "8787", vars["WEB_SERVICE_PORT_HTTP"])

	u := w.create(service.Services, plainService("theirs").Object)
	ip, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
	vars, err = resolver.Resolve(t.Context(), service.Import{Namespace: w.namespace, Name: "theirs"})
	require.NoError(t, err)
	assert.Equal(t, ip+":80", vars["THEIRS_ADDRESS"])
}

func TestAStepThatImports(t *testing.T) {
	w := newWorld(t)
	w.install()
	u := w.create(service.Services, plainService("db").Object)
	ip, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
	n := w.newNode(site{kubeconfig: w.credential("c1")})
	s := n.start(n.fields("K8S_IMPORT=db"))
	assert.Equal(t, []string{"CODE=0", "OVER=1", "SETENV_DB_ADDRESS=" + ip + ":80", "SETENV_DB_SERVICE_HOST=" + ip, "SETENV_DB_SERVICE_PORT=80",
		"SETENV_K8S_IMPORTED=db"}, s.reply())
	assert.False(t, n.marked(12))
	s.gone()
	s = n.start(n.fields("K8S_IMPORT=nothing"))
	assert.Equal(t, []string{"CODE=2", "MESSAGE=--k8s-import: service " + w.namespace + "/nothing does not exist"}, s.reply())
	s.gone()
}
