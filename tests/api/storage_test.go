package api

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/step"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// node gives the site the credential of a compute node, by packaging/manifests/node.yaml.
func (s *site) node() {
	s.t.Helper()
	const account = "slurmk8s-node"
	for _, object := range manifest(s.t, "node.yaml", s.namespace) {
		if object.GetKind() == "ServiceAccount" || object.GetName() == "slurmk8s-node-workflows" {
			s.c.apply(s.t, object)
		}
	}
	s.write("token", s.c.token(s.t, s.namespace, account)+"\n", 0o600)
	s.configure("[services]", fmt.Sprintf("kubeconfig = %q", s.path("kubeconfig")), fmt.Sprintf("run_dir = %q", s.path("run")))
}

// asksForStorage is what the step program answers on a node of the job: code and variables.
func (s *site) asksForStorage(id int, uid uint32) (string, map[string]string) {
	s.t.Helper()
	request := []string{"CONFIG=" + s.path("slurmk8s.toml"), fmt.Sprintf("JOB_ID=%d", id), fmt.Sprintf("UID=%d", uid),
		"GID=1001", "STEP_ID=batch", "NODE=c1", "WORKFLOW=1", "", ""}
	var out bytes.Buffer
	in, hold := io.Pipe() // slurmstepd lives on
	defer hold.Close()
	go func() { _, _ = io.WriteString(hold, strings.Join(request, "\x00")) }()
	step.Run(s.t.Context(), in, &out, step.Options{})
	reply := map[string]string{}
	for field := range strings.SplitSeq(strings.Trim(out.String(), "\x00"), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		reply[strings.TrimPrefix(key, "SETENV_")] = value
	}
	code, over := reply["CODE"], reply["OVER"]
	if code == "0" {
		require.Equal(s.t, "1", over, "nothing is left to do at the step's end")
	}
	delete(reply, "CODE")
	delete(reply, "OVER")
	return code, reply
}

func TestANodeTellsTheJobWhereItsStorageIs(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW jobdw type=xfs capacity=1GiB name=my-scratch", "#DW PreRun action=complete env=LATE:a=b")
	j.bring(dwssim.DataIn)
	s.node()
	var code string
	var env map[string]string
	eventually.True(t, "the API server knows the role", func() bool { // the API server learns of a role a moment later
		code, env = s.asksForStorage(j.id, 1000)
		return !strings.Contains(env["MESSAGE"], "forbidden")
	})
	assert.Equal(t, "3", code)
	assert.Contains(t, env["MESSAGE"], j.name()+" is not ready for the job: DataIn, ready")
	_, err := s.workflows().Patch(t.Context(), j.name(), types.MergePatchType, []byte(`{"spec":{"desiredState":"PreRun"}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	j.wait("in PreRun", dwssim.Ready(dwssim.PreRun))
	want := j.get()
	code, env = s.asksForStorage(j.id, 1000)
	assert.Equal(t, "0", code)
	assert.Equal(t, fmt.Sprintf("/mnt/nnf/%s-0", want.GetUID()), env["DW_JOB_my_scratch"])
	assert.Equal(t, "a=b", env["LATE"])
	assert.Equal(t, j.name(), env["DW_WORKFLOW_NAME"])
	run := fmt.Sprintf("%s:%s", j.name(), want.GetUID())
	assert.Equal(t, run, env["SLURMK8S_WORKFLOW"])
	assert.Equal(t, run, env["K8S_WORKFLOW"], "so that an srun that has these variables need not ask")
	kept, err := os.ReadFile(s.path(fmt.Sprintf("run/storage.%d/env", j.id)))
	require.NoError(t, err)
	for _, field := range []string{"UID=1000", "WORKFLOW=" + run, "SETENV_LATE=a=b"} {
		assert.Contains(t, "\x00"+string(kept), "\x00"+field+"\x00", "for the job's later steps")
	}

	for id, uid := range map[int]uint32{j.id: 1001, j.id + 1: 1000} {
		code, env = s.asksForStorage(id, uid)
		assert.Equal(t, "0", code)
		assert.Empty(t, env, "ids repeat: another user's Workflow, or none")
	}
	assert.NoDirExists(t, s.path(fmt.Sprintf("run/storage.%d", j.id+1)))
}

func TestAJobWhoseStorageCannotBeAskedForFailsWithTheReason(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	s.write("token", "nonsense\n", 0o600)
	s.configure("[services]", fmt.Sprintf("kubeconfig = %q", s.path("kubeconfig")), fmt.Sprintf("run_dir = %q", s.path("run")))
	code, reply := s.asksForStorage(100, 1000)
	assert.Equal(t, "3", code)
	assert.Contains(t, reply["MESSAGE"], "HTTP 401")
	assert.NotContains(t, reply["MESSAGE"], "nonsense")
}
