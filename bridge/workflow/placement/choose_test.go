package placement

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNodesAreChosenForStorageThatIsMadeFirst(t *testing.T) {
	all := func(string) bool { return true }
	for name, test := range map[string]struct {
		free    map[string]int64
		prepare func(*site)
		n       int
		planned []string
		usable  func(string) bool
		want    map[string]int
		refused string
	}{
		"25 the nodes that Slurm plans":   {n: 6, planned: []string{"c01", "c02", "c03", "c05", "c06", "c07"}, want: map[string]int{"r1": 3, "r2": 3}},
		"25 without a plan":               {n: 6, want: map[string]int{"r1": 4, "r2": 2}},
		"the least full rabbit first":     {n: 5, free: map[string]int64{"r1": tib, "r2": 5 * tib, "r3": 8 * tib}, want: map[string]int{"r3": 4, "r2": 1}},
		"a plan for other than n nodes":   {n: 2, planned: []string{"c09"}, want: map[string]int{"r1": 2}},
		"a plan on a rabbit that is ill":  {n: 1, planned: []string{"c01"}, prepare: func(s *site) { s.rabbits[0].Status = "Drained" }, want: map[string]int{"r2": 1}},
		"a plan on a node without rabbit": {n: 1, planned: []string{"x01"}, want: map[string]int{"r1": 1}},
		"not nodes that are down":         {n: 4, usable: func(node string) bool { return node != "c02" }, want: map[string]int{"r1": 3, "r2": 1}},
		"more than there are":             {n: 13, refused: "the job wants 13 nodes, and 12 have a rabbit that is well"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(test.free)
			if test.prepare != nil {
				test.prepare(s)
			}
			if test.usable == nil {
				test.usable = all
			}
			topology := NewTopology(s.system, s.rabbits, s.servers, nil)
			nodes, err := topology.Choose(test.n, test.planned, test.usable)
			if test.refused != "" {
				require.EqualError(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, topology.PerRabbit(nodes))
			assert.Len(t, slices.Compact(slices.Sorted(slices.Values(nodes))), test.n)
		})
	}
}
