package slurm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestANodeIsFoundByItsNodeHostname(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	require.NoError(t, os.WriteFile(conf, []byte(`NodeName=DEFAULT CPUs=2
NodeName=c[1-2]
NodeName=queue1-dy-[1-3] NodeHostname=ip-10-0-0-[7-9]
NodeName=Rack_0-N1 NodeHostname=nc1.example.org NodeAddr=10.0.0.1
NodeName=many[1-2] NodeHostname=big
NodeName=nc2 NodeHostname=c1
`), 0o644))
	for host, want := range map[string]string{
		"c2":                     "c2",
		"c2.example.org":         "c2",
		"ip-10-0-0-8":            "queue1-dy-2",
		"ip-10-0-0-8.cloud.test": "queue1-dy-2",
		"nc1.example.org":        "Rack_0-N1",
		"big":                    "big",
		"c1":                     "c1",
		"login.example.org":      "login",
	} {
		assert.Equal(t, want, NodeOn(conf, host), host)
	}
	t.Setenv("SLURMD_NODENAME", "Rack_0-N1")
	assert.Equal(t, "Rack_0-N1", ThisNode(conf))
	assert.Equal(t, "login", NodeOn("/nonexistent/slurm.conf", "login.example.org"))
}
