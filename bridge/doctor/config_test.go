package doctor

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The defaults name the files of another cluster, if this host has any.
func TestABrokenConfigurationIsAllThatIsReported(t *testing.T) {
	for name, text := range map[string]string{"unknown key": "stat_dir = \"/x\"\n", "not TOML": "[log\n"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("slurmk8s.toml", text, 0o644)
			results := Run(t.Context(), s.o)
			require.Len(t, results, 1)
			assert.Equal(t, Failed, results[0].Status)
			assert.Equal(t, "slurmk8s.toml", results[0].Check)
			assert.Contains(t, results[0].Do, "Nothing else was checked")
		})
	}
}

func TestAHostIsANodeByItsNodeHostname(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	short, _, _ := strings.Cut(host, ".")
	for name, line := range map[string]string{
		"another NodeName":        "NodeName=Rack_0-N1 NodeHostname=" + short,
		"of a line of many nodes": "NodeName=dy-[1-2] NodeHostname=other," + short,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.edit("slurm.conf", "NodeName=c1", line)
			s.o.Roles, s.o.NodeName = nil, ""
			assert.Equal(t, []Role{Node}, newHost(s.o).o.Roles)
		})
	}
}
