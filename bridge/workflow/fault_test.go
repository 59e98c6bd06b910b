package workflow

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// The hooks that place storage, or give rights, are disturbed at each of their requests and run
// again. The end is that of an undisturbed run. (What only the Workflow knows is tried in tests/faults.)
func TestPlacingWithstandsEveryFaultAtEveryRequest(t *testing.T) {
	both := func() []kubetest.Object { return []kubetest.Object{xfs(50 * gib), lustre(tib)} }
	preRunWithToken := func(ctx context.Context, d *Driver) error {
		d.cfg.Workflows.Token = slurmconf.TokenJob
		_, err := d.PreRun(ctx, onNodes("c01 c02 c05"))
		return err
	}
	// begin is what Slurm did before the hook.
	begin := func(t *testing.T, hook string, p *provider, d *Driver) {
		if hook == "post_run with a token" || hook == "teardown with a token" {
			require.NoError(t, preRunWithToken(bounded(t), d))
			require.Equal(t, tokenRights, p.rights())
		}
	}
	hooks := map[string]struct {
		asks func() []kubetest.Object
		run  func(context.Context, *Driver) error
	}{
		"pre_run with a token":  {both, preRunWithToken},
		"post_run with a token": {both, func(ctx context.Context, d *Driver) error { return d.PostRun(ctx, theJob) }},
		"teardown with a token": {both, func(ctx context.Context, d *Driver) error {
			_, err := d.Teardown(ctx, theJob)
			return err
		}},
		"setup": {func() []kubetest.Object { return []kubetest.Object{lustre(15 * tib), lustre(tib)} }, func(ctx context.Context, d *Driver) error {
			_, err := d.Setup(ctx, theJob, nil)
			return err
		}},
		"pre_run": {func() []kubetest.Object { return []kubetest.Object{xfs(50 * gib), lustre(tib)} }, func(ctx context.Context, d *Driver) error {
			_, err := d.PreRun(ctx, onNodes("c01 c02 c05"))
			return err
		}},
	}
	faults := map[string]func(p *provider, w http.ResponseWriter, r *http.Request, kill func()) bool{
		"killed before": func(_ *provider, w http.ResponseWriter, _ *http.Request, kill func()) bool {
			kill()
			kubetest.Status(w, 500, "InternalError", "killed")
			return true
		},
		"killed after": func(p *provider, w http.ResponseWriter, r *http.Request, kill func()) bool {
			if !p.serve(httptest.NewRecorder(), r) {
				return false
			}
			kill()
			kubetest.Status(w, 500, "InternalError", "killed")
			return true
		},
		"an answer is lost": func(p *provider, w http.ResponseWriter, r *http.Request, _ func()) bool {
			if !p.serve(httptest.NewRecorder(), r) {
				return false
			}
			kubetest.Status(w, 500, "InternalError", "etcd has lost its leader")
			return true
		},
		"changed meanwhile": func(_ *provider, w http.ResponseWriter, r *http.Request, _ func()) bool {
			if r.Method != http.MethodPatch {
				return false
			}
			kubetest.Status(w, 409, "Conflict", "the object has been modified")
			return true
		},
		"forbidden": func(_ *provider, w http.ResponseWriter, _ *http.Request, _ func()) bool {
			kubetest.Status(w, 403, "Forbidden", "not allowed")
			return true
		},
	}
	end := func(p *provider) string {
		if p.Current() == nil {
			p.collectGarbage()
			return fmt.Sprintf("no Workflow | %v", p.rights())
		}
		return fmt.Sprintf("%s | %s | %s | %v | %v", p.state(), p.placement("bb12-0"), p.placement("bb12-1"), p.note(), p.rights())
	}
	for hook, h := range hooks {
		undisturbed := newProvider(t)
		undisturbed.in(Proposal, h.asks()...)
		d := undisturbed.driver(t)
		begin(t, hook, undisturbed, d)
		before := len(undisturbed.Requests())
		require.NoError(t, h.run(bounded(t), d))
		requests := len(undisturbed.Requests()) - before
		want := end(undisturbed)
		if strings.HasPrefix(hook, "post_run") || strings.HasPrefix(hook, "teardown") {
			require.Empty(t, undisturbed.rights())
		}
		assert.Greater(t, requests, 6)
		for name, fault := range faults {
			t.Run(hook+", "+name, func(t *testing.T) {
				t.Parallel()
				for at := 1; at <= requests; at++ {
					p := newProvider(t)
					p.in(Proposal, h.asks()...)
					d := p.driver(t)
					begin(t, hook, p, d)
					ctx, kill := context.WithCancel(bounded(t))
					var seen atomic.Int64
					p.Before = func(w http.ResponseWriter, r *http.Request) bool {
						if seen.Add(1) == int64(at) && !strings.Contains(r.URL.RawQuery, "watch=true") && fault(p, w, r, kill) {
							return true
						}
						return p.serve(w, r)
					}
					_ = h.run(ctx, d)
					kill()
					require.NoError(t, h.run(bounded(t), d), "request %d", at)
					assert.Equal(t, want, end(p), "request %d", at)
				}
			})
		}
	}
}
