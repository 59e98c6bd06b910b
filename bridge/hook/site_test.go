package hook

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// site is a controller's files: slurmk8s.toml, slurm.conf, the state directory.
type site struct {
	t                  *testing.T
	dir, config, state string
}

// newSite writes them. workflows is what the table of that name holds.
func newSite(t *testing.T, kubeconfig, workflows string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, config: filepath.Join(dir, "slurmk8s.toml"), state: filepath.Join(dir, "state")}
	require.NoError(t, os.Mkdir(s.state, 0o700))
	s.write("slurm.conf", "ClusterName=hpc\n")
	s.write("burst_buffer.conf", "Directive=DW\n")
	s.write("slurmk8s.toml", fmt.Sprintf(`
slurm_conf = %q
slurm_bin_dir = %q
state_dir = %q
[kubernetes]
kubeconfig = %q
request_timeout = "5s"
[log]
file = %q
[workflows]
%s
`, filepath.Join(dir, "slurm.conf"), dir, s.state, kubeconfig, filepath.Join(dir, "log"), workflows))
	return s
}

// impatient is for servers that do not answer.
func (s *site) impatient() *site {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	require.NoError(s.t, err)
	s.write("slurmk8s.toml", strings.Replace(string(text), `"5s"`, `"200ms"`, 1))
	return s
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

const script = "#!/bin/sh\n#DW jobdw name=a\ntrue\n"

// fields are those of job 12 with a script; more are KEY=VALUE.
func (s *site) fields(script string, more ...string) wire.Fields {
	s.t.Helper()
	f := wire.Fields{wire.KeyConfig: s.config, wire.KeyStateDir: s.state, wire.KeyJobID: "12", wire.KeyUID: "1000", wire.KeyGID: "1000"}
	if script != "" {
		f[wire.KeyScript] = s.write("script", script)
	}
	for _, field := range more {
		key, value, _ := strings.Cut(field, "=")
		f[key] = value
	}
	return f
}

// hung is a server that answers nothing.
func hung(t *testing.T) *kubetest.Server {
	return kubetest.New(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func oneLine(t *testing.T, message string) {
	t.Helper()
	assert.NotEmpty(t, message)
	assert.LessOrEqual(t, len(message), 800)
	assert.True(t, utf8.ValidString(message))
	for _, r := range message {
		if r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x2028 {
			t.Errorf("%q in %q", r, message)
		}
	}
}
