package dwssim

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDirectives(t *testing.T) {
	const jobdw = "#DW jobdw type=xfs capacity=1TiB name=scratch"
	tests := []struct {
		name      string
		directive string
		// refusal is part of the error; empty means accepted.
		refusal string
	}{
		{"a state and an action are enough", "#DW Setup action=complete", ""},
		{"all of the test driver's arguments", "#DW PreRun action=error message=a_b severity=Major delay=2s", ""},
		{"several variables", "#DW PreRun action=complete env=A:b,C:d:e,F:", ""},
		{"white space does not matter", "#DW   Setup\taction=wait  ", ""},
		{"a job's storage", jobdw, ""},
		{"a job's storage with all arguments", jobdw + " profile=fast delay=10ms", ""},
		{"a capacity in bytes", "#DW jobdw type=raw capacity=4096 name=a", ""},
		{"a capacity of decimal units", "#DW jobdw type=raw capacity=10GB name=a", ""},
		{"copies", "#DW copy_in source=/home/a destination=$DW_JOB_scratch/", ""},
		{"a persistent instance is made", "#DW create_persistent type=lustre capacity=1TiB name=data", ""},
		{"a persistent instance is destroyed", "#DW destroy_persistent name=data", ""},
		{"no instance to destroy", "#DW destroy_persistent", "missing required argument '^name$'"},
		{"a value may hold an equal sign", "#DW copy_out source=/a=b destination=/c", ""},

		{"another prefix", "#BB Setup action=complete", "missing '#DW' prefix"},
		{"an empty line", "", "missing '#DW' prefix"},
		{"an unknown command", "#DW stage_in type=file", "invalid directive '#DW stage_in type=file'"},
		{"a state in another case", "#DW setup action=complete", "invalid directive"},
		{"no action", "#DW Setup message=a", "missing required argument '^action$'"},
		{"no capacity", "#DW jobdw type=xfs name=a", "missing required argument '^capacity$'"},
		{"an argument of another command", jobdw + " action=wait", "unsupported argument 'action'"},
		{"an argument twice", "#DW Setup action=wait action=wait", "repeated argument 'action'"},
		{"an argument without equal sign", "#DW Setup action", "argument 'action' requires value"},
		{"an argument without value", "#DW Setup action=", "argument 'action' requires value"},
		{"an unknown action", "#DW Setup action=explode", "argument 'action' has invalid value 'explode'"},
		{"an unknown severity", "#DW Setup action=error severity=fatal", "argument 'severity' has invalid value"},
		{"an unknown type", "#DW jobdw type=ext4 capacity=1GB name=a", "argument 'type' has invalid value"},
		{"an unknown unit", "#DW jobdw type=xfs capacity=1XB name=a", "argument 'capacity' has invalid value"},
		{"a delay that is no duration", "#DW Setup action=complete delay=2", "argument 'delay' has invalid value"},
		{"a negative delay", "#DW Setup action=complete delay=-2s", "it is negative"},
		{"a variable without value", "#DW Setup action=complete env=A", "'A' is not NAME:VALUE"},
		{"a variable that no shell could read", "#DW Setup action=complete env=A-B:c", "'A-B:c' is not NAME:VALUE"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := checkDirectives([]string{"#DW Proposal action=complete", test.directive})
			if test.refusal == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.refusal)
		})
	}
}

func TestABlankDirectiveIsAnErrorOfItsOwn(t *testing.T) {
	for _, blank := range []string{"#DW", "#DW ", " #DW\t"} {
		_, err := checkDirectives([]string{blank})
		assert.ErrorIs(t, err, errBlankDirective, "%q", blank)
	}
}
