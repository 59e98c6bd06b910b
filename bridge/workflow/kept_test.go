package workflow

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// hooks is a controller host: each call of next is the driver of another process.
type hooks struct {
	*kubetest.Workflows
	t     *testing.T
	state string
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{kubetest.NewWorkflows(t), t, t.TempDir()}
	h.React = doneAtOnce
	return h
}

func (h *hooks) next() *Driver {
	cfg, client, log := newClient(h.t, h.Workflows, func(c *slurmconf.Config) { c.StateDir = h.state })
	d, err := Resume(h.t.Context(), cfg, client, log)
	require.NoError(h.t, err)
	return d
}

func (h *hooks) setup() {
	h.t.Helper()
	_, err := h.next().Setup(bounded(h.t), theJob, []string{"#DW a"})
	require.NoError(h.t, err)
}

// sent are the requests since the last call, by method.
func (h *hooks) sent(before int) []string {
	methods := []string{}
	for _, r := range h.Requests()[before:] {
		methods = append(methods, r.Method)
	}
	return methods
}

func TestAHookGoesOnWithTheWorkflowAsTheLastOneLeftIt(t *testing.T) {
	h := newHooks(t)
	h.setup()
	at := len(h.Requests())
	require.NoError(t, h.next().Request(bounded(t), theJob, DataIn))
	assert.Equal(t, []string{"PATCH"}, h.sent(at), "neither discovery nor a read")
	assert.Equal(t, "DataIn", kubetest.Part(h.Current(), "spec")["desiredState"])
}

func TestWhatTheLastHookLeftIsOnlyAGuess(t *testing.T) {
	to := func(desired State) func(*testing.T, *hooks) {
		return func(_ *testing.T, h *hooks) { h.Change(is(desired, desired, true, "Completed")) }
	}
	another := func(_ *testing.T, h *hooks) {
		h.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "another"; return o })
	}
	damaged := func(text string) func(*testing.T, *hooks) {
		return func(t *testing.T, h *hooks) {
			require.NoError(t, hostfile.Write(filepath.Join(hostfile.OfJob(h.state, filesPrefix, 12), lastFile), text, 0o600))
		}
	}
	tests := map[string]struct {
		change      func(*testing.T, *hooks)
		stage       string // what data_in says; "": nothing
		desired     State  // after data_in
		afterTheEnd string // the uid of what teardown leaves; "": nothing
	}{
		"nothing happened":                {func(*testing.T, *hooks) {}, "", DataIn, ""},
		"it was changed":                  {to(Setup), "", DataIn, ""},
		"another hook was faster":         {to(DataIn), "", DataIn, ""},
		"it is in Teardown":               {to(Teardown), "is in Teardown and cannot go to DataIn", Teardown, ""},
		"there is another one of the job": {another, "", DataIn, ""},
		"it is gone":                      {func(_ *testing.T, h *hooks) { h.Change(func(kubetest.Object) kubetest.Object { return nil }) }, "no longer exists", "", ""},
		"the file is cut":                 {damaged(`{"Name":"bb12"`), "", DataIn, ""},
		"the file is empty":               {damaged(""), "", DataIn, ""},
		"the file is of another job":      {damaged(`{"Name":"bb13","Namespace":"slurm","UID":"u","ResourceVersion":"1","Desired":"Setup"}`), "", DataIn, ""},
		"the file is of an unknown state": {damaged(`{"Name":"bb12","Namespace":"slurm","UID":"u","ResourceVersion":"1","Desired":"Later"}`), "", DataIn, ""},
		"somebody else has taken its name": {func(_ *testing.T, h *hooks) {
			h.Change(func(o kubetest.Object) kubetest.Object {
				kubetest.Meta(o)["uid"] = "another"
				delete(kubetest.Meta(o), "labels")
				return o
			})
		}, "was not made by slurmk8s", Setup, "another"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t)
			h.setup()
			tt.change(t, h)
			err := h.next().Request(bounded(t), theJob, DataIn)
			if tt.stage != "" {
				require.ErrorContains(t, err, tt.stage)
			} else {
				require.NoError(t, err)
			}
			if tt.desired != "" {
				assert.Equal(t, string(tt.desired), kubetest.Part(h.Current(), "spec")["desiredState"])
			}
		})
		t.Run(name+", teardown", func(t *testing.T) {
			h := newHooks(t)
			h.setup()
			tt.change(t, h)
			_, err := h.next().Teardown(bounded(t), theJob)
			require.NoError(t, err)
			if tt.afterTheEnd == "" {
				assert.Nil(t, h.Current())
				return
			}
			assert.Equal(t, tt.afterTheEnd, kubetest.Meta(h.Current())["uid"])
			assert.Equal(t, string(Setup), kubetest.Part(h.Current(), "spec")["desiredState"])
		})
	}
}

func TestAWorkflowThatDWSIsNotDoneWithIsRead(t *testing.T) {
	h := newHooks(t)
	h.setup()
	h.React = nil
	require.NoError(t, h.next().Request(bounded(t), theJob, DataIn))
	at := len(h.Requests())
	require.NoError(t, h.next().Request(bounded(t), theJob, DataIn))
	assert.Equal(t, "GET", h.sent(at)[len(h.sent(at))-1])
	assert.Equal(t, "DataIn", kubetest.Part(h.Current(), "spec")["desiredState"])
}

// What a driver reports after the last hook counts, though that hook saw none of it.
func TestAFailureThatNoHookSawIsFoundInTeardown(t *testing.T) {
	h := newHooks(t)
	h.setup()
	h.Change(func(o kubetest.Object) kubetest.Object {
		kubetest.Part(o, "status")["drivers"] = []any{kubetest.Object{"watchState": "Setup", "status": "Error", "dwdIndex": 0}}
		return o
	})
	result, err := h.next().Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.True(t, result.FailedBeforeRun)
}

func TestAConditionThatOutlastedItsGraceIsFoundInTeardown(t *testing.T) {
	h := newHooks(t)
	h.setup()
	h.Change(func(o kubetest.Object) kubetest.Object {
		kubetest.Part(kubetest.Meta(o), "annotations")[annotationTransientSince] = "2026-01-01T00:00:00Z"
		kubetest.Part(o, "status")["drivers"] = []any{kubetest.Object{"watchState": "Setup", "status": "TransientCondition", "dwdIndex": 0}}
		return o
	})
	result, err := h.next().Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.True(t, result.FailedBeforeRun)
}

// afterTheRun runs the job's hooks up to its end.
func (h *hooks) afterTheRun() {
	h.t.Helper()
	h.setup()
	h.Change(is(PreRun, PreRun, true, "Completed"))
	_, err := h.next().Await(bounded(h.t), theJob, DataOut)
	require.NoError(h.t, err)
}

func (h *hooks) keptFile() string {
	return filepath.Join(hostfile.OfJob(h.state, filesPrefix, theJob.ID), lastFile)
}

func TestATeardownOfAWorkflowThatWasMadeAnewReadsIt(t *testing.T) {
	h := newHooks(t)
	h.afterTheRun()
	h.Change(func(o kubetest.Object) kubetest.Object { kubetest.Meta(o)["uid"] = "another"; return o })
	_, err := h.next().Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.Nil(t, h.Current())
}

// Slurm runs slurm_bb_job_teardown again until it succeeds.
func TestATeardownThatIsRunAgainIsNotAskedForAgain(t *testing.T) {
	h := newHooks(t)
	h.afterTheRun()
	h.React = nil
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for range 2 {
		_, err := h.next().Teardown(ctx, theJob)
		require.Error(t, err)
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
	}
	asked := 0
	for _, r := range h.Requests() {
		if r.Method == http.MethodPatch && strings.Contains(r.Body, `"Teardown"`) {
			asked++
		}
	}
	assert.Equal(t, 1, asked, "else the time of the Teardown begins anew")
}

func TestWhatAnEarlierRunOfTheJobHasKeptGoesWithItsWorkflow(t *testing.T) {
	h := newHooks(t)
	h.afterTheRun()
	require.FileExists(t, h.keptFile())
	h.React = nil // so that the next setup keeps nothing
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := h.next().Setup(ctx, theJob, []string{"#DW a"})
	require.Error(t, err)
	assert.NoFileExists(t, h.keptFile())
}

// Quota, webhooks and policies judge an object before the server looks whether there is one.
func TestASetupThatIsRunAgainFindsItsWorkflowThoughItCouldNotBeMadeNow(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter){
		"quota": func(w http.ResponseWriter) {
			kubetest.Status(w, 403, "Forbidden", `workflows "bb12" is forbidden: exceeded quota: q`)
		},
		"webhook": func(w http.ResponseWriter) {
			kubetest.Status(w, 403, "Forbidden", `admission webhook "v.kb.io" denied the request: no`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t)
			full := false
			h.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if full && r.Method == http.MethodPost {
					refuse(w)
					return true
				}
				return false
			}
			h.setup()
			uid := kubetest.Meta(h.Current())["uid"]
			full = true
			h.setup()
			assert.Equal(t, uid, kubetest.Meta(h.Current())["uid"])

			h.Change(func(kubetest.Object) kubetest.Object { return nil })
			_, err := h.next().Setup(bounded(t), theJob, []string{"#DW a"})
			require.ErrorContains(t, err, map[string]string{"quota": "exceeded quota", "webhook": "no"}[name])
		})
	}
}

func TestADestroyOfAJobThatDidNotRunIsNoTeardown(t *testing.T) {
	h := newHooks(t)
	_, err := h.next().Setup(bounded(t), theJob, []string{"#DW destroy_persistent name=data"})
	require.NoError(t, err)
	var asked []string
	h.Before = func(_ http.ResponseWriter, r *http.Request) bool { asked = append(asked, r.Method); return false }
	_, err = h.next().Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.NotContains(t, asked, "PATCH")
	assert.Contains(t, asked, "DELETE")
}

func TestAVersionCountsForAWhile(t *testing.T) {
	discoveries := func(h *hooks) int { return h.Count(http.MethodGet, "/apis/"+kubetest.Group+"?") }
	h := newHooks(t)
	h.next()
	h.next()
	assert.Equal(t, 1, discoveries(h))

	path := Files(h.state).versionPath()
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for _, at := range []time.Time{time.Now().Add(-versionLife - time.Minute), time.Now().Add(time.Hour)} {
		require.NoError(t, os.Chtimes(path, at, at))
		h.next()
	}
	assert.Equal(t, 3, discoveries(h), "an old one does not, nor one of the future")
	Files(h.state).ForgetVersion()
	h.next()
	assert.Equal(t, 4, discoveries(h))
	require.NoError(t, hostfile.Write(path, "", 0o600))
	h.next()
	assert.Equal(t, 5, discoveries(h))
}

// Setup waits twice, Teardown for its end and for the end of the Workflow.
func TestWaitsForOneWorkflowShareAWatch(t *testing.T) {
	h := newHooks(t)
	watches := func() int { return h.Count(http.MethodGet, "watch=true") }
	h.setup()
	assert.Equal(t, 1, watches())
	_, err := h.next().Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.Equal(t, 2, watches())
	assert.Nil(t, h.Current())
	assert.Eventually(t, func() bool { return h.Watches() == 0 }, patience, time.Millisecond, "and end it")
	assert.Equal(t, 1, len(slices.DeleteFunc(h.sent(0), func(m string) bool { return m != http.MethodDelete })))
}

// Setup's watch tells of a change in Proposal after Setup was asked for.
func TestWhatCameBeforeARequestIsNoNewsOfIt(t *testing.T) {
	h := newHooks(t)
	h.React = func(o kubetest.Object) kubetest.Object {
		if kubetest.Part(o, "spec")["desiredState"] == string(Proposal) {
			return doneAtOnce(o)
		}
		return nil
	}
	asked := make(chan bool, 10)
	h.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			if len(asked) == 0 {
				h.Change(func(o kubetest.Object) kubetest.Object {
					kubetest.Part(kubetest.Meta(o), "annotations")["somebody"] = "else"
					return o
				})
			}
			asked <- true
		}
		return false
	}
	go func() {
		for h.Current() == nil || kubetest.Part(h.Current(), "spec")["desiredState"] != string(Setup) {
			if t.Context().Err() != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // for a hook that does not wait
		h.Change(is(Setup, Setup, true, "Completed"))
	}()
	h.setup()
	assert.Len(t, asked, 2, "the first request was a conflict")
	assert.Equal(t, string(Setup), kubetest.Part(h.Current(), "status")["state"])
}
