package wire

import (
	"testing"
	"time"

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

func TestGranted(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0, "0": 0, "1500": 1500 * time.Millisecond} {
		assert.Equal(t, want, Fields{KeyDeadlineMS: text}.Granted(), text)
	}
	assert.Positive(t, Fields{KeyDeadlineMS: "9223372036854775807"}.Granted())
}

func TestEnvIsTheVariablesAndNothingElse(t *testing.T) {
	fields := Fields{"ENV_NAMESPACE": "physics", "ENV_": "x", "JOB_ID": "1", "SETENV_A": "b"}
	assert.Equal(t, map[string]string{"NAMESPACE": "physics", "": "x"}, fields.Env())
}
