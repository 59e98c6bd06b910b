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
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// tend runs what reconcile does, with nodes as "c01 IDLE+DRAIN disk is broken". It returns what
// Slurm was asked to change, and pools.json.
func (p *provider) tend(t *testing.T, health, pool string, nodes ...string) (asked, pools string, err error) {
	t.Helper()
	return p.tendWith(t, slurmtest.NewNodes(t, t.TempDir()), t.TempDir(), health, pool, nodes...)
}

// tendWith is tend with a Slurm and a state_dir that may have something from before.
func (p *provider) tendWith(t *testing.T, slurmctld *slurmtest.Nodes, state, health, pool string, nodes ...string) (asked, pools string, err error) {
	t.Helper()
	for _, node := range nodes {
		name, rest, _ := strings.Cut(node, " ")
		is, reason, _ := strings.Cut(rest, " ")
		slurmctld.Set(name, is, reason)
	}
	cfg, client, log := newClient(t, p.Workflows, func(c *slurmconf.Config) {
		c.StateDir, c.SlurmBinDir, c.Workflows.Health, c.Workflows.Pool = state, slurmctld.Dir, health, pool
		c.Workflows.NodeFeature = "rabbit"
	})
	err = Duty{}.Tend(bounded(t), duty.Host{Config: cfg, Kube: client, Log: log})
	written, _ := os.ReadFile(filepath.Join(state, "pools.json"))
	return strings.Join(slurmctld.Changes(), "\n"), strings.TrimSpace(string(written)), err
}

func (p *provider) status(rabbit, status string) {
	kubetest.Part(p.objects["storages/default/"+rabbit], "status")["status"] = status
}

func TestNodesOfARabbitThatIsNotWellAreDrained(t *testing.T) {
	all := func(r1, r2 string) []string {
		return []string{"c01 " + r1, "c02 IDLE", "c05 " + r2, "c06 " + r2, "c09 IDLE", "c10 IDLE"}
	}
	const ours = "DRAIN slurmk8s: storage: r2 is Offline in DWS"
	for name, test := range map[string]struct {
		health string
		ill    func(*provider)
		nodes  []string
		want   string
		fails  string
	}{
		"drained with the reason":              {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("IDLE", "ALLOCATED"), want: "update NodeName=c05,c06 State=DRAIN Reason=slurmk8s: storage: r2 is Offline in DWS"},
		"a node whose link is broken":          {ill: func(p *provider) { p.link("r1", "c01", "Fenced") }, nodes: all("IDLE", "IDLE"), want: "update NodeName=c01 State=DRAIN Reason=slurmk8s: storage: its link to r1 is Fenced in DWS"},
		"only once":                            {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("IDLE", "IDLE+"+ours)},
		"an administrator's drain stays":       {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("IDLE", "IDLE+DRAIN disk is broken")},
		"undrained when the rabbit is well":    {nodes: all("IDLE", "IDLE+"+ours), want: "update NodeName=c05,c06 State=UNDRAIN"},
		"a node that is down keeps its reason": {ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("IDLE", "DOWN+NOT_RESPONDING Not responding")},
		"a machine that is off":                {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("IDLE+CLOUD+POWERED_DOWN", "IDLE")},
		"a machine that comes up":              {ill: func(p *provider) { p.link("r1", "c01", "Offline") }, nodes: all("ALLOCATED+CLOUD+POWERING_UP", "IDLE")},
		"a person has added to the reason":     {nodes: all("IDLE", "IDLE+"+ours+", see ticket 12")},
		"undone only if it is ours":            {nodes: all("IDLE+DRAIN disk is broken", "IDLE")},
		"one of two": {ill: func(p *provider) { p.status("r1", "Drained"); p.status("r2", "Offline") }, nodes: all("IDLE", "IDLE"),
			fails: "4 of 6 nodes have no storage of their own: none is drained, since the provider itself may have failed"},
		"report changes nothing": {health: "report", ill: func(p *provider) { p.status("r2", "Offline") }, nodes: all("IDLE", "IDLE")},
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
