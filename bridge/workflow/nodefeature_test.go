package workflow

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
)

func TestNodesOfARabbitThatIsNotWellLoseTheFeatureForStorage(t *testing.T) {
	all := func(r1, r2 string) []string {
		return []string{"c01 " + r1, "c02 IDLE", "c05 " + r2, "c06 " + r2, "c09 IDLE", "c10 IDLE"}
	}
	offline := func(p *provider) { p.status("r2", "Offline") }
	const ours = "c05 rabbit gpu\nc06 rabbit gpu\n" // node-features of state_dir
	for name, test := range map[string]struct {
		health   string
		ill      func(*provider)
		nodes    []string
		features string // of c05 and c06; c01 has "rabbit"
		before   string
		want     string
		kept     string
		fails    string
	}{
		"taken, and nothing else": {ill: offline, nodes: all("IDLE", "ALLOCATED"), features: "gpu,rabbit", want: "update NodeName=c05,c06 ActiveFeatures=gpu", kept: ours},
		"taken, and was the only one": {ill: offline, nodes: all("IDLE", "IDLE"), features: "rabbit", want: "update NodeName=c05,c06 ActiveFeatures=",
			kept: "c05 rabbit \nc06 rabbit \n"},
		"a node whose link is broken":                       {ill: func(p *provider) { p.link("r1", "c01", "Fenced") }, nodes: all("IDLE", "IDLE"), features: "gpu,rabbit", want: "update NodeName=c01 ActiveFeatures=", kept: "c01 rabbit \n"},
		"only once":                                         {ill: offline, nodes: all("IDLE", "IDLE"), features: "gpu", before: ours, kept: ours},
		"a node that never had it":                          {ill: offline, nodes: all("IDLE", "IDLE"), features: "gpu"},
		"given back when the rabbit is well":                {nodes: all("IDLE", "IDLE"), features: "gpu", before: ours, want: "update NodeName=c05,c06 ActiveFeatures=gpu,rabbit"},
		"a node that is down":                               {ill: offline, nodes: all("IDLE", "DOWN+NOT_RESPONDING Not responding"), features: "gpu,rabbit"},
		"a machine that is off":                             {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("IDLE+CLOUD+POWERED_DOWN", "IDLE"), features: "gpu,rabbit"},
		"a machine that comes up":                           {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("ALLOCATED+CLOUD+POWERING_UP", "IDLE"), features: "gpu,rabbit"},
		"an administrator's drain is no matter":             {ill: offline, nodes: all("IDLE", "IDLE+DRAIN disk is broken"), features: "gpu,rabbit", want: "update NodeName=c05,c06 ActiveFeatures=gpu", kept: ours},
		"a person has changed the features":                 {nodes: all("IDLE", "IDLE"), features: "gpu,big", before: ours},
		"a person has given it back":                        {nodes: all("IDLE", "IDLE"), features: "rabbit,gpu", before: ours},
		"a person took it":                                  {nodes: all("IDLE", "IDLE"), features: "gpu"},
		"slurmctld began anew with all that slurm.conf has": {ill: offline, nodes: all("IDLE", "IDLE"), features: "gpu,rabbit", before: ours, want: "update NodeName=c05,c06 ActiveFeatures=gpu", kept: ours},
		"given back after the feature has got another name": {nodes: all("IDLE", "IDLE"), features: "gpu", before: "c05 dws gpu\n", want: "update NodeName=c05 ActiveFeatures=gpu,dws"},
		"one of two": {ill: func(p *provider) { p.status("r1", "Drained"); p.status("r2", "Offline") }, nodes: all("IDLE", "IDLE"), features: "gpu,rabbit",
			fails: "4 of 6 nodes have no storage of their own: none loses its feature, since the provider itself may have failed"},
		"report changes nothing":     {health: "report", ill: offline, nodes: all("IDLE", "IDLE"), features: "gpu,rabbit"},
		"report gives back what was": {health: "report", ill: offline, nodes: all("IDLE", "IDLE"), features: "gpu", before: ours, want: "update NodeName=c05,c06 ActiveFeatures=gpu,rabbit"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.ill != nil {
				test.ill(p)
			}
			if test.health == "" {
				test.health = "feature"
			}
			slurmctld, state := slurmtest.NewNodes(t, t.TempDir()), t.TempDir()
			slurmctld.Features("c01", "rabbit")
			slurmctld.Features("c05", test.features)
			slurmctld.Features("c06", test.features)
			path := filepath.Join(state, "node-features")
			if test.before != "" {
				require.NoError(t, os.WriteFile(path, []byte(test.before), 0o600))
			}
			asked, _, err := p.tendWith(t, slurmctld, state, test.health, "", test.nodes...)
			if test.fails == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, test.fails)
			}
			assert.Equal(t, test.want, asked)
			kept, _ := os.ReadFile(path)
			assert.Equal(t, test.kept, string(kept))
		})
	}
}

// What is kept is written first: a change that Slurm refuses takes nothing from a person.
func TestAFeatureThatSlurmDoesNotTakeStays(t *testing.T) {
	p := newProvider(t)
	slurmctld, state := slurmtest.NewNodes(t, t.TempDir()), t.TempDir()
	slurmctld.Features("c05", "gpu,rabbit")
	script := filepath.Join(slurmctld.Dir, "scontrol")
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ncase \"$1\" in update) echo 'slurm_update error: Invalid feature' >&2; exit 1;; esac\n"+string(text)), 0o755))
	p.status("r2", "Offline")
	_, _, err = p.tendWith(t, slurmctld, state, "feature", "", "c01 IDLE", "c02 IDLE", "c05 IDLE")
	require.ErrorContains(t, err, "Invalid feature")
	require.NoError(t, os.WriteFile(script, text, 0o755))
	p.status("r2", "Ready")
	asked, _, err := p.tendWith(t, slurmctld, state, "feature", "", "c01 IDLE")
	require.NoError(t, err)
	assert.Empty(t, asked)
	assert.NoFileExists(t, filepath.Join(state, "node-features"))
}

func TestAJobThatNeedsStorageAsksForTheFeature(t *testing.T) {
	lines := []any{"#DW jobdw type=xfs capacity=50GiB name=a", "#DW copy_in source=/a destination=$DW_JOB_a"}
	for name, test := range map[string]struct {
		wish, placement, asked string
		lustre                 bool
	}{
		"for its nodes":                    {wish: "3|||(null)", asked: "update JobId=12 Features=rabbit"},
		"with what it asks for itself":     {wish: "3|||gpu", asked: "update JobId=12 Features=gpu&rabbit"},
		"it asks already":                  {wish: "3|||rabbit&gpu"},
		"a constraint that is too much":    {wish: "3|||a|b"},
		"it names its nodes":               {wish: "1|c01||(null)"},
		"Lustre is not on its nodes":       {wish: "3|||(null)", lustre: true},
		"along with the rabbits' features": {wish: "2||c01,c05|gpu", placement: "storage-first", asked: "update JobId=12 Features=[(gpu&rabbit&on-r1)*1&(gpu&rabbit&on-r2)*1]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.lustre {
				p.in(Proposal, lustre(tib))
			} else {
				p.in(Proposal, xfs(50*gib))
			}
			p.directives(lines...)
			d, asked := p.asking(t, test.wish, test.placement)
			d.cfg.Workflows.NodeFeature = "rabbit"
			if test.placement == "" {
				d.cfg.Workflows.RabbitFeature = ""
			}
			_, err := d.Setup(bounded(t), theJob, directivesOf(lines...))
			require.NoError(t, err)
			assert.Equal(t, test.asked, asked())
		})
	}
}
