package workflow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// tend runs what reconcile does; nodes is the answer of sinfo. It returns what Slurm was asked
// to change, and pools.json.
func (p *provider) tend(t *testing.T, health, pool string, nodes ...string) (asked, pools string, err error) {
	t.Helper()
	dir, state := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sinfo"), []byte("#!/bin/sh\ncat <<'END'\n"+strings.Join(nodes, "\n")+"\nEND\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho \"$@\" >>"+dir+"/asked\n"), 0o755))
	cfg, client, log := newClient(t, p.Workflows, func(c *slurmconf.Config) {
		c.StateDir, c.SlurmBinDir, c.Workflows.Health, c.Workflows.Pool = state, dir, health, pool
	})
	err = Duty{}.Tend(bounded(t), duty.Host{Config: cfg, Kube: client, Log: log})
	text, _ := os.ReadFile(filepath.Join(dir, "asked"))
	written, _ := os.ReadFile(filepath.Join(state, "pools.json"))
	return strings.TrimSpace(string(text)), strings.TrimSpace(string(written)), err
}

func (p *provider) status(rabbit, status string) {
	kubetest.Part(p.objects["storages/default/"+rabbit], "status")["status"] = status
}

func TestNodesOfARabbitThatIsNotWellAreDrained(t *testing.T) {
	all := func(r1, r2 string) []string {
		return []string{"c01 " + r1, "c02 idle none", "c05 " + r2, "c06 " + r2, "c09 idle none", "c10 idle none"}
	}
	const ours = "drain slurmk8s: storage: r2 is Offline in DWS"
	for name, test := range map[string]struct {
		health string
		ill    func(*provider)
		nodes  []string
		want   string
		fails  string
	}{
		"drained with the reason":              {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("idle none", "allocated none"), want: "update NodeName=c05,c06 State=DRAIN Reason=slurmk8s: storage: r2 is Offline in DWS"},
		"a node whose link is broken":          {ill: func(p *provider) { p.link("r1", "c01", "Fenced") }, nodes: all("idle none", "idle none"), want: "update NodeName=c01 State=DRAIN Reason=slurmk8s: storage: its link to r1 is Fenced in DWS"},
		"only once":                            {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("idle none", "idle+"+ours)},
		"an administrator's drain stays":       {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("idle none", "idle+drain disk is broken")},
		"undrained when the rabbit is well":    {nodes: all("idle none", "idle+"+ours), want: "update NodeName=c05,c06 State=UNDRAIN"},
		"a node that is down keeps its reason": {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("idle none", "down+not_responding Not responding")},
		"a machine that is off":                {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("idle+cloud+powered_down none", "idle none")},
		"a machine that comes up":              {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("allocated+cloud+powering_up none", "idle none")},
		"a person has added to the reason":     {nodes: all("idle none", "idle+"+ours+", see ticket 12")},
		"undone only if it is ours":            {nodes: all("idle+drain disk is broken", "idle none")},
		"one of two": {ill: func(p *provider) { p.status("r1", "Drained"); p.status("r2", "Offline") }, nodes: all("idle none", "idle none"),
			fails: "4 of 6 nodes have no storage of their own: none is drained, since the provider itself may have failed"},
		"report changes nothing": {health: "report", ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("idle none", "idle none")},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.ill != nil {
				test.ill(p)
			}
			if test.health == "" {
				test.health = "drain"
			}
			asked, _, err := p.tend(t, test.health, "", test.nodes...)
			if test.fails == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, test.fails)
			}
			assert.Equal(t, test.want, asked)
		})
	}
}

func TestSlurmsPoolFollowsWhatIsFree(t *testing.T) {
	p := newProvider(t)
	p.others("other", "r1", 5*tib)
	p.status("r2", "Offline")
	_, pools, err := p.tend(t, "report", "rabbits")
	require.NoError(t, err)
	assert.Equal(t, `{"pools":[{"id":"rabbits","quantity":65970697666560,"granularity":1,"free":38482906972160}]}`, pools, "60 TiB, 35 TiB")
	_, pools, err = p.tend(t, "report", "")
	require.NoError(t, err)
	assert.Empty(t, pools, "a site's own stays")
}

func TestWhatAJobsStorageTakesOfThePool(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(50*gib), lustre(tib))
	d := p.driver(t)
	three := func() (int, error) { return 3, nil }
	_, err := d.Setup(bounded(t), theJob, nil)
	require.NoError(t, err)
	bytes, err := d.Size(bounded(t), theJob, three)
	require.NoError(t, err)
	assert.EqualValues(t, 3*50*gib+tib, bytes, "on three nodes")
	_, err = d.PreRun(bounded(t), onNodes("c01 c02"))
	require.NoError(t, err)
	bytes, err = d.Size(bounded(t), theJob, three)
	require.NoError(t, err)
	assert.EqualValues(t, 2*50*gib+tib, bytes, "what was placed")
}
