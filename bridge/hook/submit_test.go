package hook

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// refusing is a DWS whose webhook refuses with text.
func refusing(t *testing.T, text string) *kubetest.Workflows {
	s := kubetest.NewWorkflows(t)
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		kubetest.Status(w, 403, "Forbidden", `admission webhook "v.kb.io" denied the request: `+text)
		return true
	}
	return s
}

func TestAMistakeInADirectiveIsTheUsers(t *testing.T) {
	s := newSite(t, "/nonexistent/kubeconfig", "")
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields("#!/bin/sh\n#DW\n"))
	assert.Equal(t, wire.Refused, code)
	assert.Equal(t, `line 2: "#DW" has no command`, reply[wire.KeyMessage])
}

func TestWhatAWebhookSaysStaysOneLineOfTheMessageAndOfTheLog(t *testing.T) {
	api := refusing(t, "no \nlevel=info msg=forged\r\x1b[2J")
	s := newSite(t, api.Kubeconfig(), "")
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script))
	assert.Equal(t, wire.Refused, code)
	oneLine(t, reply[wire.KeyMessage])
	assert.True(t, strings.HasPrefix(reply[wire.KeyMessage], "no "), reply[wire.KeyMessage])
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(log), "\n"), "%s", log)
	assert.True(t, strings.HasPrefix(string(log), "time="))
}

func TestSubmissionWhenKubernetesIsAway(t *testing.T) {
	for policy, want := range map[string]wire.Code{"accept": wire.OK, "refuse": wire.Refused} {
		t.Run(policy, func(t *testing.T) {
			server := hung(t)
			s := newSite(t, server.Kubeconfig(), fmt.Sprintf("on_unreachable = %q", policy))
			submit := func() (wire.Code, wire.Fields) {
				return Run(t.Context(), "slurm_bb_job_process", s.fields(script, "DEADLINE_MS=200"))
			}
			code, reply := submit()
			assert.Equal(t, want, code, reply)
			asked := len(server.Requests())
			assert.NotZero(t, asked)

			code, reply = submit()
			assert.Equal(t, want, code, reply)
			assert.Len(t, server.Requests(), asked, "the breaker is open: nobody is asked")
			if policy == "refuse" {
				assert.Contains(t, reply[wire.KeyMessage], "try again later")
			}

			code, _ = Run(t.Context(), "slurm_bb_job_process", s.fields("#!/bin/sh\n#DW\n"))
			assert.Equal(t, wire.Refused, code, "syntax is judged all the same")

			_, reply = Run(t.Context(), "slurm_bb_get_status", s.fields("", "ARG1=workflow", "ARG2=12"))
			assert.Contains(t, reply[wire.KeyMessage], "try again later")
			assert.Len(t, server.Requests(), asked, "bbstat holds a lock of slurmctld's: it asks nobody either")
		})
	}
}

func TestASubmissionThatWasKilledHasTrippedTheBreaker(t *testing.T) {
	api := kubetest.NewWorkflows(t)
	s := newSite(t, api.Kubeconfig(), "")
	// What a hook that is killed between Begin and Reset leaves.
	require.NoError(t, os.WriteFile(filepath.Join(s.state, "breaker"), nil, 0o600))
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script))
	assert.Equal(t, wire.OK, code, reply)
	assert.Empty(t, api.Requests())
}

func TestARefusalIsAnAnswerAndTripsNothing(t *testing.T) {
	api := refusing(t, "no")
	s := newSite(t, api.Kubeconfig(), "")
	for range 2 {
		code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script))
		assert.Equal(t, wire.Refused, code)
		assert.Equal(t, "no", reply[wire.KeyMessage])
	}
	assert.Equal(t, 2, api.Count(http.MethodPost, ""))
}

func TestHowASubmissionIsJudged(t *testing.T) {
	tests := []struct {
		submit       string
		posts        int
		dryRun, kept bool
	}{
		{"dry-run", 1, true, false},
		{"create", 1, false, true},
		{"local", 0, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.submit, func(t *testing.T) {
			api := kubetest.NewWorkflows(t)
			s := newSite(t, api.Kubeconfig(), fmt.Sprintf("submit = %q", tt.submit))
			code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script))
			assert.Equal(t, wire.OK, code, reply)
			assert.Equal(t, tt.posts, api.Count(http.MethodPost, ""))
			assert.Equal(t, tt.dryRun, api.Count(http.MethodPost, "dryRun=All") == 1)
			assert.Equal(t, tt.kept, api.Current() != nil)
		})
	}
}

func TestRulesAboutStorageJudgeAtTheSubmissionAndInSetup(t *testing.T) {
	const text = "#!/bin/sh\n#DW small\ntrue\n"
	s := newSite(t, "/nonexistent/kubeconfig", `submit = "local"
[[workflows.allow]]
accounts = ["p1"]
max = ["xfs=1TiB"]
[[workflows.presets]]
name = "small"
directives = ["#DW jobdw type=xfs capacity=2TiB name=a"]`)
	require.NoError(t, os.Chmod(s.write("squeue", "#!/bin/sh\necho '12|0|root|p1|main'\n"), 0o700))
	want := "capacity 2TiB: user root may have at most 1TiB of xfs on each node [#DW jobdw type=xfs capacity=2TiB name=a]"
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(text, "UID=0", "USER_NAME=root", "ACCOUNT=p1"))
	assert.Equal(t, wire.Refused, code)
	assert.Equal(t, want, reply[wire.KeyMessage])
	code, reply = Run(t.Context(), "slurm_bb_job_process", s.fields(text, "UID=0", "USER_NAME=root", "ACCOUNT=p2"))
	assert.Equal(t, wire.Refused, code)
	assert.Contains(t, reply[wire.KeyMessage], "user root may not have storage")
	_, reply = Run(t.Context(), "slurm_bb_setup", s.fields(text, "UID=0"))
	assert.Equal(t, want, reply[wire.KeyMessage])
	f := s.fields(text)
	delete(f, wire.KeyUID)
	code, reply = Run(t.Context(), "slurm_bb_job_process", f)
	assert.Equal(t, wire.OK, code, "Slurm 22.05 does not tell whose job it is: %v", reply)
}
