package all

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestEachDutysRightsAreInAShippedManifest(t *testing.T) {
	cfg := slurmconf.Default()
	cfg.Services.Allow = []slurmconf.ServiceRule{{Namespaces: []string{"jobs"}}}
	cfg.Bundles.Allow = []slurmconf.BundleRule{{Namespaces: []string{"jobs"}}}
	cfg.Nodes.Mirror = slurmconf.MirrorBoth
	for _, d := range Duties {
		rights := d.Rights(cfg)
		assert.NotEmpty(t, rights, "%T", d)
		for _, r := range rights {
			rules, err := manifests.Rules(r.Role)
			require.NoError(t, err)
			assert.NotEmpty(t, rules, r.Role)
		}
	}
}

func TestADutyIsUsedIfTheConfigurationAsksForIt(t *testing.T) {
	cfg := slurmconf.Default()
	assert.Contains(t, Used(cfg), workflow.Duty{})
	assert.NotContains(t, Used(cfg), service.Duty{})
	assert.NotContains(t, Used(cfg), stage.Duty{})
	assert.NotContains(t, Used(cfg), node.Duty{})
	cfg.Services.Allow = []slurmconf.ServiceRule{{Namespaces: []string{"jobs"}}}
	cfg.Nodes.Reclaim = slurmconf.ReclaimRequest
	cfg.Bundles.Allow = []slurmconf.BundleRule{{Namespaces: []string{"jobs"}}}
	assert.Contains(t, Used(cfg), stage.Duty{})
	assert.Contains(t, Used(cfg), service.Duty{})
	assert.Contains(t, Used(cfg), node.Duty{})
	cfg.Nodes.Reclaim, cfg.Nodes.Mirror = slurmconf.ReclaimNone, slurmconf.MirrorToSlurm
	assert.Contains(t, Used(cfg), node.Duty{})
}
