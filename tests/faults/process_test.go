package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInsaneRuns(t *testing.T) {
	tests := []struct {
		name, script, wrong string
	}{
		{"done in silence", "exit 0", ""},
		{"done with a reply", `printf 'TEXT=two\nlines\0'`, ""},
		{"failed with one line", `printf 'MESSAGE=no API\0'; exit 3`, ""},
		{"echoes its input", `cat`, ""},
		{"failed without a word", "exit 3", "exit status 3 without a MESSAGE"},
		{"message of two lines", `printf 'MESSAGE=a\nb\0'; exit 3`, "MESSAGE is not one line"},
		{"reply without NUL", `printf 'MESSAGE=a'`, "does not end with NUL"},
		{"reply without a key", `printf 'hello\0'`, "without KEY="},
		{"internal error", "exit 125", "exit status 125"},
		{"ended by a signal of its own", "kill -SEGV $$", "exit status -1"},
		{"Go panic", "echo 'panic: nil map' >&2; exit 2", "crash text"},
		{"secret shown", "echo Bearer " + token + " >&2", "shows its token"},
		{"chatter on standard error", "echo E1122 retrying >&2", "wrote to standard error"},
		{"child left behind", "sleep 5 >/dev/null 2>&1 & exit 0", "left a process behind"},
		{"deadline passed", "sleep 2", "took 2"},
		{"never ends", "sleep 60", "took 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := Command{Argv: []string{"/bin/sh", "-c", tt.script}, Fields: map[string]string{"JOB_ID": "7", "A": "b=c"}}
			deadline := 500 * time.Millisecond
			o, err := (&process{}).Run(t.Context(), c, deadline)
			require.NoError(t, err)
			wrong := o.insane(c, deadline, "")
			if tt.wrong == "" {
				assert.Empty(t, wrong)
				return
			}
			require.NotEmpty(t, wrong)
			assert.Contains(t, wrong[0], tt.wrong)
		})
	}
}

func TestReplyIsReadAsWritten(t *testing.T) {
	o := &Outcome{Stdout: []byte("MESSAGE=a=b\x00ENV_DW_JOB_x=/mnt\x00")}
	reply, err := o.Reply()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"MESSAGE": "a=b", "ENV_DW_JOB_x": "/mnt"}, reply)
}
