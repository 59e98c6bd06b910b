package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheEpilogFailsNoNode(t *testing.T) {
	server := hung(t)
	s := newSite(t, server.Kubeconfig(), "").impatient()
	run := filepath.Join(s.dir, "run")
	require.NoError(t, os.Mkdir(run, 0o755))
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.write("slurmk8s.toml", string(text)+"[services]\nkubeconfig = '"+server.Kubeconfig()+"'\nrun_dir = '"+run+"'\n")
	fields := Fields{KeyConfig: s.config, KeyJobID: "12", KeyNode: "c1", KeyDeadlineMS: "300"}

	code, reply := Run(t.Context(), "k8s_job_epilog", fields)
	assert.Equal(t, OK, code)
	assert.Empty(t, reply[KeyMessage])
	assert.Empty(t, server.Requests(), "a job without a mark costs no request")

	mark := filepath.Join(run, "job.12")
	require.NoError(t, os.WriteFile(mark, []byte("1 1 batch physics/jupyter\n"), 0o600))
	begin := time.Now()
	code, reply = Run(t.Context(), "k8s_job_epilog", fields)
	assert.Equal(t, OK, code)
	assert.Less(t, time.Since(begin), 2*time.Second)
	oneLine(t, reply[KeyMessage])
	assert.True(t, strings.HasPrefix(reply[KeyMessage], "left to reconcile: "), reply[KeyMessage])
	assert.FileExists(t, mark, "for reconcile")
}

func TestTheCheckNeedsNothingOfTheController(t *testing.T) {
	check := func(fields Fields) (Code, string) {
		fields[KeyConfig] = "/nonexistent/slurmk8s.toml"
		code, reply := Run(t.Context(), "k8s_check", fields)
		return code, reply[KeyMessage]
	}
	code, _ := check(Fields{})
	assert.Equal(t, OK, code)
	code, _ = check(Fields{KeyRegister: "jupyter:8888;env", KeyNamespace: "physics", KeyImport: "db"})
	assert.Equal(t, OK, code, "a batch script may set the variables for its srun")
	code, _ = check(Fields{KeyRegister: "env;jupyter"})
	assert.Equal(t, Refused, code, "but the rest is judged")
	code, _ = check(Fields{KeyRegister: "env"})
	assert.Equal(t, OK, code)
	code, message := check(Fields{KeyRegister: "env", KeyEnv + "EXTERNAL_SERVICE_NAME": "a", KeyEnv + "EXTERNAL_SERVICE_PORT": "x"})
	assert.Equal(t, Refused, code)
	assert.Contains(t, message, `EXTERNAL_SERVICE_PORT: "x" is not a port`)
	code, message = check(Fields{KeyRegister: strings.Repeat("\n", 20000)})
	assert.Equal(t, Refused, code)
	oneLine(t, message)
}

func TestGranted(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0, "0": 0, "1500": 1500 * time.Millisecond} {
		assert.Equal(t, want, Granted(Fields{KeyDeadlineMS: text}), text)
	}
	assert.Positive(t, Granted(Fields{KeyDeadlineMS: "9223372036854775807"}))
}
