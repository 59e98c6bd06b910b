package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// slurm.conf names the program, and Slurm gives it no arguments.
func TestWithoutArgumentsTheProgramGoesBySlurmsContext(t *testing.T) {
	t.Setenv("SLURM_JOB_ID", "not a job") // so that neither does anything
	for context, want := range map[string]string{"prolog_slurmctld": "prolog-slurmctld", "epilog_slurmctld": "epilog-slurmctld", "": "", "prolog_slurmd": ""} {
		t.Setenv("SLURM_SCRIPT_CONTEXT", context)
		assert.Equal(t, want, slurmctldCommand())
		status := exitFailed
		if want == "" {
			status = exitUsage
		}
		assert.Equal(t, status, run(t.Context(), nil), context)
	}
}
