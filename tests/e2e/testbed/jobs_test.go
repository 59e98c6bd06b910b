package testbed

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// As Slurm 22.05 prints two jobs, shortened.
const shown = `JobId=7 ArrayJobId=6 ArrayTaskId=1 JobName=a
   UserId=alice(1001) GroupId=alice(1001) MCS_label=N/A
   JobState=CANCELLED Reason=burst_buffer/lua:_slurm_bb_setup:_x=y Dependency=(null)
   WorkDir=/home/alice
   SystemComment=11/22/26 14:51:02 burst_buffer/lua: data_in: DataIn failed: a JobState=b
second line
   StdErr=/home/alice/slurm-7.out
   BurstBuffer=#DW Setup action=complete env=JobId:9
#DW DataIn action=wait
   BurstBufferState=complete
   Power=
   

JobId=8 JobName=sbatch
   JobState=RUNNING Reason=None Dependency=(null)
   Power=

`

func TestParseJobs(t *testing.T) {
	parsed := ParseJobs(shown)
	require.Len(t, parsed, 2)
	first := parsed[0]
	require.Equal(t, "7", first["JobId"])
	require.Equal(t, "6", first["ArrayJobId"])
	require.Equal(t, "CANCELLED", first.State(), "free text is no field")
	require.Equal(t, "11/22/26 14:51:02 burst_buffer/lua: data_in: DataIn failed: a JobState=b\nsecond line", first["SystemComment"])
	require.Equal(t, "#DW Setup action=complete env=JobId:9\n#DW DataIn action=wait", first["BurstBuffer"])
	require.Equal(t, "complete", first["BurstBufferState"])
	require.Equal(t, "RUNNING", parsed[1].State())
	require.Empty(t, parsed[1]["SystemComment"])
	require.Empty(t, ParseJobs("No jobs in the system\n"))
}

func TestParseProbe(t *testing.T) {
	probe, err := parseProbe("100.040000 100.140000 0 n1:idle n2:drained*")
	require.NoError(t, err)
	require.Equal(t, 100*time.Millisecond, probe.Took)
	require.False(t, probe.Failed)
	require.Equal(t, "n2:drained*", probe.Drained)

	probe, err = parseProbe("100.040000 100.140000 1 slurm_load_node: drain")
	require.NoError(t, err)
	require.True(t, probe.Failed)
	require.Empty(t, probe.Drained, "an error is no node")

	_, err = parseProbe("bash: sinfo: not found")
	require.Error(t, err)
}

func TestFaultsAreWhatNothingExcuses(t *testing.T) {
	at := time.Now()
	p := &Prober{probes: []Probe{
		{At: at.Add(-time.Second), Failed: true},
		{At: at, Took: 2 * time.Second},
		{At: at.Add(10 * time.Second), Took: time.Second, Failed: true},
		{At: at.Add(20 * time.Second), Took: 9 * time.Second, Failed: true},
		{At: at.Add(50 * time.Second), Drained: "n1:drained"},
		{At: at.Add(60 * time.Second), Drained: "n2:drained"},
	}}
	p.excused = []excuse{
		{from: at.Add(28 * time.Second), to: at.Add(30 * time.Second)},
		{from: at.Add(50 * time.Second), to: at.Add(51 * time.Second)},
		{from: at.Add(59 * time.Second), to: at.Add(61 * time.Second), drains: true},
	}
	faults, worst, count := p.Faults(at)
	require.Len(t, faults, 2, "%q", faults)
	require.Contains(t, faults[0], "sinfo failed after 1s")
	require.Contains(t, faults[1], "n1:drained")
	require.Equal(t, 2*time.Second, worst)
	require.Equal(t, 5, count)
}
