package stage

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// What Kubernetes refuses in any form must not cost the object that runs.
func TestAnObjectIsMadeAgainOnlyIfKubernetesWouldTakeTheNewOne(t *testing.T) {
	const webhook, quota = `admission webhook "v.kb.io" denied the request: no`, `configmaps "m" is forbidden: exceeded quota: q`
	for name, tt := range map[string]struct {
		code            int // of a create; 0: it is admitted
		reason, message string
		replaced        bool
		err             string
	}{
		"an immutable field": {replaced: true},
		"a webhook":          {code: 403, reason: "Forbidden", message: webhook, err: "bundle b: ConfigMap m: no"},
		"the schema":         {code: 422, reason: "Invalid", message: "spec: Invalid value", err: "bundle b: ConfigMap m: spec: Invalid value (HTTP 422)"},
		"a full namespace":   {code: 403, reason: "Forbidden", message: quota, err: "exceeded quota"},
	} {
		t.Run(name, func(t *testing.T) {
			d, store := stored(t)
			d.Job = job.Job{Cluster: "hpc", Restarts: job.AnyRun}
			set := setOf(t, "", configMapM)
			object := set.Phases[0].Objects[0]
			object.SetLabels(nil)
			bundle.Mark(object, bundle.Facts{Job: d.Job}, set.Bundle, set.Instance)
			require.NoError(t, d.Up(t.Context(), set, time.Minute, false))

			store.Before = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml":
					kubetest.Status(w, 422, "Invalid", "data: field is immutable")
				case r.Method == http.MethodPost && tt.code != 0:
					kubetest.Status(w, tt.code, tt.reason, tt.message)
				default:
					return false
				}
				return true
			}
			diff, err := d.Diff(t.Context(), set)
			upErr := d.Up(t.Context(), set, time.Minute, true)
			assert.Equal(t, []string{"ns/configmaps/m"}, store.Paths()[:1])
			if tt.replaced {
				require.NoError(t, err)
				require.Len(t, diff, 1)
				assert.Equal(t, "bundle b: ConfigMap m: data: field is immutable (HTTP 422)", diff[0].Refused)
				require.NoError(t, upErr)
				assert.Equal(t, 1, store.Count(http.MethodDelete, "/configmaps/m"))
				return
			}
			require.ErrorContains(t, err, tt.err, "--replace would not help")
			require.ErrorContains(t, upErr, tt.err)
			assert.Zero(t, store.Count(http.MethodDelete, "/configmaps/m"))
		})
	}
}
