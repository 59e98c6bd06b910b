package api

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// asNode is a client with the certificate of a compute node.
func (s *site) asNode(name string) dynamic.ResourceInterface {
	s.t.Helper()
	config, err := s.c.server.UserConfig("slurmk8s:node:"+name, "slurmk8s:nodes")
	require.NoError(s.t, err)
	client, err := dynamic.NewForConfig(config)
	require.NoError(s.t, err)
	return client.Resource(secrets).Namespace(s.namespace)
}

// A copy-offload container: the job's tasks have its hosts, its ports and the token that it asks
// for, and nobody else has the token.
func TestANodeTellsTheTokenToItsJobOnly(t *testing.T) {
	s := withRabbits(t)
	for _, file := range []string{"token.yaml", "node.yaml"} {
		for _, object := range manifest(t, file, s.namespace) {
			if name := object.GetName(); name == "slurmk8s-storage-token" || name == "slurmk8s-node-workflows" {
				s.c.apply(t, object)
			}
		}
	}
	run, err := os.MkdirTemp("/dev/shm", "slurmk8s-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(run) })
	kubeconfig, err := s.c.server.UserKubeconfig("slurmk8s:node:c01", "slurmk8s:nodes")
	require.NoError(t, err)
	s.configure(`token = "job"`, "[services]", fmt.Sprintf("kubeconfig = %q", kubeconfig), fmt.Sprintf("run_dir = %q", run))
	controller := rest.AnonymousClientConfig(s.c.config)
	controller.BearerTokenFile = s.path("token")
	asController, err := dynamic.NewForConfig(controller)
	require.NoError(t, err)
	eventually.True(t, "the API server knows the controller's role", func() bool {
		_, err := asController.Resource(secrets).Namespace(s.namespace).Get(t.Context(), "none", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})

	j := s.job("#DW jobdw type=gfs2 capacity=50GB name=scratch requires=copy-offload",
		"#DW container name=box profile=example-success DW_JOB_foo_local_storage=scratch")
	j.ok("setup")
	j.ok("pre_run", on("c01,c05"))
	j.in(dwssim.PreRun)
	code, env := s.asksForStorage(j.id, 1000)
	require.Equal(t, "0", code, env["MESSAGE"])
	assert.Equal(t, "r1,r2", env["NNF_CONTAINER_HOSTNAMES"])
	assert.Equal(t, j.name(), env["NNF_CONTAINER_SUBDOMAIN"])
	assert.NotEmpty(t, env["DW_JOB_scratch"])
	path := filepath.Join(run, fmt.Sprintf("storage.%d/token", j.id))
	assert.Equal(t, path, env["DW_WORKFLOW_TOKEN_FILE"])
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	token := string(text)
	assert.Len(t, strings.Split(token, "."), 3)

	// Who has stolen a node's credential.
	for node, may := range map[string]bool{"c01": true, "c05": true, "c02": false} {
		_, err := s.asNode(node).Get(t.Context(), j.name()+"-token", metav1.GetOptions{})
		assert.Equal(t, may, err == nil, "%s: %v", node, err)
		_, err = s.asNode(node).Get(t.Context(), j.name()+"-token-server", metav1.GetOptions{})
		assert.True(t, apierrors.IsForbidden(err), "the key that signs all tokens: %v", err)
		_, err = s.asNode(node).List(t.Context(), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
	}
	// Nothing that is kept or answered has it, but the file.
	assert.NotContains(t, s.log(), token)
	for name, value := range env {
		assert.NotContains(t, value, token, name)
	}
	require.NoError(t, filepath.WalkDir(s.dir, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kept, err := os.ReadFile(file)
		assert.NotContains(t, string(kept), token, file)
		return err
	}))

	j.ok("post_run")
	list, err := s.c.admin.Resource(roles).Namespace(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "slurmk8s.io/job-id"})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
	eventually.True(t, "the node has lost its right", func() bool {
		_, err := s.asNode("c01").Get(t.Context(), j.name()+"-token", metav1.GetOptions{})
		return apierrors.IsForbidden(err)
	})
	for _, name := range []string{"data_out", "test_data_out", "job_teardown"} {
		j.ok(name)
	}
	require.Nil(t, j.get())
}
