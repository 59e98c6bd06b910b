package dwssim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestT10TheTokenComesWithAContainerThatRequiresIt(t *testing.T) {
	const (
		gfs2      = "#DW jobdw type=gfs2 capacity=50GB name=scratch"
		container = "#DW container name=box profile=example-success DW_JOB_foo_local_storage=scratch"
	)
	for name, test := range map[string]struct {
		directives []string
		token      bool
	}{
		"required, with a container":    {[]string{gfs2 + " requires=copy-offload", container}, true},
		"required, without a container": {[]string{gfs2 + " requires=copy-offload"}, false},
		"a container alone":             {[]string{gfs2, container}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, test.directives...)
			assert.Nil(t, w.Status.WorkflowToken)
			m.place("bb1-0", "gfs2", 50314572800, onR1(1), ServersStorage{1, "r2"})
			w = m.pass(w, Setup)
			secrets := m.nnf.api.of(kindSecret, "default")
			if !test.token {
				assert.Nil(t, w.Status.WorkflowToken)
				_, err := secrets.Get(t.Context(), "bb1-token", metav1.GetOptions{})
				assert.Error(t, err)
				return
			}
			assert.Equal(t, &WorkflowToken{SecretName: "bb1-token", SecretNamespace: "default"}, w.Status.WorkflowToken)
			text := func(secret, field string) string {
				object, err := secrets.Get(t.Context(), secret, metav1.GetOptions{})
				require.NoError(t, err)
				return object.Object["stringData"].(map[string]any)[field].(string)
			}
			token := text("bb1-token", "token")
			parts := strings.Split(token, ".")
			require.Len(t, parts, 3)
			signature := hmac.New(sha256.New, []byte(text("bb1-token-server", "token.key")))
			signature.Write([]byte(parts[0] + "." + parts[1]))
			assert.Equal(t, base64.RawURLEncoding.EncodeToString(signature.Sum(nil)), parts[2])
			w = m.pass(w, DataIn)
			m.use(w, "c01", "c05")
			w = m.pass(m.pass(w, PreRun), Teardown)
			text("bb1-token", "token") // it outlives Teardown
			m.end(w)
			_, err := secrets.Get(t.Context(), "bb1-token", metav1.GetOptions{})
			assert.Error(t, err)
		})
	}
}

func TestAContainersVariables(t *testing.T) {
	for name, test := range map[string]struct {
		profile string
		nodes   []string
		env     map[string]string
	}{
		"on the rabbits of the nodes": {"example-success", []string{"c05", "c01", "c02"}, map[string]string{
			"NNF_CONTAINER_DOMAIN": "default.svc.cluster.local", "NNF_CONTAINER_HOSTNAMES": "r1,r2", "NNF_CONTAINER_SUBDOMAIN": "bb1"}},
		"of MPI": {"example-mpi", []string{"c02"}, map[string]string{
			"NNF_CONTAINER_DOMAIN": "default.svc.cluster.local", "NNF_CONTAINER_HOSTNAMES": "bb1-launcher,bb1-worker-0", "NNF_CONTAINER_SUBDOMAIN": "bb1",
			"NNF_CONTAINER_PORTS": "5000", "NNF_CONTAINER_PORTS_example_mpi": "5000"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			w := m.submit("bb1", 1, 1001, "#DW jobdw type=gfs2 capacity=50GB name=scratch",
				"#DW container name=box profile="+test.profile+" DW_JOB_foo_local_storage=scratch")
			m.place("bb1-0", "gfs2", 50314572800, onR1(2), ServersStorage{1, "r2"})
			w = m.pass(m.pass(w, Setup), DataIn)
			for variable := range test.env {
				assert.NotContains(t, w.Status.Env, variable)
			}
			w = m.desire(w, PreRun)
			says(t, w, Error, "DW Directive 1: WLM error: unable to create/update Container Jobs: wlm error: error obtaining the target NNF nodes for containers: "+
				"the Computes resources does not specify any compute nodes",
				"wlm error: error obtaining the target NNF nodes for containers: the Computes resources does not specify any compute nodes")
			m.use(w, test.nodes...)
			w = m.settle(w)
			require.True(t, Ready(PreRun)(w), w.Status.Message)
			for variable, value := range test.env {
				assert.Equal(t, value, w.Status.Env[variable])
			}
			m.end(w)
		})
	}
}
