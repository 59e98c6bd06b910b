package slurm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestController(t *testing.T) {
	tests := []struct {
		name, answer string
		want         Controller
		fails        string
	}{
		{"as Slurm prints it", "Configuration data as of 1795368080\nBOOT_TIME               = 1795368074\nMaxJobId                = 67043328\nNEXT_JOB_ID             = 12",
			Controller{time.Unix(1795368074, 0), 12}, ""},
		{"a time in other words", "BOOT_TIME = 2026-11-22T17:21:14\nNEXT_JOB_ID = 12", Controller{}, "cannot read"},
		{"no time", "NEXT_JOB_ID = 12", Controller{}, "no BOOT_TIME"},
		{"no counter", "BOOT_TIME = 1795368074", Controller{}, "no NEXT_JOB_ID"},
		{"a counter that is none", "BOOT_TIME = 1795368074\nNEXT_JOB_ID = N/A", Controller{}, "cannot read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "scontrol", "printf '%s\\n' '"+tt.answer+"'")
			got, err := Commands{Dir: dir}.Controller(t.Context())
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestTheCounterHasPassedAJob(t *testing.T) {
	const second = 2 << 26 // of a federation
	tests := []struct {
		name           string
		next, id       uint32
		passed, origin bool
	}{
		{"an earlier job", 12, 11, true, true},
		{"the next job", 12, 12, false, true},
		{"a job of a lost state, or from before the ids began again", 12, 4000, false, true},
		{"a federation: an earlier job of this cluster", second + 12, second + 11, true, true},
		{"a federation: a later job of this cluster", second + 12, second + 13, false, true},
		{"a federation: a job of another cluster with a lower number", second + 12, 1<<26 + 3, false, false},
		{"a federation: a job of another cluster with a higher number", second + 12, 3<<26 + 3, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Controller{NextJob: tt.next}
			assert.Equal(t, tt.passed, c.Passed(tt.id))
			assert.Equal(t, tt.origin, c.SameOrigin(tt.id))
		})
	}
}
