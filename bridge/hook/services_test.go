package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

func TestTheEpilogFailsNoNode(t *testing.T) {
	server := hung(t)
	s := newSite(t, server.Kubeconfig(), "").impatient()
	run := filepath.Join(s.dir, "run")
	require.NoError(t, os.Mkdir(run, 0o755))
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.write("slurmk8s.toml", string(text)+"[services]\nkubeconfig = '"+server.Kubeconfig()+"'\nrun_dir = '"+run+"'\n")
	fields := wire.Fields{wire.KeyConfig: s.config, wire.KeyJobID: "12", wire.KeyNode: "c1", wire.KeyDeadlineMS: "300"}

	code, reply := Run(t.Context(), "k8s_job_epilog", fields)
	assert.Equal(t, wire.OK, code)
	assert.Empty(t, reply[wire.KeyMessage])
	assert.Empty(t, server.Requests(), "a job without a mark costs no request")

	mark := filepath.Join(run, "job.12")
	require.NoError(t, os.WriteFile(mark, []byte("1 1 batch physics/jupyter\n"), 0o600))
	code, reply = Run(t.Context(), "k8s_job_epilog", fields)
	assert.Equal(t, wire.OK, code)
	oneLine(t, reply[wire.KeyMessage])
	assert.True(t, strings.HasPrefix(reply[wire.KeyMessage], "left to reconcile: "), reply[wire.KeyMessage])
	assert.FileExists(t, mark, "for reconcile")
}

func TestTheCheckNeedsNothingOfTheController(t *testing.T) {
	check := func(fields wire.Fields) (wire.Code, string) {
		fields[wire.KeyConfig] = "/nonexistent/slurmk8s.toml"
		code, reply := Run(t.Context(), "k8s_check", fields)
		return code, reply[wire.KeyMessage]
	}
	code, _ := check(wire.Fields{})
	assert.Equal(t, wire.OK, code)
	code, _ = check(wire.Fields{wire.KeyRegister: "jupyter:8888;env", wire.KeyNamespace: "physics", wire.KeyImport: "db"})
	assert.Equal(t, wire.OK, code, "a batch script may set the variables for its srun")
	code, _ = check(wire.Fields{wire.KeyRegister: "env;jupyter"})
	assert.Equal(t, wire.Refused, code, "but the rest is judged")
	code, _ = check(wire.Fields{wire.KeyRegister: "env"})
	assert.Equal(t, wire.OK, code)
	code, message := check(wire.Fields{wire.KeyRegister: "env", wire.KeyEnv + "EXTERNAL_SERVICE_NAME": "a", wire.KeyEnv + "EXTERNAL_SERVICE_PORT": "x"})
	assert.Equal(t, wire.Refused, code)
	assert.Contains(t, message, `EXTERNAL_SERVICE_PORT: "x" is not a port`)
	code, message = check(wire.Fields{wire.KeyRegister: strings.Repeat("\n", 20000)})
	assert.Equal(t, wire.Refused, code)
	oneLine(t, message)
}
