package api

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

func TestDWSsWordsReachTheUser(t *testing.T) {
	tests := []struct{ name, directive, want string }{
		{"a command that does not exist", "#DW no-such-command", "invalid directive '#DW no-such-command'"},
		{"an argument that is missing", "#DW jobdw type=xfs name=ab", "missing required argument 'capacity' [#DW jobdw type=xfs name=ab]"},
		{"an argument that is not known", "#DW Setup action=wait colour=red", "unsupported argument 'colour'"},
		{"quotes and percent signs as they are", `#DW jobdw a="%d" b='x'`, `unsupported argument 'a' [#DW jobdw a="%d" b='x']`},
	}
	for name, call := range fronts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			for _, tt := range tests {
				j := s.job(tt.directive)
				j.call = call
				// At the prompt, and by slurm_bb_setup for a job that was accepted unseen.
				for _, name := range []string{"job_process", "setup"} {
					code, message := j.run(name, "DEADLINE_MS=30000")
					assert.Equal(t, wire.Refused, code, "%s: %s", tt.name, message)
					assert.Contains(t, message, tt.want, tt.name)
					assert.NotContains(t, message, "admission webhook")
				}
			}
			assert.Empty(t, s.names())
		})
	}
}

func TestSubmitCreateMakesTheWorkflowThatSetupUses(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t, `submit = "create"`)
	j := s.job("#DW Setup action=complete")
	j.ok("job_process", "DEADLINE_MS=30000")
	made := j.wait("in Proposal", dwssim.Ready(dwssim.Proposal))
	j.ok("job_process", "DEADLINE_MS=30000")
	assert.Equal(t, made.UID, j.workflow().UID)
	j.ok("setup")
	assert.Equal(t, made.UID, j.workflow().UID)
	// Cancelled while pending: teardown from here.
	j.ok("job_teardown", "HURRY=true")
	assert.Empty(t, s.names())
}

func TestSubmitLocalAsksNobody(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t, `submit = "local"`)
	s.credential("token: wrong")
	s.job("#DW no-such-command").ok("job_process")
}

func TestADryRunOfAJobWhoseWorkflowExistsIsStillJudged(t *testing.T) {
	t.Parallel()
	s := shared(t).newSite(t)
	j := s.job("#DW Setup action=complete")
	j.bring(dwssim.Setup)
	j.ok("job_process", "DEADLINE_MS=30000")
	j.in(dwssim.Setup)
}
