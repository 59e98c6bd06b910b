package hook

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Whoever writes into the state directory writes the variables of all jobs.
func TestAStateDirectoryThatOthersWriteIntoStopsEachHook(t *testing.T) {
	s := newSite(t, "/nonexistent", "")
	require.NoError(t, os.Chmod(s.state, 0o777))
	for _, name := range []string{"slurm_bb_job_process", "slurm_bb_setup", "slurm_bb_pre_run"} {
		code, reply := Run(t.Context(), name, s.fields(script))
		assert.Equal(t, wire.Failed, code, name)
		assert.Equal(t, fmt.Sprintf(`state_dir %s is writable by others (mode 0777): run "chmod go-w %s"`, s.state, s.state), reply[wire.KeyMessage], name)
	}
}

// What a server says may hold anything and be of any length. It comes to Slurm's comment,
// to slurmctld.log and to our log, each line of which is one.
func TestWhatAServerSaysForgesNoLineOfALog(t *testing.T) {
	hostile := "\x1b[2J\x1b]0;owned\a\r\nslurmctld: error: job 1: forged\x00\u202e" + strings.Repeat("flood ", 1<<18)
	server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) { kubetest.Status(w, 403, "Forbidden", hostile) })
	s := newSite(t, server.Kubeconfig(), "")
	for _, name := range []string{"slurm_bb_job_process", "slurm_bb_setup", "slurm_bb_job_teardown"} {
		code, reply := Run(t.Context(), name, s.fields(script))
		assert.NotEqual(t, wire.OK, code, name)
		oneLine(t, reply[wire.KeyMessage])
	}
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	require.NoError(t, err)
	require.NotEmpty(t, log)
	assert.Less(t, len(log), 1<<20, "the log is not flooded")
	assert.NotContains(t, string(log), "\x1b")
	for line := range strings.Lines(string(log)) {
		assert.True(t, strings.HasPrefix(line, "time="), "%.200q", line)
	}
}
