package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// crowd is the API of a cluster with many jobs: half of them have a Workflow, the others an
// EndpointSlice, a Service and a Lease. It answers in pages, as the API server does.
type crowd struct {
	jobs int
}

// written are managedFields as the API server keeps them, for the size of an object.
const written = `[{"manager":"slurmk8s","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{` +
	`"f:metadata":{"f:annotations":{"f:slurmk8s.io/restart-count":{},"f:slurmk8s.io/submit-time":{},"f:slurmk8s.io/uid":{},"f:slurmk8s.io/user":{}},` +
	`"f:labels":{"f:slurmk8s.io/cluster":{},"f:slurmk8s.io/job-id":{},"f:slurmk8s.io/managed-by":{}},"f:ownerReferences":{"k:{\"uid\":\"u\"}":{}}},` +
	`"f:spec":{"f:ports":{"k:{\"port\":8888,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:targetPort":{}}}}}}]`

func (c crowd) object(kind string, id int) kubetest.Object {
	o := kubetest.Object{"kind": kind, "metadata": kubetest.Object{
		"name": fmt.Sprintf("%s-%d", strings.ToLower(kind), id), "namespace": "slurm",
		"uid": fmt.Sprintf("00000000-0000-0000-0000-%012d", id), "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
		"labels": kubetest.Object{"slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": strconv.Itoa(id), "slurmk8s.io/managed-by": "slurmk8s"},
		"annotations": kubetest.Object{"slurmk8s.io/user": "alice", "slurmk8s.io/uid": "1000", "slurmk8s.io/restart-count": "0",
			"slurmk8s.io/submit-time": "1700000000"},
		"managedFields": json.RawMessage(written),
	}}
	if kind == "Workflow" {
		kubetest.Meta(o)["name"] = fmt.Sprintf("bb%d", id)
		o["spec"] = kubetest.Object{"desiredState": "PreRun", "dwDirectives": []any{"#DW jobdw type=xfs capacity=1TiB name=scratch"}}
		o["status"] = kubetest.Object{"state": "PreRun", "ready": true, "status": "Completed", "env": kubetest.Object{"DW_JOB_scratch": "/mnt/nnf/scratch"}}
	}
	return o
}

func (c crowd) serve(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]struct {
		kind string
		from int
	}{"workflows": {"Workflow", 1}, "endpointslices": {"EndpointSlice", 1 + c.jobs/2}, "services": {"Service", 1 + c.jobs/2}, "leases": {"Lease", 1 + c.jobs/2}}
	if r.URL.Path == "/apis/"+kubetest.Group {
		version := kubetest.Object{"groupVersion": kubetest.Group + "/" + kubetest.Version, "version": kubetest.Version}
		kubetest.JSON(w, 200, kubetest.Object{"kind": "APIGroup", "versions": []any{version}, "preferredVersion": version})
		return
	}
	of, known := kinds[filepath.Base(r.URL.Path)]
	if !known || r.Method != http.MethodGet {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	begin, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	end, next := begin+limit, ""
	if limit == 0 || end >= c.jobs/2 {
		end = c.jobs / 2
	} else {
		next = strconv.Itoa(end)
	}
	items := []any{}
	for i := begin; i < end; i++ {
		items = append(items, c.object(of.kind, of.from+i))
	}
	kubetest.JSON(w, 200, kubetest.Object{"kind": of.kind + "List", "apiVersion": "v1",
		"metadata": kubetest.Object{"resourceVersion": "9", "continue": next}, "items": items})
}

func TestReconcileOfTenThousandObjectsIsAFewRequests(t *testing.T) {
	c := crowd{jobs: 5000}
	api := kubetest.New(t, c.serve)
	config, dir := site(t, api.Kubeconfig(), "[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\"slurm\"]\nnames = [\"*\"]\nports = [\"1-65535\"]\n")
	var jobs strings.Builder
	for id := 1; id <= c.jobs; id++ {
		fmt.Fprintf(&jobs, "%d|RUNNING|alice|c%d\n", id, id)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jobs"), []byte(jobs.String()), 0o600))
	command(t, dir, "squeue", "cat "+dir+"/jobs")

	cmd := exec.CommandContext(t.Context(), program, "reconcile", "--config", config)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Empty(t, string(out), "all jobs run")
	assert.LessOrEqual(t, len(api.Requests()), 50)
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	assert.LessOrEqual(t, used.Maxrss, int64(100_000), "kB of memory")
	t.Logf("%d requests, %d kB, %v of CPU", len(api.Requests()), used.Maxrss, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
}

// HealthCheckProgram runs it on each node every few minutes.
func TestReconcileOnANodeWithNothingToDoIsOneRequest(t *testing.T) {
	api := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.JSON(w, 200, kubetest.Object{"apiVersion": "v1", "kind": "Node", "metadata": kubetest.Object{"name": "c1", "uid": "u", "resourceVersion": "1"}})
	})
	config, dir := site(t, "/nonexistent/kubeconfig", "")
	file, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(file, "[services]\nkubeconfig = %q\nrun_dir = %q\n[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\"slurm\"]\nnames = [\"*\"]\nports = [\"1-65535\"]\n[nodes]\nkubeconfig = %q\nreclaim = \"all\"\n",
		api.Kubeconfig(), filepath.Join(dir, "run"), api.Kubeconfig())
	require.NoError(t, err)
	require.NoError(t, file.Close())
	command(t, dir, "squeue", "echo squeue is not needed >&2; exit 1")

	r := call(t, "", "reconcile", "--config", config, "--node", "c1")
	assert.Equal(t, result{}, r)
	require.Len(t, api.Requests(), 1)
	assert.Equal(t, "GET /api/v1/nodes/c1", api.Requests()[0].String())
}
