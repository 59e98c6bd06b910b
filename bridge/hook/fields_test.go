package hook

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseFields(t *testing.T) {
	got, err := ParseFields([]string{"JOB_ID=7", "ARG1=a=b", "SCRIPT=", "UID=1", "UID=2"})
	require.NoError(t, err)
	assert.Equal(t, Fields{"JOB_ID": "7", "ARG1": "a=b", "SCRIPT": "", "UID": "2"}, got)
	for _, wrong := range []string{"", "=x", "JOB_ID", "job_id=7", "--config=F", "1A=x", "_A=x", "A B=x", "A\nB=x"} {
		_, err := ParseFields([]string{wrong})
		assert.Error(t, err, "%q", wrong)
	}
}

// FuzzRequest: whatever a request holds, it is read or refused in one line.
func FuzzRequest(f *testing.F) {
	f.Add("JOB_ID=12\x00UID=1000\x00GID=100\x00NODES=c[1-3,5]\x00HURRY=true")
	f.Add("JOB_ID=4294967296\x00NODES=c[1-99999999]")
	f.Add("JOB_ID=-1\x00\x00=\x00NODES=[[[")
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := ParseFields(strings.Split(text, "\x00"))
		if err == nil {
			_, err = jobOf(fields)
		}
		if err != nil {
			message := line(err.Error())
			assert.NotContains(t, message, "\n")
			assert.LessOrEqual(t, len(message), maxMessage)
			assert.NotEmpty(t, message)
		}
	})
}
