package workflow

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestDWSMayKnowNodesByOtherNames(t *testing.T) {
	for name, how := range map[string]func(c *slurmconf.Config, dir string){
		"by NodeHostname": func(c *slurmconf.Config, dir string) {
			c.Workflows.ComputeNames, c.SlurmConf = "hostname", filepath.Join(dir, "slurm.conf")
			require.NoError(t, os.WriteFile(c.SlurmConf, []byte("NodeName=n[1-2] NodeHostname=c[01-02]\nNodeName=c05\n"), 0o600))
		},
		"by a file": func(c *slurmconf.Config, dir string) {
			c.Workflows.ComputeNames = filepath.Join(dir, "names")
			require.NoError(t, os.WriteFile(c.Workflows.ComputeNames, []byte("# ours theirs\nn1 c01\nn2  c02 # a comment\n"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, xfs(50*gib))
			p.put("computes/slurm/bb12", kubetest.Object{})
			d := newDriver(t, p.Workflows, func(c *slurmconf.Config) {
				c.StateDir = t.TempDir()
				how(c, t.TempDir())
			})
			_, err := d.PreRun(bounded(t), onNodes("n1 n2 c05"))
			require.NoError(t, err)
			assert.Equal(t, "xfs 53687091200 [r1:2 r2:1]", p.placement("bb12-0"))
			assert.Equal(t, "computes=c01,c02,c05 disabled= ours=<nil>", p.told())

			p.others("other", "r1", 20*tib)
			p.in(Proposal, xfs(50*gib))
			_, err = d.PreRun(bounded(t), onNodes("n1"))
			require.Error(t, err)
			assert.Equal(t, []string{"c03", "c04", "n1", "n2"}, d.Avoid(bounded(t), err), "by Slurm's names")
		})
	}
}

func TestNamesThatCannotBeReadAreTold(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(50*gib))
	cfg, client, log := newClient(t, p.Workflows, func(c *slurmconf.Config) { c.Workflows.ComputeNames = filepath.Join(t.TempDir(), "names") })
	for text, want := range map[string]string{"": "no such file", "n1\n": ":1: want two names, found 1", "n1 c01\nn1 c02\n": ":2: n1 c02: one of the names is given twice"} {
		_ = os.Remove(cfg.Workflows.ComputeNames)
		if text != "" {
			require.NoError(t, os.WriteFile(cfg.Workflows.ComputeNames, []byte(text), 0o600))
		}
		d, err := New(bounded(t), cfg, client, log)
		require.NoError(t, err, "a node needs no names")
		_, err = d.PreRun(bounded(t), onNodes("n1"))
		require.ErrorContains(t, err, want)
	}
}
