package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// arkoudaScript is the example of Arkouda's documentation for Slurm, with its variables and their
// values, and a server of its ports in place of Arkouda's.
const arkoudaScript = `export NAMESPACE=arkouda
export ENDPOINT_NAME=arkouda-on-slurm
export EXTERNAL_SERVICE_NAME=arkouda-on-slurm
export ENDPOINT_PORT=5555
export EXTERNAL_SERVICE_PORT=5555
export EXTERNAL_SERVICE_TARGET_PORT=5555
export METRICS_SERVICE_NAME=arkouda-on-slurm-metrics
export METRICS_SERVICE_PORT=5556
export METRICS_SERVICE_TARGET_PORT=5556
export K8S_HOST=https://ace:6443
export KEY_FILE=/opt/arkouda.key
export CERT_FILE=/opt/arkouda.crt
`

// arkoudaObjects are those that its documentation shows, for the address of the batch host and the
// number of the job. The EndpointSlices are what Endpoints are today.
const arkoudaObjects = `
Service arkouda-on-slurm:
  spec: {type: ClusterIP, ports: [{port: 5555, targetPort: 5555, protocol: TCP}]}
Service arkouda-on-slurm-metrics:
  spec: {type: ClusterIP, ports: [{port: 5556, targetPort: 5556, protocol: TCP}]}
Endpoints arkouda-on-slurm:
  subsets: [{addresses: [{ip: ADDRESS}], ports: [{port: 5555, protocol: TCP}]}]
Endpoints arkouda-on-slurm-metrics:
  subsets: [{addresses: [{ip: ADDRESS}], ports: [{port: 5556, protocol: TCP}]}]
EndpointSlice arkouda-on-slurm.test.JOB.NODE:
  addressType: IPv4
  endpoints: [{addresses: [ADDRESS], conditions: {ready: true, serving: true, terminating: false}}]
  ports: [{name: "", port: 5555, protocol: TCP}]
EndpointSlice arkouda-on-slurm-metrics.test.JOB.NODE:
  addressType: IPv4
  endpoints: [{addresses: [ADDRESS], conditions: {ready: true, serving: true, terminating: false}}]
  ports: [{name: "", port: 5556, protocol: TCP}]
`

// contents are an object's, as far as its maker gave them.
func contents(u *unstructured.Unstructured) map[string]any {
	fields := u.DeepCopy().Object
	for _, key := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(fields, key)
	}
	if spec, ok := fields["spec"].(map[string]any); ok {
		for _, key := range []string{"clusterIP", "clusterIPs", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "sessionAffinity"} {
			delete(spec, key) // Kubernetes fills them in
		}
	}
	return fields
}

// objectsIn are the contents of all Services, Endpoints and EndpointSlices about some services,
// whoever made them.
func objectsIn(t *testing.T, namespace, prefix string) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, gvr := range []schema.GroupVersionResource{service.Services, service.Endpoints, service.EndpointSlices} {
		list, err := cluster.Kube.Resource(gvr).Namespace(namespace).List(deadline(t, patience), metav1.ListOptions{})
		require.NoError(t, err)
		for i := range list.Items {
			if u := &list.Items[i]; strings.HasPrefix(u.GetName(), prefix) {
				found[u.GetKind()+" "+u.GetName()] = contents(u)
			}
		}
	}
	return found
}

func TestTheExampleOfArkouda(t *testing.T) {
	parallel(t)
	const client, metrics = "arkouda-on-slurm", "arkouda-on-slurm-metrics"
	j := submit(t, script{
		options: []string{"--k8s-register=env,endpoints=both"},
		body:    arkoudaScript + serving(5555) + strings.Replace(serving(5556), "trap", ": trap", 1) + "trap 'kill %1 %2' EXIT\n" + untilTold,
	})
	j.serves("arkouda", client)
	j.serves("arkouda", metrics)
	var wanted map[string]any
	text := strings.NewReplacer("ADDRESS", j.address(), "JOB", j.number(), "NODE", j.node()).Replace(arkoudaObjects)
	// Endpoints are written after the EndpointSlices that serves() has seen.
	require.NoError(t, yaml.Unmarshal([]byte(text), &wanted))
	eventually.Equal(t, wanted, func() (found map[string]any) {
		text, err := yaml.Marshal(objectsIn(t, "arkouda", "arkouda-on-slurm"))
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, &found))
		return found
	})
	for name, port := range map[string]int{client: 5555, metrics: 5556} {
		require.Equal(t, fmt.Sprintf("port %d of job %d on %s", port, j.id, j.node()),
			pageFrom(t, otherThan(t, j.node()), fmt.Sprintf("http://%s.arkouda.svc:%d/", name, port)))
	}
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
	require.Empty(t, objectsIn(t, "arkouda", "arkouda-on-slurm"))
}

// Arkouda mixed up port and target port of its metrics, and its Endpoints had the Service's port.
// Its variables come from any of three places.
func TestArkoudasPortsAreRightWhereverItsVariablesComeFrom(t *testing.T) {
	leaveOutIfShort(t)
	variables := func(name string, target int) []string {
		return []string{"NAMESPACE=arkouda", "EXTERNAL_SERVICE_NAME=" + name, "EXTERNAL_SERVICE_PORT=80", "METRICS_SERVICE_NAME=" + name + "-metrics",
			fmt.Sprintf("EXTERNAL_SERVICE_TARGET_PORT=%d", target), "METRICS_SERVICE_PORT=81", fmt.Sprintf("METRICS_SERVICE_TARGET_PORT=%d", target)}
	}
	exports := func(variables []string, value string) string {
		text := ""
		for _, v := range variables {
			name, literal, _ := strings.Cut(v, "=")
			text += fmt.Sprintf("export %s="+value+"\n", name, literal)
		}
		return text
	}
	for place, make := range map[string]func(variables []string, port int) script{
		"the environment of sbatch": func(variables []string, port int) script {
			return script{env: variables, options: []string{"--k8s-register=env"}, body: serving(port) + untilTold}
		},
		"literal lines of the script": func(variables []string, port int) script {
			return script{options: []string{"--k8s-register=env"}, body: exports(variables, "%s") + serving(port) + untilTold}
		},
		"the environment of an srun": func(variables []string, port int) script {
			return script{options: []string{"--k8s-register=env"},
				body: exports(variables, "$(echo %s)") + "cat >step.$SLURM_JOB_ID <<'EOF'\n" + serving(port) + untilTold + "EOF\nsrun bash step.$SLURM_JOB_ID"}
		},
	} {
		t.Run(place, func(t *testing.T) {
			parallel(t)
			port := freePort()
			name := unique(fmt.Sprintf("ark-%d", port))
			j := submit(t, make(variables(name, port), port))
			j.serves("arkouda", name)
			j.serves("arkouda", name+"-metrics")
			for _, url := range []string{"http://" + name + ".arkouda.svc/", "http://" + name + "-metrics.arkouda.svc:81/"} {
				require.Equal(t, fmt.Sprintf("port %d of job %d on %s", port, j.id, j.node()), pageFrom(t, j.node(), url))
			}
			j.tell()
			j.ends("COMPLETED")
			j.unregistered()
		})
	}
}
