package hook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
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

func TestAnEpilogDrainsItsNodeIfStorageStaysMounted(t *testing.T) {
	for name, test := range map[string]struct {
		timeout, path, state, asked string
	}{
		"the epilog has less time than it is to wait": {"1h", "/proc", "IDLE", ""},
		"it stays": {"100ms", "/proc", "IDLE+COMPLETING", "update NodeName=c1 State=DRAIN Reason=slurmk8s: still mounted: /proc of job 12"},
		"it stays on a node that a person drained": {"100ms", "/proc", "IDLE+COMPLETING+DRAIN", ""},
		"it is unmounted":                          {"1m", "/mnt/nnf/nowhere", "IDLE", ""},
		"nobody wants to wait":                     {"0s", "/proc", "IDLE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "/nonexistent/kubeconfig", fmt.Sprintf("unmount_timeout = %q\n[services]\nrun_dir = %q", test.timeout, t.TempDir()))
			slurmctld := slurmtest.NewNodes(t, s.dir)
			slurmctld.Set("c1", test.state, "")
			c, err := openNode("k8s_job_epilog", s.fields("", "NODE=c1"))
			require.NoError(t, err)
			defer c.close()
			files := workflow.NodeFiles(c.cfg.Services.RunDir)
			require.NoError(t, files.Keep(12, 1000, 1000, &workflow.Delivery{Of: "bb12:u1", Env: map[string]string{"DW_JOB_a": test.path}}))
			ctx, cancel := context.WithTimeout(t.Context(), endMargin+time.Second)
			defer cancel()
			require.NoError(t, jobEpilog(ctx, c))
			assert.Equal(t, test.asked, strings.Join(slurmctld.Changes(), "\n"))
			left, err := files.Jobs()
			require.NoError(t, err)
			assert.Empty(t, left)
			_, err = os.Stat(filepath.Join(c.cfg.Services.RunDir, "mounted.12"))
			assert.Equal(t, test.asked != "", err == nil, "reconcile undrains it: %v", err)
		})
	}
}
