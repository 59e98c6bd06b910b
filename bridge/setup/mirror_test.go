package setup

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestTheControllerGetsTheRightToCloseNodesIfDrainsAreMirrored(t *testing.T) {
	for mirror, want := range map[string]int{slurmconf.MirrorOff: 0, slurmconf.MirrorToKubernetes: 2, slurmconf.MirrorToSlurm: 2, slurmconf.MirrorBoth: 2} {
		cfg := slurmconf.Default()
		cfg.Nodes.Mirror = mirror
		objects, err := (&Plan{Rights: node.Duty{}.Rights(cfg)}).manifests()
		require.NoError(t, err)
		named := 0
		for _, u := range objects {
			if u.GetName() == "slurmk8s-node-mirror" { // a role, and its binding
				named++
			}
		}
		assert.Equal(t, want, named, mirror)
		assert.Len(t, objects, want)
	}
}
