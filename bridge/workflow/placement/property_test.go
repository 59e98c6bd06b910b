package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scene is a machine and a job that are drawn at random.
type scene struct {
	*site
	breakdowns []Breakdown
	nodes      []string
}

func draw(r *rand.Rand) scene {
	free := map[string]int64{}
	for i := range 3 {
		free[fmt.Sprintf("r%d", i+1)] = []int64{0, 3 * gib, 40 * gib, tib, 7*tib + r.Int64N(tib), 20 * tib}[r.IntN(6)]
	}
	s := scene{site: newSite(free)}
	for i := range s.rabbits {
		name := s.rabbits[i].Name
		switch r.IntN(12) {
		case 0:
			s.drained(name)
		case 1:
			s.rabbits[i].Enabled = false
		case 2:
			s.rabbits[i].RebootRequired = true
		case 3, 4:
			s.has("mgs-"+name, "mgt", name, 0)
		case 5, 6, 7:
			s.rabbits[i].Labels["site/pool"] = "fast"
		}
	}
	for i := range 1 + r.IntN(3) {
		s.breakdowns = append(s.breakdowns, breakdown(i, drawSets(r)...))
	}
	for i := range 12 {
		if r.IntN(3) == 0 {
			s.nodes = append(s.nodes, fmt.Sprintf("c%02d", i+1))
		}
	}
	return s
}

func drawSets(r *rand.Rand) []Set {
	bytes := []int64{1, 5 * gib, 300 * gib, 2e12, 9 * tib, math.MaxInt64}[r.IntN(6)]
	osts := []Set{ost(bytes, 1), ost(bytes, 0), ost(bytes, 10), parts("ost", bytes, 2), parts("ost", bytes, 5)}[r.IntN(5)]
	if r.IntN(4) == 0 {
		osts = labelled(osts, fast)
	}
	switch r.IntN(6) {
	case 0:
		return []Set{ofNodes("xfs", perCompute, bytes)}
	case 1:
		return []Set{ofNodes("gfs2", perServer, bytes)}
	case 2:
		return []Set{osts}
	case 3:
		return []Set{osts, parts("mdt", 5*gib, 1, ""), mgt()}
	case 4:
		return []Set{parts("mgtmdt", 15*gib, 2, keyMGS)}
	}
	return []Set{osts, mgtmdt()}
}

func TestEveryPlacementKeepsTheRules(t *testing.T) {
	placed, refused := 0, 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := draw(r)
		topology := s.topology()
		filled, err := Place(s.breakdowns, topology, s.nodes)
		if err != nil {
			refused++
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal, "seed %d", seed)
			assert.NotContains(t, refusal.Text, "\n")
			if len(s.breakdowns) == 1 && len(s.breakdowns[0].Sets) == 1 {
				assert.False(t, obvious(s, topology), "seed %d could be placed: %s", seed, refusal.Text)
			}
		} else {
			placed++
			if broken := s.broken(topology, filled); broken != "" {
				t.Errorf("seed %d: %s: %s", seed, broken, written(filled))
			}
		}
		// The order in which the API server lists things is no input.
		for _, shuffle := range []func(){
			func() { r.Shuffle(len(s.rabbits), swap(s.rabbits)) }, func() { r.Shuffle(len(s.servers), swap(s.servers)) },
		} {
			shuffle()
		}
		again, err2 := Place(s.breakdowns, s.topology(), s.nodes)
		assert.Equal(t, filled, again, "seed %d", seed)
		assert.Equal(t, err, err2, "seed %d", seed)
	}
	assert.Greater(t, placed, 600)
	assert.Greater(t, refused, 1000)
}

func swap[T any](of []T) func(i, j int) { return func(i, j int) { of[i], of[j] = of[j], of[i] } }

// broken names a rule that a placement breaks.
func (s scene) broken(t *Topology, filled []Filled) string {
	used, keys := map[string]int64{}, map[string]map[string]string{}
	for i, f := range filled {
		for j, a := range f.Sets {
			asked := s.breakdowns[i].Sets[j]
			var sum int64
			for _, storage := range a.Storage {
				r := find(t, storage.Name)
				switch {
				case storage.AllocationCount < 1:
					return "no allocation on " + storage.Name
				case r.fault != "":
					return storage.Name + " is " + r.fault
				case r.lacks(asked.Labels) != "":
					return storage.Name + " lacks a label"
				case asked.perNode() && (asked.Strategy == perServer || storage.AllocationCount != s.nodesOf(t, r)) &&
					(asked.Strategy == perCompute || storage.AllocationCount != 1):
					return "not one for each node of " + storage.Name
				case asked.parts() == 0 && !asked.perNode() && storage.AllocationCount != 1:
					return "a second part on " + storage.Name
				}
				sum += int64(storage.AllocationCount) * a.AllocationSize
				used[storage.Name] += poolBytes(a.Label, a.AllocationSize, storage.AllocationCount)
				for _, key := range asked.Keys {
					if r.taken[key] || keys[storage.Name][key] != "" {
						return "two with key " + key + " on " + storage.Name
					}
				}
			}
			for _, storage := range a.Storage {
				for _, key := range asked.Keys {
					if keys[storage.Name] == nil {
						keys[storage.Name] = map[string]string{}
					}
					keys[storage.Name][key] = a.Label
				}
			}
			switch {
			case asked.perNode() && a.AllocationSize < asked.Minimum, !asked.perNode() && sum < asked.Minimum:
				return "too little for " + a.Label
			case a.AllocationSize < minAllocation:
				return "less than the least"
			case asked.perNode() && len(a.Storage) != s.rabbitsOfNodes(t):
				return "a node without its rabbit"
			}
		}
	}
	for name, bytes := range used {
		if r := find(t, name); bytes > r.total-r.used {
			return "more than there is on " + name
		}
	}
	return ""
}

// parts is into how many parts a set is to be divided; 0: its scale decides.
func (s Set) parts() int { return wish{Set: &s}.parts() }

func find(t *Topology, name string) *rabbit {
	return t.rabbits[slices.IndexFunc(t.rabbits, func(r *rabbit) bool { return r.name == name })]
}

func (s scene) nodesOf(t *Topology, r *rabbit) (n int) {
	for _, node := range s.nodes {
		if t.ofNode[node] == r {
			n++
		}
	}
	return n
}

func (s scene) rabbitsOfNodes(t *Topology) (n int) {
	for _, r := range t.rabbits {
		if s.nodesOf(t, r) > 0 {
			n++
		}
	}
	return n
}

// obvious reports that a single set could be placed, by trying each way.
func obvious(s scene, t *Topology) bool {
	asked := s.breakdowns[0].Sets[0]
	var free []int64
	for _, r := range t.rabbits {
		fits := r.fault == "" && r.lacks(asked.Labels) == "" && !slices.ContainsFunc(asked.Keys, func(k string) bool { return r.taken[k] })
		if n := s.nodesOf(t, r); asked.perNode() && n > 0 {
			if asked.Strategy == perServer {
				n = 1
			}
			if !fits || poolBytes(asked.Label, max(asked.Minimum, minAllocation), n) > r.total-r.used {
				return false
			}
		}
		if fits {
			free = append(free, r.total-r.used)
		}
	}
	if asked.perNode() {
		return len(s.nodes) > 0
	}
	most, several := len(free), false
	if n := asked.parts(); n > 0 {
		most, several = n, true
	}
	for n := most; n > 0; n-- {
		wanted := poolBytes(asked.Label, wish{Set: &asked}.part(n), 1)
		room := 0
		for _, f := range free {
			if several {
				room += int(max(f, 0) / wanted)
			} else if f >= wanted {
				room++
			}
		}
		if room >= n {
			return true
		}
		if several {
			return false
		}
	}
	return false
}
