package main

import (
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

func TestSettingsThatBurstBufferLuaLacksAreAnError(t *testing.T) {
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
