package hook

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// doneAtOnce is a DWS that has nothing to do in a state.
func doneAtOnce(o kubetest.Object) kubetest.Object {
	status := kubetest.Part(o, "status")
	status["state"], status["ready"], status["status"] = kubetest.Part(o, "spec")["desiredState"], true, "Completed"
	status["computes"] = kubetest.Object{"name": "bb12", "namespace": "slurm"}
	return o
}

// Each request costs a round trip, and the API server its share. A change here belongs into
// the profile in docs/how-it-works.md.
func TestTheRequestsOfAJobThatDWSDoesNotHold(t *testing.T) {
	lives := map[string]struct {
		busy  string
		hooks []string
		want  map[string]string
	}{
		"Slurm 24.05 and later": {"true", []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out", "job_teardown"},
			map[string]string{
				"job_process":   "GET version, POST (dry run)",
				"setup":         "POST, WATCH, PATCH",
				"data_in":       "PATCH",
				"test_data_in":  "GET",
				"pre_run":       "GET, PATCH computes, PATCH, WATCH",
				"post_run":      "PATCH, WATCH",
				"data_out":      "PATCH",
				"test_data_out": "GET",
				"job_teardown":  "PATCH, WATCH, DELETE",
			}},
		"before": {"", []string{"job_process", "setup", "data_in", "pre_run", "post_run", "data_out", "job_teardown"},
			map[string]string{
				"job_process":  "GET version, POST (dry run)",
				"setup":        "POST, WATCH, PATCH",
				"data_in":      "PATCH, WATCH",
				"pre_run":      "GET, PATCH computes, PATCH, WATCH",
				"post_run":     "PATCH, WATCH",
				"data_out":     "PATCH, WATCH",
				"job_teardown": "PATCH, WATCH, DELETE",
			}},
	}
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			api := kubetest.NewWorkflows(t)
			api.React = doneAtOnce
			s := newSite(t, api.Kubeconfig(), "")
			for _, hook := range life.hooks {
				before := len(api.Requests())
				code, reply := Run(t.Context(), "slurm_bb_"+hook, s.fields(script, "NODES=c1", wire.KeyBusy+"="+life.busy))
				require.Equal(t, wire.OK, code, "%s: %v", hook, reply)
				assert.Equal(t, life.want[hook], summary(api.Requests()[before:]), hook)
			}
			assert.Nil(t, api.Current())
			assert.LessOrEqual(t, len(api.Requests()), 18)
		})
	}
}

func summary(requests []kubetest.Request) string {
	var all []string
	for _, r := range requests {
		text := r.Method
		switch {
		case strings.Contains(r.Query, "watch=true"):
			text = "WATCH"
		case strings.Contains(r.Query, "dryRun"):
			text += " (dry run)"
		case strings.HasSuffix(r.Path, "/apis/"+kubetest.Group):
			text += " version"
		case strings.Contains(r.Path, "/computes/"):
			text += " computes"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func TestAVersionOfDWSThatIsDroppedIsAskedForAgain(t *testing.T) {
	api := kubetest.NewWorkflows(t)
	api.React = doneAtOnce
	api.Before = func(w http.ResponseWriter, r *http.Request) bool {
		dropped := strings.Contains(r.URL.Path, "/v1alpha1/")
		if dropped {
			http.Error(w, "404 page not found", http.StatusNotFound)
		}
		return dropped
	}
	s := newSite(t, api.Kubeconfig(), "")
	kept := filepath.Join(s.state, "dws-version")
	for _, hook := range []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out", "get_status", "job_teardown"} {
		require.NoError(t, os.WriteFile(kept, []byte("v1alpha1\n"), 0o600))
		code, reply := Run(t.Context(), "slurm_bb_"+hook, s.fields(script, "NODES=c1", wire.KeyBusy+"=true", "ARG1=workflow", "ARG2=12"))
		assert.Equal(t, wire.OK, code, "%s: %v", hook, reply)
		text, err := os.ReadFile(kept)
		require.NoError(t, err)
		assert.Equal(t, kubetest.Version+"\n", string(text), hook)
	}
	assert.Nil(t, api.Current())
}

// A bundle's kind that is not served says nothing about DWS.
func TestAnotherAPIThatIsNotServedDoesNotRunAHookAgain(t *testing.T) {
	api := kubetest.NewWorkflows(t)
	api.Before = func(w http.ResponseWriter, r *http.Request) bool {
		other := strings.Contains(r.URL.Path, "/widgets/")
		if other {
			http.Error(w, "404 page not found", http.StatusNotFound)
		}
		return other
	}
	s := newSite(t, api.Kubeconfig(), "")
	runs := 0
	const name = "slurm_bb_test"
	table[name] = entry{openBurstBuffer, func(ctx context.Context, c *call) error {
		runs++
		if _, err := c.driver(ctx, false); err != nil {
			return err
		}
		client, err := kube.For(c.cfg, c.cfg.Kubernetes.Kubeconfig, "test", c.log)
		if err != nil {
			return err
		}
		_, err = client.Objects(schema.GroupVersionResource{Group: "example.io", Version: "v1", Resource: "widgets"}, "ns").Get(ctx, "w")
		assert.True(t, kube.Is(err, kube.Unserved))
		return err
	}, otherLimit}
	t.Cleanup(func() { delete(table, name) })
	code, _ := Run(t.Context(), name, s.fields(script))
	assert.Equal(t, wire.Failed, code)
	assert.Equal(t, 1, runs)
	assert.FileExists(t, filepath.Join(s.state, "dws-version"))
}
