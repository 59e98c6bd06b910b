package api

import (
	"fmt"
	"os/user"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// status asks for a job's bbstat as a uid; "" is 22.05, which names nobody. Slurm
// tells nothing else of the job in that hook.
func (j *job) status(uid string) (wire.Code, wire.Fields) {
	asking := *j
	asking.fields = wire.Fields{
		wire.KeyConfig: j.fields[wire.KeyConfig], wire.KeyStateDir: j.fields[wire.KeyStateDir],
		"ARG1": "workflow", "ARG2": fmt.Sprint(j.id), wire.KeyDeadlineMS: "30000",
	}
	if uid != "" {
		asking.fields[wire.KeyUID], asking.fields[wire.KeyGID] = uid, "0"
	}
	return asking.reply("get_status")
}

func TestTheTextOfBBStat(t *testing.T) {
	for name, call := range fronts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared(t).newSite(t)
			j := s.job("#DW DataIn action=error severity=Minor message=a=b_c")
			j.call = call
			j.ok("setup")
			code, reply := j.status("1000")
			require.Equal(t, wire.OK, code, reply)
			assert.True(t, strings.HasPrefix(reply[wire.KeyText], "desiredState=Setup currentState=Setup status=Completed ready=true"), reply[wire.KeyText])

			j.ok("data_in")
			j.wait("to report", func(w *dwssim.Workflow) bool { return w.Status.Message != "" })
			_, reply = j.status("1000")
			text := reply[wire.KeyText]
			assert.True(t, strings.HasPrefix(text, "desiredState=DataIn currentState=DataIn status=DriverWait ready=false"), text)
			assert.Contains(t, text, "message=DW_Directive_0:_Reported_error:_a")
			for _, word := range strings.Fields(text) {
				assert.Equal(t, 1, strings.Count(word, "="), word)
			}
			assert.NotContains(t, text, "\n")
		})
	}
}

func TestWhoMayAskForBBStat(t *testing.T) {
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	s := shared(t).newSite(t, `operators = ["nobody"]`)
	j := s.job("#DW Setup action=complete")
	j.ok("setup")
	tests := []struct {
		name, uid string
		want      string // a part of the text; "" means refused
	}{
		{"the owner", "1000", "workflow="},
		{"root", "0", "workflow="},
		{"an operator", nobody.Uid, "workflow="},
		{"another user", "1001", ""},
		{"a uid that nobody has", "4000000000", ""},
		{"22.05 does not say who asks: three words", "", "desiredState=Setup currentState=Setup status=Completed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, reply := j.status(tt.uid)
			if tt.want == "" {
				assert.Equal(t, wire.Failed, code)
				assert.Empty(t, reply[wire.KeyText])
				assert.Equal(t, fmt.Sprintf("job %d belongs to another user", j.id), reply[wire.KeyMessage])
				return
			}
			assert.Equal(t, wire.OK, code, reply)
			assert.Contains(t, reply[wire.KeyText], tt.want)
			if tt.uid == "" {
				assert.Equal(t, tt.want, reply[wire.KeyText], "and no more")
			}
		})
	}
	code, reply := s.job().status("0")
	assert.Equal(t, wire.Failed, code)
	assert.Contains(t, reply[wire.KeyMessage], "has no workflow")
}
