package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPercentileIsASampleOfTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	assert.Equal(t, 50.0, percentile(hundred, 50))
	assert.Equal(t, 99.0, percentile(hundred, 99))
	assert.Equal(t, 100.0, percentile(hundred, 100))
	assert.Equal(t, 7.0, percentile([]float64{7}, 99))
	assert.Equal(t, 2.0, median([]float64{3, 1, 2}))
}

func TestBusyIsThePartOfTheWorkThatLiesInTheTime(t *testing.T) {
	work := []span{{asked: 10, done: 20}, {asked: 30, done: 50}}
	for name, c := range map[string]struct{ begin, end, want time.Duration }{
		"all of it":                 {0, 60, 30},
		"work that began before":    {15, 25, 5},
		"work that goes on":         {25, 40, 10},
		"between two":               {20, 30, 0},
		"inside one":                {32, 35, 3},
		"none after the last":       {50, 60, 0},
		"parts of several":          {18, 31, 3},
		"a moment without duration": {15, 15, 0},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, busy(work, c.begin, c.end)) })
	}
}

func TestSettingsThatAScriptLacksAreAnError(t *testing.T) {
	script := "local SETTINGS = {\n\tconfig = \"/etc/slurm/slurmk8s.toml\",\n\tlibrary = \"x\",\n}\n"
	value := func(key string) string { return "/b/" + key }

	text, err := replaceSettings(script, value, map[string]string{"config": "", "library": ""})
	require.NoError(t, err)
	assert.Equal(t, "local SETTINGS = {\n\tconfig = \"/b/config\",\n\tlibrary = \"/b/library\",\n}\n", text)

	_, err = replaceSettings(script, value, map[string]string{"module": ""})
	assert.ErrorContains(t, err, "no setting module")
}

func TestTheRatioSaysHowManyTimesLessWeTake(t *testing.T) {
	r := &report{}
	assert.Equal(t, 4.0, *r.single("a", "ms", 5).beside(20).Ratio)
	assert.Nil(t, r.single("b", "ms", 0).beside(20).Ratio)
}

func TestTheStopwatchesTellWhatLiesBetweenThem(t *testing.T) {
	result := map[string]*launched{"with": {own: map[string][]float64{}}}
	require.NoError(t, addTimes(result, `with slurmstepd 7 before load 1000000
with slurmstepd 7 before exit 9000000
with slurmstepd 7 after load 3000000
with slurmstepd 7 after exit 9500000
with slurmstepd 8 before task_init 5000000
with slurmstepd 8 after task_init 5250000
with srun 9 before init 100
with srun 9 before load 50
with srun 9 after load 150
with srun 9 after init 1000100
`))
	own := result["with"].own
	assert.Equal(t, []float64{2.5}, own["slurmstepd"])
	assert.Equal(t, []float64{2}, own["before tasks"], "what comes at the end is no delay")
	assert.Equal(t, []float64{0.25}, own["task"], "a child that did not load the plugins")
	assert.Equal(t, []float64{1.0001}, own["srun"])
	assert.ErrorContains(t, addTimes(result, "with srun 3 after load 9999999999999\n"), "by one stopwatch only")
	assert.ErrorContains(t, addTimes(result, "without srun 3 after load 1\n"), "cannot read")
}

func TestWhatAProcessHasMappedBeyondAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smaps")
	require.NoError(t, os.WriteFile(path, []byte(`7f00-7f10 r-xp 00000000 00:00 1  /lib/libc.so.6
Rss:                 100 kB
7f20-7f30 r-xp 00000000 00:00 2  /opt/plugin.so
Rss:                  40 kB
7f30-7f40 rw-p 00001000 00:00 2  /opt/plugin.so
Rss:                   4 kB
7f50-7f60 rw-p 00000000 00:00 0  [heap]
Rss:                 500 kB
`), 0o600))
	with, err := readMaps(path)
	require.NoError(t, err)
	files, kb := with.beyond(mapped{"/lib/libc.so.6": 90})
	assert.Equal(t, []string{"/opt/plugin.so"}, files)
	assert.Equal(t, 44.0, kb)
}

func TestTheMachineOfThePlacementBenchmarkHasRoomForItsJob(t *testing.T) {
	r := &report{}
	require.NoError(t, placements(t.Context(), &bench{report: r, samples: samples{calls: 1}}))
	assert.Len(t, r.metrics, 2)
}

func TestOnlyOurPackagesCountBeforeMain(t *testing.T) {
	bytes, allocs := beforeMain(`init runtime @0.1 ms, 0.2 ms clock, 500 bytes, 5 allocs
init slurmk8s.io/slurmk8s/bridge/hook @11 ms, 0.004 ms clock, 1592 bytes, 9 allocs
init k8s.io/client-go/rest @11 ms, 0.004 ms clock, 700 bytes, 7 allocs
init slurmk8s.io/slurmk8s/slurmconf @8.5 ms, 0.013 ms clock, 512 bytes, 9 allocs
slurmk8s 0.1.0
`)
	assert.Equal(t, 2104.0, bytes)
	assert.Equal(t, 18.0, allocs)
}
