package workflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestTheConstraintOfAJobAsksForItsRabbits(t *testing.T) {
	two := map[string]int{"r1": 3, "r2": 1}
	for _, test := range []struct {
		own, pattern string
		counts       map[string]int
		want         string
		not          bool
	}{
		{"", "{rabbit}", two, "[r1*3&r2*1]", false},
		{"", "on-{rabbit}", two, "[on-r1*3&on-r2*1]", false},
		{"", "{rabbit}", map[string]int{"r1": 3}, "r1", false},
		{"gpu", "{rabbit}", map[string]int{"r1": 3}, "gpu&r1", false},
		{"gpu&ib", "{rabbit}", two, "[(gpu&ib&r1)*3&(gpu&ib&r2)*1]", false},
		{"a|b", "{rabbit}", two, "", true},
		{"[a*2&b*2]", "on-{rabbit}", two, "", true},
		{"[a*2&b*2]", "{rabbit}", two, "", true},
		// A job that asks for a rabbit itself gets no other.
		{"r2", "{rabbit}", two, "", true},
		{"gpu&on-r9", "on-{rabbit}", map[string]int{"r1": 1}, "", true},
		{"[r9*2&r7*1]", "{rabbit}", two, "", true},
		{"r2", "on-{rabbit}", map[string]int{"r1": 1}, "r2&on-r1", false},
	} {
		got, ok := constrain(test.own, test.pattern, test.counts, []string{"r1", "r2", "r3", "r7", "r9"})
		assert.Equal(t, !test.not, ok, test.own)
		assert.Equal(t, test.want, got, test.own)
	}
	many := map[string]int{}
	for i := range 200 {
		many[fmt.Sprintf("rabbit%03d", i)] = 1
	}
	_, ok := constrain("", "{rabbit}", many, nil)
	assert.False(t, ok, "longer than Slurm takes")
}

// asking is a driver whose Slurm says what the job wants, "2|||" and so on, and a function that
// tells what it was asked to change.
func (p *provider) asking(t *testing.T, wish, placementFirst string) (*Driver, func() string) {
	slurmctld := slurmtest.NewNodes(t, t.TempDir())
	for i := range 12 {
		slurmctld.Set(fmt.Sprintf("c%02d", i+1), "IDLE", "")
	}
	squeue := "#!/bin/sh\ncase \"$*\" in *%f*) echo '12|" + wish + "';; *) echo '12|12|';; esac\n"
	require.NoError(t, os.WriteFile(filepath.Join(slurmctld.Dir, "squeue"), []byte(squeue), 0o755))
	d := newDriver(t, p.Workflows, func(c *slurmconf.Config) {
		c.StateDir, c.SlurmBinDir = t.TempDir(), slurmctld.Dir
		c.Workflows.RabbitFeature, c.Workflows.Placement = "on-{rabbit}", placementFirst
	})
	return d, func() string { return strings.Join(slurmctld.Changes(), "\n") }
}

// What an earlier run has asked for is replaced, and nothing that the job asks for itself.
func TestTheJobsOwnConstraintIsKept(t *testing.T) {
	lines := []any{"#DW jobdw type=xfs capacity=50GiB name=a", "#DW copy_in source=/a destination=$DW_JOB_a"}
	for name, test := range map[string]struct {
		kept        Away
		now         string
		want, state string
		wantOwn     string
		wantAsked   []string
	}{
		"it asks for a rabbit": {now: "on-r2", state: "Proposal"},
		"asked before": {kept: Away{Own: "gpu", Asked: []string{"gpu&on-r3"}}, now: "gpu&on-r3", state: "Setup",
			want: "[(gpu&on-r1)*1&(gpu&on-r2)*1]", wantOwn: "gpu", wantAsked: []string{"gpu&on-r3", "[(gpu&on-r1)*1&(gpu&on-r2)*1]"}},
		"asked for a rabbit that is gone": {kept: Away{Asked: []string{"on-r9"}}, now: "on-r9", state: "Setup",
			want: "[on-r1*1&on-r2*1]", wantAsked: []string{"on-r9", "[on-r1*1&on-r2*1]"}},
		"Slurm did not take what was asked last": {kept: Away{Asked: []string{"on-r9", "on-r3"}}, now: "on-r9", state: "Setup",
			want: "[on-r1*1&on-r2*1]", wantAsked: []string{"on-r9", "[on-r1*1&on-r2*1]"}},
		"the user has changed it since": {kept: Away{Own: "gpu", Asked: []string{"gpu&on-r3"}}, now: "ib", state: "Setup",
			want: "[(ib&on-r1)*1&(ib&on-r2)*1]", wantOwn: "ib", wantAsked: []string{"[(ib&on-r1)*1&(ib&on-r2)*1]"}},
		"asked for the same": {kept: Away{Asked: []string{"[on-r1*1&on-r2*1]"}}, now: "[on-r1*1&on-r2*1]", state: "Setup",
			wantAsked: []string{"[on-r1*1&on-r2*1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, xfs(50*gib))
			p.directives(lines...)
			d, asked := p.asking(t, "2||c01,c05|"+test.now, "storage-first")
			files := Files(d.cfg.StateDir)
			require.NoError(t, files.ChangeAway(t.Context(), 12, func(a *Away) {
				*a = test.kept
				a.Excluded = []string{"c9"}
			}))
			require.NoError(t, files.RemoveJob(12), "a teardown")
			_, err := d.Setup(bounded(t), theJob, directivesOf(lines...))
			require.NoError(t, err)
			assert.Equal(t, test.state, p.state())
			want := ""
			if test.want != "" {
				want = "update JobId=12 Features=" + test.want
			}
			assert.Equal(t, want, asked())
			kept, err := files.Away(12)
			require.NoError(t, err)
			assert.Equal(t, test.wantOwn, kept.Own)
			assert.Equal(t, test.wantAsked, kept.Asked)
			assert.Equal(t, []string{"c9"}, kept.Excluded)
		})
	}
}

func (p *provider) directives(lines ...any) {
	p.Change(func(o kubetest.Object) kubetest.Object {
		kubetest.Part(o, "spec")["dwDirectives"], kubetest.Part(o, "spec")["jobID"] = lines, 12
		return o
	})
}

func directivesOf(lines ...any) []string {
	texts := make([]string, len(lines))
	for i := range lines {
		texts[i] = fmt.Sprint(lines[i])
	}
	return texts
}

func TestAJobWithPersistentStorageGetsTheNodesThatItWasMadeFor(t *testing.T) {
	for name, test := range map[string]struct{ wish, asked, refused, note string }{
		"its rabbits":                         {wish: "3|||(null)", asked: "update JobId=12 Features=[on-r1*2&on-r2*1]", note: waitsForNodes},
		"with what it asks for itself":        {wish: "3|||gpu", asked: "update JobId=12 Features=[(gpu&on-r1)*2&(gpu&on-r2)*1]", note: waitsForNodes},
		"asked before":                        {wish: "3|||[on-r1*2&on-r2*1]", note: waitsForNodes},
		"it names its nodes":                  {wish: "3|c01||", note: waitsForNodes},
		"a constraint that is too much":       {wish: "3|||a|b", note: waitsForNodes},
		"another number of nodes than it has": {wish: "2|||(null)", refused: "persistent storage data was made for 3 nodes, and the job asks for 2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, uses("data"))
			p.put("persistentstorageinstances/slurm/data", kubetest.Object{"spec": kubetest.Object{"fsType": "xfs", "userID": 1000},
				"status": kubetest.Object{"state": "Active", "servers": kubetest.Object{"namespace": "slurm", "name": "data"}}})
			p.put("servers/slurm/data", kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{"label": "xfs", "allocationSize": gib,
				"storage": []any{kubetest.Object{"name": "r1", "allocationCount": 2}, kubetest.Object{"name": "r2", "allocationCount": 1}}}}}})
			p.directives("#DW persistentdw name=data")
			d, asked := p.asking(t, test.wish, "nodes-first")
			_, err := d.Setup(bounded(t), theJob, directivesOf("#DW persistentdw name=data"))
			if test.refused != "" {
				require.EqualError(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.asked, asked())
			assert.Equal(t, test.note, p.note())
			assert.Equal(t, "Proposal", p.state())
		})
	}
}

func TestStorageFirst(t *testing.T) {
	lines := []any{"#DW jobdw type=xfs capacity=50GiB name=a", "#DW copy_in source=/a destination=$DW_JOB_a"}
	for name, test := range map[string]struct {
		wish, placement string
		directives      []any
		state, asked    string
		placed          string
	}{
		"on the nodes that Slurm plans": {"2||c01,c05|(null)", "storage-first", lines, "Setup", "update JobId=12 Features=[on-r1*1&on-r2*1]", "xfs 53687091200 [r1:1 r2:1]"},
		"without a plan":                {"6|||(null)", "storage-first", lines, "Setup", "update JobId=12 Features=[on-r1*4&on-r2*2]", "xfs 53687091200 [r1:4 r2:2]"},
		"nothing is copied in":          {"6|||(null)", "storage-first", lines[:1], "Proposal", "", ""},
		"the job names nodes":           {"1|c01||(null)", "storage-first", lines, "Proposal", "", ""},
		"nodes first":                   {"6|||(null)", "nodes-first", lines, "Proposal", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, xfs(50*gib))
			p.directives(test.directives...)
			d, asked := p.asking(t, test.wish, test.placement)
			_, err := d.Setup(bounded(t), theJob, directivesOf(test.directives...))
			require.NoError(t, err)
			assert.Equal(t, test.state, p.state())
			assert.Equal(t, test.asked, asked())
			assert.Equal(t, test.placed, p.placement("bb12-0"))
		})
	}
	t.Run("pre_run judges the nodes that the job got", func(t *testing.T) {
		p := newProvider(t)
		p.in(Proposal, xfs(50*gib))
		p.directives(lines...)
		d, _ := p.asking(t, "2||c01,c05|(null)", "storage-first")
		_, err := d.Setup(bounded(t), theJob, directivesOf(lines...))
		require.NoError(t, err)
		require.NoError(t, d.Request(bounded(t), theJob, DataIn))
		_, err = d.PreRun(bounded(t), onNodes("c01 c02"))
		require.EqualError(t, err, "the storage was made for other nodes, on r1, r2 [#DW 0]")
		_, err = d.PreRun(bounded(t), onNodes("c03 c08"))
		require.NoError(t, err)
		assert.Equal(t, "PreRun", p.state())
	})
	t.Run("without room it waits in the queue", func(t *testing.T) {
		p := newProvider(t)
		for _, rabbit := range []string{"r1", "r2", "r3"} {
			p.others("other-"+rabbit, rabbit, 20*tib)
		}
		p.in(Proposal, xfs(50*gib))
		p.directives(lines...)
		d, _ := p.asking(t, "1|||(null)", "storage-first")
		_, err := d.Setup(bounded(t), theJob, directivesOf(lines...))
		require.NoError(t, err)
		assert.Equal(t, "Proposal", p.state())
		_, err = d.Poll(bounded(t), theJob, DataIn)
		require.ErrorIs(t, err, ErrBusy)
		p.remove("servers/their/other-r2")
		_, err = d.Await(bounded(t), theJob, DataIn)
		require.NoError(t, err)
		assert.Equal(t, "xfs 53687091200 [r2:1]", p.placement("bb12-0"))
	})
}

func TestTheFeaturesForSlurmConf(t *testing.T) {
	p := newProvider(t)
	cfg, client, log := newClient(t, p.Workflows, func(c *slurmconf.Config) {
		c.SlurmConf = filepath.Join(t.TempDir(), "slurm.conf")
		require.NoError(t, os.WriteFile(c.SlurmConf, []byte("NodeName=DEFAULT Feature=gpu,rabbit\nNodeName=c[01-10],login1\nNodeName=c11 Features=gpu\n"), 0o600))
		c.Workflows.NodeFeature = "rabbit"
	})
	survey, err := TakeSurvey(bounded(t), cfg, client, log)
	require.NoError(t, err)
	assert.Equal(t, []string{"login1"}, survey.Unknown)
	assert.Equal(t, []string{"c12"}, survey.Missing)
	assert.Equal(t, []string{"c11"}, survey.Featureless)
	var out strings.Builder
	survey.PrintNodes(&out, "on-{rabbit}", "rabbit")
	assert.Contains(t, out.String(), `workflows.rabbit_feature = "on-{rabbit}" and node_feature = "rabbit" in slurmk8s.toml`)
	assert.Contains(t, out.String(), "\nNodeName=c05,c06,c07,c08 Feature=rabbit,on-r2\n")
	out.Reset()
	survey.PrintNodes(&out, "", "")
	assert.Equal(t, `# Features for slurm.conf, with workflows.rabbit_feature = "{rabbit}" in slurmk8s.toml: add each to
# the NodeName lines of these nodes.
NodeName=c01,c02,c03,c04 Feature=r1
NodeName=c05,c06,c07,c08 Feature=r2
NodeName=c09,c10,c11,c12 Feature=r3
`, out.String())
}
