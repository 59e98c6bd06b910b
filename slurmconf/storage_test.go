package slurmconf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCapacity(t *testing.T) {
	for text, want := range map[string]int64{
		"50GB": 50e9, "1TiB": 1 << 40, "0KB": 0, "9223372036854775KB": 9223372036854775000,
		"": -1, "50": -1, "GB": -1, "1.5TB": -1, "-1GB": -1, "1tb": -1, "1PiB": -1, "50GBGB": -1, "9999999999999TiB": -1, "8388608TiB": -1, "5iB": -1,
	} {
		bytes, ok := Capacity(text)
		assert.Equal(t, want >= 0, ok, text)
		assert.Equal(t, max(want, 0), bytes, text)
	}
}

func TestWrongRulesAboutStorage(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"for nobody":             {"[[workflows.allow]]\nprofiles = [\"a\"]\n", "workflows.allow[1]: applies to nobody"},
		"an unknown directive":   {"[[workflows.allow]]\nusers = [\"*\"]\ndirectives = [\"jobwd\"]\n", `workflows.allow[1].directives: "jobwd" must be one of jobdw, `},
		"a limit without a unit": {"[[workflows.allow]]\nusers = [\"*\"]\nmax = [\"xfs=1000\"]\n", `workflows.allow[1].max: "xfs=1000" is not a limit`},
		"a limit of nothing":     {"[[workflows.allow]]\nusers = [\"*\"]\nmax = [\"ext4=1TB\"]\n", `workflows.allow[1].max: "ext4=1TB" is not a limit`},
		"a preset's name":        {"[[workflows.presets]]\nname = \"jobdw\"\ndirectives = [\"#DW x\"]\n", `workflows.presets[1].name: "jobdw" is a directive already`},
		"a preset twice": {"[[workflows.presets]]\nname = \"a\"\ndirectives = [\"#DW x\"]\n[[workflows.presets]]\nname = \"a\"\ndirectives = [\"#DW x\"]\n",
			`workflows.presets[2].name: "a" is given twice`},
		"a preset of nothing":      {"[[workflows.presets]]\nname = \"a\"\n", "workflows.presets[1].directives: not set"},
		"a preset of no directive": {"[[workflows.presets]]\nname = \"a\"\ndirectives = [\"jobdw\"]\n", `workflows.presets[1].directives: "jobdw" is not a directive`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(writeConfig(t, "cluster = \"c\"\n"+test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}
