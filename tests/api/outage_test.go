package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// One test with a server of its own: its parts stop it, one after the other.
func TestOutages(t *testing.T) {
	c := own(t, dwssim.DefaultVersions...)
	up := func(t *testing.T) {
		t.Helper()
		require.NoError(t, c.server.StartAPIServer(t.Context()))
	}

	for policy, want := range map[string]wire.Code{"accept": wire.OK, "refuse": wire.Refused} {
		t.Run("submission, on_unreachable = "+policy, func(t *testing.T) {
			s := c.newSite(t, `on_unreachable = "`+policy+`"`, `breaker = "10m"`)
			j := s.job("#DW no-such-command")
			c.server.StopAPIServer()
			code, message := j.run("job_process", "DEADLINE_MS=500")
			assert.Equal(t, want, code, message)
			if policy == "refuse" {
				assert.Contains(t, message, "storage cannot be checked now, try again later")
				assert.Contains(t, message, "connection refused")
			}
			assert.FileExists(t, filepath.Join(s.path("state"), "breaker"))

			// Now it would answer, and refuse: so the breaker is what decides.
			up(t)
			code, message = j.run("job_process", "DEADLINE_MS=30000")
			assert.Equal(t, want, code, message)
			if policy == "refuse" {
				assert.Contains(t, message, "a moment ago")
			}
			assert.Contains(t, j.fails("get_status", "ARG1=workflow", "ARG2=1", "UID=0"), "a moment ago")

			// When its time is over, DWS is asked again, and its answer closes it.
			then := time.Now().Add(-11 * time.Minute)
			require.NoError(t, os.Chtimes(filepath.Join(s.path("state"), "breaker"), then, then))
			code, message = j.run("job_process", "DEADLINE_MS=30000")
			assert.Equal(t, wire.Refused, code)
			assert.Contains(t, message, "invalid directive")
			assert.NoFileExists(t, filepath.Join(s.path("state"), "breaker"))
		})
	}

	t.Run("submission, a server that hangs", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW Setup action=complete")
		require.NoError(t, c.server.PauseAPIServer())
		code, message := j.run("job_process", "DEADLINE_MS=300")
		require.NoError(t, c.server.ResumeAPIServer())
		assert.Equal(t, wire.OK, code, message)
		assert.FileExists(t, filepath.Join(s.path("state"), "breaker"))
	})

	t.Run("submission, a webhook that is down is no refusal", func(t *testing.T) {
		s := c.newSite(t)
		c.sim.SetWebhookDown(true)
		code, message := s.job("#DW no-such-command").run("job_process", "DEADLINE_MS=500")
		c.sim.SetWebhookDown(false)
		assert.Equal(t, wire.OK, code, message)
	})

	t.Run("submission, without a ruleset", func(t *testing.T) {
		s := c.newSite(t)
		c.sim.SetRuleset(false)
		code, message := s.job("#DW Setup action=complete").run("job_process", "DEADLINE_MS=30000")
		c.sim.SetRuleset(true)
		assert.Equal(t, wire.Refused, code)
		assert.Contains(t, message, "unable to find ruleset in namespace")
	})

	t.Run("a restart in the middle of a wait", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW Setup action=wait env=IN:1")
		done := j.start("setup")
		j.wait("in Setup", entered(dwssim.Setup))
		c.server.StopAPIServer()
		up(t)
		j.complete(dwssim.Setup)
		assert.Equal(t, outcome{wire.OK, ""}, <-done, s.log())
		assert.Equal(t, "1", j.env()["IN"])
		j.ok("job_teardown")
	})

	t.Run("a hook that begins while the server is away waits for it", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW Setup action=complete")
		// An API server answers before it knows its roles, its accounts and its kinds.
		for range 3 {
			c.server.StopAPIServer()
			before := strings.Count(s.log(), "connection refused")
			done := j.start("setup")
			eventually.True(t, "the hook has met the outage", func() bool { return strings.Count(s.log(), "connection refused") > before })
			up(t)
			require.Equal(t, outcome{wire.OK, ""}, <-done)
			j.in(dwssim.Setup)
		}

		c.server.StopAPIServer()
		done := j.start("job_teardown")
		up(t)
		assert.Equal(t, outcome{wire.OK, ""}, <-done)
		assert.Empty(t, s.names())
	})

	t.Run("polls answer BUSY while the server is away", func(t *testing.T) {
		s := c.newSite(t, `busy_wait = "100ms"`)
		j := s.job("#DW DataIn action=complete")
		j.ok("setup")
		j.ok("data_in")
		c.server.StopAPIServer()
		code, message := j.run("test_data_in")
		assert.Equal(t, wire.Busy, code, message)
		up(t)
		j.ok("test_data_in")
	})

	t.Run("a hook whose deadline comes first says what was the matter", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW Setup action=complete")
		j.ok("setup")
		c.server.StopAPIServer()
		for _, name := range []string{"setup", "data_in", "pre_run", "job_teardown"} {
			assert.Contains(t, j.fails(name, "DEADLINE_MS=2000"), "connection refused")
		}
		up(t)
		j.in(dwssim.Setup)
		j.ok("job_teardown")
	})

	t.Run("a state that is slow to be taken up is not taken for reached", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
		c.sim.SetWebhookDelay(100 * time.Millisecond)
		defer c.sim.SetWebhookDelay(0)
		for _, step := range steps[1:6] {
			if strings.HasPrefix(step.hook, "test_") {
				j.ok(strings.TrimPrefix(step.hook, "test_"))
			}
			j.ok(step.hook)
			j.in(step.state)
		}
		j.ok("job_teardown")
	})

	t.Run("DWS is away: what is waited for is said", func(t *testing.T) {
		s := c.newSite(t)
		j := s.job("#DW Setup action=complete")
		j.ok("setup")
		c.sim.Stop()
		message := j.fails("data_in", "DEADLINE_MS=5000", "BUSY=")
		assert.Contains(t, message, "failed calling webhook")
		c.serve(t, dwssim.DefaultVersions...)
		j.ok("data_in")
		j.ok("job_teardown")
	})
}
