package api

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// DWS serves two versions at a time and drops the older one with each release.
func TestTheVersionOfDWSIsFoundOut(t *testing.T) {
	c := own(t)
	s := c.newSite(t)
	lifecycle := func(t *testing.T, version string) {
		t.Helper()
		j := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
		for _, step := range []string{"setup", "data_in", "test_data_in", "pre_run"} {
			j.ok(step)
		}
		written := ""
		for _, fields := range j.get().GetManagedFields() {
			if fields.Manager == "slurmk8s" {
				written = fields.APIVersion
			}
		}
		assert.Equal(t, dwssim.Group+"/"+version, written)
		j.ok("job_teardown")
	}

	t.Run("none", func(t *testing.T) {
		j := s.job("#DW Setup action=complete")
		for _, name := range []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "job_teardown"} {
			assert.Equal(t, "DWS is not installed in Kubernetes: no API group "+dwssim.Group, j.fails(name, "DEADLINE_MS=30000"))
		}
	})
	t.Run("v1alpha6 and v1alpha7", func(t *testing.T) {
		c.serve(t, "v1alpha6", "v1alpha7")
		lifecycle(t, "v1alpha7")
	})
	waiting := s.job("#DW jobdw type=xfs capacity=1GiB name=ab")
	t.Run("a job that waits while its version is dropped", func(t *testing.T) {
		waiting.ok("setup")
		c.serve(t, "v1alpha8", "v1alpha9")
		for _, step := range []string{"data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out", "job_teardown"} {
			waiting.ok(step)
		}
		assert.Empty(t, s.names())
	})
	t.Run("only v1alpha7", func(t *testing.T) {
		c.serve(t, "v1alpha7")
		lifecycle(t, "v1alpha7")
	})
	t.Run("only v1alpha8, which is not known yet", func(t *testing.T) {
		c.serve(t, "v1alpha8")
		lifecycle(t, "v1alpha8")
	})
	t.Run("a hook that waits while its version is dropped goes on in the next one", func(t *testing.T) {
		j := s.job("#DW Teardown action=wait")
		j.ok("setup")
		done := j.start("job_teardown")
		j.wait("in Teardown", entered(dwssim.Teardown))
		c.serve(t, "v1alpha9")
		c.server.StopAPIServer() // ends the watch
		if err := c.server.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		j.complete(dwssim.Teardown)
		o := <-done
		assert.Equal(t, wire.OK, o.code, o.message)
		assert.Empty(t, s.names())
	})
}
