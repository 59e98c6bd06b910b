package workflow

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

func TestWhichNodesAJobIsToAvoid(t *testing.T) {
	setup := func(text string) *object {
		return &object{Name: "bb12", State: Setup, Desired: Setup, Status: statusError, Drivers: []driver{{Watch: Proposal, Status: "Completed"}, {Watch: Setup, Status: statusError, Error: text}}}
	}
	for name, test := range map[string]struct {
		prepare func(*provider)
		nodes   string
		err     error // nil: of pre_run on the nodes
		want    string
	}{
		"a rabbit without room":         {prepare: func(p *provider) { p.others("other", "r2", 20*tib) }, nodes: "c01 c05", want: "c05 c06 c07 c08"},
		"a rabbit that is not well":     {prepare: func(p *provider) { kubetest.Part(p.objects["storages/default/r1"], "status")["status"] = "Drained" }, nodes: "c01", want: "c01 c02 c03 c04"},
		"a node whose link is broken":   {prepare: func(p *provider) { p.link("r1", "c02", "Offline") }, nodes: "c01 c02", want: "c02"},
		"a node that DWS does not know": {nodes: "c99", want: ""},
		"a rabbit that the provider names": {err: &DriverError{"failed", setup("internal error: storage resource error: slurm/bb12-0: Node: r3: NnfNodeBlockStorage has not been reconciled after 300 seconds")},
			want: "c09 c10 c11 c12"},
		"a node that the provider names": {err: &DriverError{"failed", &object{State: PreRun, Drivers: []driver{{Watch: PreRun, Status: statusTransient,
			Error: "internal error: unable to check ClientMount status: Node: c03: ClientMount has not been reconciled after 300 seconds"}}}}, want: "c03"},
		"a rabbit that has no room though we count some": {err: &DriverError{"failed", &object{State: Setup, Drivers: []driver{{Watch: Setup, Status: statusError,
			Message: "WLM error: r1: insufficient capacity available"}}}}, want: "c01 c02 c03 c04"},
		"a name that is no node's":  {err: &DriverError{"failed", setup("internal error: Node: somewhere: failed")}, want: ""},
		"an error that is nobody's": {err: &DriverError{"failed", setup("internal error: no such profile")}, want: ""},
		"no error of storage":       {err: errors.New("HTTP 401"), want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.in(Proposal, xfs(50*gib))
			if test.prepare != nil {
				test.prepare(p)
			}
			d, err := p.driver(t), test.err
			if err == nil {
				_, err = d.PreRun(bounded(t), onNodes(test.nodes))
				require.Error(t, err)
			}
			assert.Equal(t, test.want, strings.Join(d.Avoid(bounded(t), err), " "))
		})
	}
}

func (p *provider) link(rabbit, node, status string) {
	links := kubetest.Part(kubetest.Part(p.objects["storages/default/"+rabbit], "status"), "access")["computes"].([]any)
	for _, link := range links {
		if link := link.(kubetest.Object); link["name"] == node {
			link["status"] = status
		}
	}
}

func TestWhatAJobIsToAvoidIsKept(t *testing.T) {
	files := Files(t.TempDir())
	none, err := files.Away(12)
	require.NoError(t, err)
	assert.Nil(t, none)
	want := &Away{Failures: 3, Why: "xfs needs\nmore", Pending: []string{"c01", "c02"}, Excluded: []string{"c09"}, Own: "gpu&ib", Asked: []string{"gpu&ib&r1", "[(gpu&ib&r1)*2&(gpu&ib&r2)*1]"}}
	require.NoError(t, files.ChangeAway(t.Context(), 12, func(a *Away) { *a = *want }))
	got, err := files.Away(12)
	require.NoError(t, err)
	want.Why = "xfs needs more"
	assert.Equal(t, want, got)
	require.NoError(t, files.RemoveAway(12))
	require.NoError(t, files.RemoveAway(12))
}

func TestAJobMayHaveNodesAgainThatAreWell(t *testing.T) {
	for name, test := range map[string]struct {
		state string
		age   time.Duration
		asked string
		still string
	}{
		"after some time":     {"PENDING", time.Hour, "update JobId=12 ExcNodeList=c05,c99", "c05"},
		"not at once":         {"PENDING", time.Minute, "", "c01 c05"},
		"a job that runs now": {"RUNNING", time.Hour, "", "c01 c05"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			kubetest.Part(p.objects["storages/default/r2"], "status")["status"] = "Offline"
			d := p.driver(t)
			files, dir := Files(d.cfg.StateDir), t.TempDir()
			d.cfg.SlurmBinDir = dir
			require.NoError(t, files.ChangeAway(t.Context(), 12, func(a *Away) { *a = Away{Failures: 1, Why: "x", Excluded: []string{"c01", "c05"}} }))
			then := time.Now().Add(-test.age)
			require.NoError(t, os.Chtimes(files.away(12), then, then))
			write := func(name, text string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
			}
			write("squeue", "case \"$*\" in *%x*) echo '12||c01,c05,c99';; *%i*) echo '12|12|';; *) echo '12|"+test.state+"|ada|';; esac")
			// A pre_run hook fails meanwhile.
			write("scontrol", `echo "$@" >`+filepath.Join(dir, "asked")+"; sed -i 's/^pending.*/pending c09/' "+files.away(12))
			topology, err := d.topology(bounded(t))
			require.NoError(t, err)
			require.NoError(t, d.readmit(bounded(t), topology, files))
			asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
			assert.Equal(t, test.asked, strings.TrimSpace(string(asked)))
			kept, err := files.Away(12)
			require.NoError(t, err)
			assert.Equal(t, test.still, strings.Join(kept.Excluded, " "))
			if test.asked != "" {
				assert.Equal(t, []string{"c09"}, kept.Pending, "what was kept meanwhile stays")
			}
		})
	}
}
