package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nodeRecord is a node as scontrol prints it; more are lines at its end.
func nodeRecord(name, state string, more ...string) string {
	return "NodeName=" + name + " Arch=x86_64 CoresPerSocket=1 \n   CPUAlloc=0 CPUEfctv=2 CPUTot=2 CPULoad=0.10\n" +
		"   AvailableFeatures=(null)\n   ActiveFeatures=(null)\n   Gres=(null)\n   NodeAddr=" + name + " NodeHostName=" + name + " Version=22.05.8\n" +
		"   OS=Linux 6.1.0 State=IDLE+DRAIN #1 SMP \n   RealMemory=1 AllocMem=0 FreeMem=1 Sockets=2 Boards=1\n" +
		"   State=" + state + " ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A\n   Partitions=main \n" +
		"   BootTime=1795368080 SlurmdStartTime=1795368080\n   CurrentWatts=0 AveWatts=0\n" + strings.Join(more, "\n") + "\n\n"
}

func TestNodeRecords(t *testing.T) {
	tests := []struct {
		name, record string
		want         NodeRecord
		fails        string
	}{
		{"idle", nodeRecord("c1", "IDLE"), NodeRecord{Name: "c1", Base: "IDLE", Flags: []string{}}, ""},
		{"not responding, in the words of 22.05", nodeRecord("c1", "IDLE*+DRAIN"), NodeRecord{Name: "c1", Base: "IDLE", Flags: []string{"DRAIN"}}, ""},
		{"all flags, and a reason with who and when", nodeRecord("c1", "MIXED+DRAIN+COMPLETING", "   Reason=bad DIMM [slot 3] [root@1795368080]"),
			NodeRecord{Name: "c1", Base: "MIXED", Flags: []string{"DRAIN", "COMPLETING"}, Reason: "bad DIMM [slot 3]"}, ""},
		{"a reason of two lines", nodeRecord("c1", "DOWN", "   Reason=one [root@1795368080]", "          two"),
			NodeRecord{Name: "c1", Base: "DOWN", Flags: []string{}, Reason: "one two"}, ""},
		{"a comment that imitates other fields", nodeRecord("c1", "IDLE+DRAIN", "   Reason=mine [root@1]", "   Comment=a State=IDLE Reason=slurmk8s: cordoned in Kubernetes"),
			NodeRecord{Name: "c1", Base: "IDLE", Flags: []string{"DRAIN"}, Reason: "mine"}, ""},
		{"a comment that imitates a line", nodeRecord("c1", "IDLE+DRAIN", "   Reason=mine [root@1]", "   Comment=a", "   Reason=slurmk8s: cordoned in Kubernetes [root@1]"),
			NodeRecord{Name: "c1", Base: "IDLE", Flags: []string{"DRAIN"}, Reason: "(unreadable)"}, ""},
		{"features", strings.Replace(nodeRecord("c1", "IDLE"), "ActiveFeatures=(null)", "ActiveFeatures=gpu,rabbit", 1),
			NodeRecord{Name: "c1", Base: "IDLE", Flags: []string{}, Features: []string{"gpu", "rabbit"}}, ""},
		{"no state", "NodeName=c1 Arch=x86_64\n   Gres=(null)\n\n", NodeRecord{}, "no State of node c1"},
		{"something else", "slurmctld is tired\n", NodeRecord{}, `cannot read "slurmctld is tired"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "answer"), []byte(tt.record+nodeRecord("c2", "IDLE")), 0o644))
			script(t, dir, "scontrol", `[ "$*" = "--all show node" ] && cat `+dir+"/answer")
			got, err := Commands{Dir: dir}.NodeRecords(t.Context())
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got["c1"])
			assert.Contains(t, got, "c2")
		})
	}
}

func TestANodeIsDeadIfNothingRunsOnItAnyMore(t *testing.T) {
	for state, dead := range map[string]bool{
		"DOWN*+DRAIN+NOT_RESPONDING": true, "IDLE+CLOUD+POWERED_DOWN": true,
		"ALLOCATED+POWERED_DOWN+POWER_UP": false, "ALLOCATED+POWERED_DOWN+POWERING_UP": false, "MIXED+NOT_RESPONDING": false, "IDLE+CLOUD": false,
	} {
		record, err := parseNodeRecord(nodeRecord("c1", state))
		require.NoError(t, err)
		assert.Equal(t, dead, record.Dead(), state)
	}
}

func TestANodeThatIsMissingInTheAnswerIsAnError(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "answer"), []byte(nodeRecord("c2", "IDLE")), 0o644))
	script(t, dir, "scontrol", `[ "$*" = "--all show node c1,c2" ] && cat `+dir+"/answer")
	_, err := Commands{Dir: dir}.NodeRecords(t.Context(), "c1", "c2")
	require.ErrorContains(t, err, "no node c1 in the answer")
}

func TestNodesAreDrainedAndUndrainedTogether(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "scontrol", `printf '%s\n' "$@" >>`+dir+"/asked")
	c := Commands{Dir: dir}
	require.NoError(t, c.Drain(t.Context(), []string{"c1", "c2"}, "slurmk8s: cordoned in Kubernetes"))
	require.NoError(t, c.Undrain(t.Context(), []string{"c3"}))
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)
	assert.Equal(t, "update\nNodeName=c1,c2\nState=DRAIN\nReason=slurmk8s: cordoned in Kubernetes\nupdate\nNodeName=c3\nState=UNDRAIN\n", string(asked))
}
