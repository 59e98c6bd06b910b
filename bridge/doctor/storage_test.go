package doctor

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestWorkflowsOfRabbitsBelongInNamespaceDefault(t *testing.T) {
	rabbits := kubetest.Object{"kind": "SystemConfiguration", "apiVersion": "dws/v1", "metadata": kubetest.Object{"name": "default"},
		"spec": kubetest.Object{"storageNodes": []any{kubetest.Object{"name": "r1"}}}}
	for name, test := range map[string]struct {
		namespace string
		code      int
		found     kubetest.Object
		failed    bool
	}{
		"elsewhere":             {"slurm", 200, rabbits, true},
		"in default":            {"default", 200, rabbits, false},
		"no storage nodes":      {"slurm", 200, kubetest.Object{"kind": "SystemConfiguration", "apiVersion": "dws/v1", "spec": kubetest.Object{}}, false},
		"no such configuration": {"slurm", 404, nil, false},
		"no right to look":      {"slurm", 403, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.found == nil {
					kubetest.Status(w, test.code, map[int]string{403: "Forbidden", 404: "NotFound"}[test.code], "no")
					return
				}
				kubetest.JSON(w, test.code, test.found)
			})
			logger := logrus.New()
			logger.SetOutput(io.Discard)
			client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 5 * time.Second, UserAgent: "test", Log: logrus.NewEntry(logger), Hasty: true})
			require.NoError(t, err)
			r := &report{}
			storageNamespace(t.Context(), r, client.Objects(schema.GroupVersionResource{Group: "dws", Version: "v1", Resource: "systemconfigurations"}, "default"), test.namespace)
			if !test.failed {
				assert.Empty(t, r.results)
				return
			}
			require.Len(t, r.results, 1)
			assert.Equal(t, Failed, r.results[0].Status)
			assert.Contains(t, r.results[0].Do, `workflows.namespace = "default"`)
		})
	}
}

func TestStorageServersAreComparedWithSlurm(t *testing.T) {
	dir := t.TempDir()
	bb := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "burst_buffer.conf"), []byte(text), 0o600))
	}
	cfg := slurmconf.Default()
	cfg.SlurmConf = filepath.Join(dir, "slurm.conf")
	judge := func(survey *workflow.Survey) (all []string) {
		r := &report{}
		judgeStorage(cfg, survey, r)
		for _, result := range r.results {
			all = append(all, result.Found)
		}
		return all
	}
	bb("OtherTimeout=1800\n")
	well := &workflow.Survey{Rabbits: []placement.Room{{Rabbit: "r1"}}}
	assert.Empty(t, judge(well))
	assert.Equal(t, []string{
		"DWS does not know Slurm's nodes c5, c6, c7, c8 and 1 more: jobs with #DW lines fail there",
		"SystemConfiguration default/default has node x1, which slurm.conf does not have",
		"rabbit r2 is Offline: it gets no new storage",
	}, judge(&workflow.Survey{
		Rabbits: []placement.Room{{Rabbit: "r1"}, {Rabbit: "r2", Fault: "Offline"}},
		Unknown: []string{"c5", "c6", "c7", "c8", "c9"}, Missing: []string{"x1"},
	}))
	cfg.Workflows.NodeFeature = "rabbit"
	assert.Equal(t, []string{"nodes c1, c2 of slurm.conf do not have feature rabbit (workflows.node_feature): no job with storage of its nodes runs there"},
		judge(&workflow.Survey{Featureless: []string{"c1", "c2"}}))
	bb("OtherTimeout=60\n")
	assert.Equal(t, []string{"OtherTimeout is 1m0s: Setup, DataIn and PreRun of storage of nodes have to end within it"}, judge(well))
	cfg.Workflows.Timeouts.Setup, cfg.Workflows.Timeouts.PreRun = slurmconf.Duration(40*time.Second), slurmconf.Duration(30*time.Second)
	assert.Equal(t, []string{"workflows.timeouts setup, data_in and pre_run are 1m10s together, but Slurm kills slurm_bb_pre_run, which makes storage of nodes, after 1m0s (OtherTimeout)"}, judge(well))
}
