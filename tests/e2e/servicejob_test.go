package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const (
	// jobsNamespace is where alice's services are, if they name no other.
	jobsNamespace = "slurm-jobs"
)

var (
	// run tells this run's names and ports from those that a run left that was killed.
	run      = time.Now().Unix()
	lastPort atomic.Int64
)

// unique is a name that no earlier run has used.
func unique(name string) string { return name + "-" + strconv.FormatInt(run, 36) }

// freePort is a port of the nodes that no other test has: jobs of many share a node.
func freePort() int { return int(20000 + run%100*100 + lastPort.Add(1)%100) }

// serving is the part of a script that answers on a port with a page, which says who serves it.
func serving(port int) string {
	return fmt.Sprintf(`printf 'HTTP/1.0 200 OK\r\n\r\nport %[1]d of job %%s on %%s\n' "$SLURM_JOB_ID" "$SLURMD_NODENAME" >page.%[1]d.$SLURMD_NODENAME
socat TCP-LISTEN:%[1]d,fork,reuseaddr SYSTEM:"cat page.%[1]d.$SLURMD_NODENAME" &
trap "kill $!" EXIT # Slurm would wait for its output, and proctrack/linuxproc loses sight of it
`, port)
}

// untilTold is the part of a script that waits for tell.
const untilTold = `until [ -e "told.$SLURM_JOB_ID" ]; do sleep 0.1; done
`

// tell lets a job that waits for it go on.
func (j *job) tell() { admin(j.t, "touch", "/home/"+user+"/told."+j.number()) }

// register submits a job that serves a port under a name, until it is told to end.
func register(t *testing.T, name string, port int, options ...string) *job {
	t.Helper()
	return submit(t, script{
		options: append([]string{fmt.Sprintf("--k8s-register=%s:%d", name, port)}, options...),
		body:    serving(port) + untilTold,
	})
}

// address is that of the node that the job's script runs on.
func (j *job) address() string {
	j.t.Helper()
	return addressOf(j.t, j.node())
}

func (j *job) node() string { return j.comes("RUNNING")["BatchHost"] }

func addressOf(t *testing.T, node string) string {
	t.Helper()
	u, err := cluster.Kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).Get(deadline(t, patience), node, metav1.GetOptions{})
	require.NoError(t, err)
	addresses, _, _ := unstructured.NestedSlice(u.Object, "status", "addresses")
	for _, a := range addresses {
		if a := a.(map[string]any); a["type"] == "InternalIP" && !strings.Contains(a["address"].(string), ":") {
			return a["address"].(string)
		}
	}
	require.Fail(t, "no IPv4 address", "node %s", node)
	return ""
}

// endpoints are the addresses behind a Service, by readiness: "172.18.0.4 ready".
func endpoints(t *testing.T, namespace, name string) []string {
	t.Helper()
	list, err := cluster.Kube.Resource(service.EndpointSlices).Namespace(namespace).
		List(deadline(t, patience), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
	require.NoError(t, err)
	var found []string
	for _, slice := range list.Items {
		all, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, e := range all {
			e := e.(map[string]any)
			addresses, _, _ := unstructured.NestedStringSlice(e, "addresses")
			state := "not ready"
			if ready, _, _ := unstructured.NestedBool(e, "conditions", "ready"); ready {
				state = "ready"
			}
			found = append(found, addresses[0]+" "+state)
		}
	}
	return found
}

// serves waits until the service is ready at the job's node, and nowhere else.
func (j *job) serves(namespace, name string) {
	j.t.Helper()
	seen := j.await("to run", func(seen testbed.Job) bool { return seen.State() == "RUNNING" || isOver(seen.State()) })
	require.Equal(j.t, "RUNNING", seen.State(), "job %d", j.id)
	wanted := []string{addressOf(j.t, seen["BatchHost"]) + " ready"}
	for until := time.Now().Add(patience); ; time.Sleep(lookAgain) {
		found := endpoints(j.t, namespace, name)
		if slices.Equal(wanted, found) {
			return
		}
		if time.Now().After(until) || isOver(jobs.Get(j.id).State()) {
			require.Equal(j.t, wanted, found, "service %s/%s of job %d", namespace, name, j.id)
		}
	}
}

// pageFrom is what a pod on a node gets from a URL. kube-proxy needs a moment after each change.
func pageFrom(t *testing.T, node, url string) string {
	t.Helper()
	var page string
	var err error
	eventually.Equal(t, nil, func() error {
		page, err = cluster.Visit(deadline(t, patience), node, url)
		return err
	})
	return strings.TrimSpace(page)
}

// otherThan is a worker that is not the one named: its pods reach the job over the network.
func otherThan(t *testing.T, node string) string {
	t.Helper()
	for _, n := range cluster.Nodes {
		if n.Name != node {
			return n.Name
		}
	}
	require.Fail(t, "there is one node only")
	return ""
}

// serviceResources are what the bridge makes for services.
var serviceResources = []schema.GroupVersionResource{service.Services, service.EndpointSlices, service.Endpoints, slurmjob.Leases}

// objects are those of the job in all namespaces: "services slurm-jobs/web".
func (j *job) objects(ctx context.Context) ([]string, error) {
	var found []string
	for _, gvr := range serviceResources {
		list, err := cluster.Kube.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: slurmjob.LabelJobID + "=" + j.number()})
		if err != nil {
			return nil, err
		}
		for _, u := range list.Items {
			found = append(found, gvr.Resource+" "+u.GetNamespace()+"/"+u.GetName())
		}
	}
	return found, nil
}

// unregistered waits until no object of the job is left, nor a mark on a node.
func (j *job) unregistered() {
	j.t.Helper()
	eventually.Equal(j.t, nil, func() []string {
		found, err := j.objects(deadline(j.t, patience))
		require.NoError(j.t, err)
		return append(found, j.marks()...)
	}, "left of job %d", j.id)
}

// marks are the files about the job on the nodes.
func (j *job) marks() []string {
	j.t.Helper()
	var found []string
	for _, n := range cluster.Nodes {
		files, err := cluster.On(deadline(j.t, patience), n, "find", "/run/slurmk8s", "-name", "*."+j.number())
		if err != nil && strings.Contains(err.Error(), "No such file") {
			continue // no job had a service there
		}
		require.NoError(j.t, err)
		for file := range strings.Lines(files) {
			found = append(found, n.Name+":"+strings.TrimSpace(file))
		}
	}
	return found
}

// nodeLog is what the nodes logged about the job.
func (j *job) nodeLog(ctx context.Context) string {
	var b strings.Builder
	for _, n := range cluster.Nodes {
		text, err := cluster.On(ctx, n, "bash", "-c", fmt.Sprintf(`grep -h -E 'job=%[1]d\b' /var/log/slurm/slurmk8s.log; grep -h -E '\[%[1]d\..*(slurmk8s: |error: )|slurmk8s: job %[1]d:' /var/log/slurm/slurmd.log; true`, j.id))
		if err != nil {
			text += err.Error()
		}
		b.WriteString(text)
	}
	return b.String()
}

// reconcileNode does what HealthCheckProgram does on a node.
func reconcileNode(t *testing.T, n testbed.Node) {
	t.Helper()
	_, err := cluster.On(deadline(t, patience), n, "env", "SLURMD_NODENAME="+n.Name, "/opt/slurmk8s/bin/slurmk8s", "reconcile", "--limit=20s")
	require.NoError(t, err)
}
