package placement

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

const (
	gib = 1 << 30
	tib = 1 << 40
)

// site is three rabbits of 20 TiB with four nodes each: r1 has c01 to c04, and so on.
type site struct {
	system  System
	rabbits []Rabbit
	servers []Servers
}

// newSite has 10 TiB free on each rabbit, or as many bytes as free says.
func newSite(free map[string]int64) *site {
	s := &site{system: System{Rabbits: map[string][]string{}, External: []string{"x01"}}}
	for i := range 3 {
		name := fmt.Sprintf("r%d", i+1)
		r := Rabbit{
			Name: name, Labels: map[string]string{"dataworkflowservices.github.io/storage": "Rabbit"}, Enabled: true,
			Status: "Ready", Message: "an old one", Links: map[string]string{},
			Drives: slices.Repeat([]int64{20 * tib / 16}, 18), // a pool takes 16 of them
		}
		for j := range 4 {
			node := fmt.Sprintf("c%02d", 4*i+j+1)
			s.system.Rabbits[name] = append(s.system.Rabbits[name], node)
			r.Links[node] = "Ready"
		}
		s.rabbits = append(s.rabbits, r)
		left, given := free[name]
		if !given {
			left = 10 * tib
		}
		s.has("other-"+name, "xfs", name, 20*tib-left)
	}
	return s
}

// has gives storage to another job.
func (s *site) has(servers, label, rabbit string, bytes int64) {
	s.servers = append(s.servers, Servers{
		ID: types.NamespacedName{Namespace: "other", Name: servers}, Ready: true, Made: []Made{{label, rabbit, bytes}},
		Filled: []AllocationSet{{label, bytes, []Storage{{rabbit, 1}}}},
	})
}

func (s *site) rabbit(name string) *Rabbit {
	return &s.rabbits[slices.IndexFunc(s.rabbits, func(r Rabbit) bool { return r.Name == name })]
}

func (s *site) drained(name string) {
	s.rabbit(name).Status, s.rabbit(name).Message = "Drained", "Kubernetes node is tainted with cray.nnf.node.drain"
}

func (s *site) topology() *Topology { return NewTopology(s.system, s.rabbits, s.servers, nil) }

const fast = "site/pool=fast"

var rabbits = []string{"dataworkflowservices.github.io/storage=Rabbit"}

// The allocation sets that NNF asks for.
func ofNodes(label, strategy string, bytes int64) Set {
	return Set{Label: label, Strategy: strategy, Minimum: bytes, Labels: rabbits}
}

func parts(label string, bytes int64, count int, keys ...string) Set {
	return Set{Label: label, Strategy: across, Minimum: bytes, Labels: rabbits, Count: count, Keys: keys}
}

func ost(bytes int64, scale int) Set {
	return Set{Label: "ost", Strategy: across, Minimum: bytes, Labels: rabbits, Scale: scale}
}

func labelled(s Set, label string) Set {
	s.Labels = append([]string{label}, s.Labels...)
	return s
}

func mgtmdt() Set { return parts("mgtmdt", 5*gib, 1, keyMGS) }

func mgt() Set {
	return Set{Label: "mgt", Strategy: single, Minimum: 5 * gib, Labels: rabbits, Keys: []string{keyMGS}}
}

// breakdown is of a directive with sets, as NNF makes it: storage of nodes has to be on
// their rabbits, an OST should.
func breakdown(i int, sets ...Set) Breakdown {
	b := Breakdown{
		Directive: fmt.Sprintf("#DW %d", i), Ready: true, Sets: sets,
		Servers: types.NamespacedName{Namespace: "slurm", Name: fmt.Sprintf("bb1-%d", i)},
	}
	for j, s := range sets {
		b.Locations = append(b.Locations, Location{Servers: b.Servers, Set: j, Physical: s.perNode(), PhysicalIfPossible: s.Label == "ost"})
	}
	return b
}

// written is "xfs 50314572800 [r1:2 r2:1]; ...", the directives separated by "|".
func written(filled []Filled) string {
	var directives []string
	for _, f := range filled {
		directives = append(directives, sets(f.Sets))
	}
	return strings.Join(directives, " | ")
}

func sets(all []AllocationSet) string {
	var texts []string
	for _, a := range all {
		var on []string
		for _, s := range a.Storage {
			on = append(on, fmt.Sprintf("%s:%d", s.Name, s.AllocationCount))
		}
		texts = append(texts, fmt.Sprintf("%s %d [%s]", a.Label, a.AllocationSize, strings.Join(on, " ")))
	}
	return strings.Join(texts, "; ")
}

func nodes(names string) []string { return strings.Fields(names) }

// The numbers are those of the design's table of worked placements. All that are placed
// were given to real NNF, which made them: testdata/vectors.json has what it was given.
func TestPlacements(t *testing.T) {
	const c01toc08 = "c01 c02 c03 c04 c05 c06 c07 c08"
	tests := map[string]struct {
		free       map[string]int64
		site       func(*site)
		breakdowns []Breakdown
		nodes      string
		want       string
		refused    string
		never      bool
	}{
		"1 xfs for each node": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c01 c02 c05",
			want: "xfs 50314572800 [r1:2 r2:1]",
		},
		"2 gfs2": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("gfs2", perCompute, 1099826200576))}, nodes: c01toc08,
			want: "gfs2 1099826200576 [r1:4 r2:4]",
		},
		"3 raw": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("raw", perCompute, 121200000000))}, nodes: "c09",
			want: "raw 121200000000 [r3:1]",
		},
		"4 Lustre before nodes are known": {
			breakdowns: []Breakdown{breakdown(0, ost(10*tib, 5), mgtmdt())},
			want:       "ost 5497558138880 [r2:1 r3:1]; mgtmdt 5368709120 [r1:1]",
		},
		"5 Lustre near its nodes": {
			breakdowns: []Breakdown{breakdown(0, ost(4*tib, 5), mgtmdt())}, nodes: c01toc08,
			want: "ost 2199023255552 [r1:1 r2:1]; mgtmdt 5368709120 [r1:1]",
		},
		"6 scale 10 takes all rabbits": {
			breakdowns: []Breakdown{breakdown(0, ost(9e12, 10), mgtmdt())},
			want:       "ost 3000000000000 [r1:1 r2:1 r3:1]; mgtmdt 5368709120 [r1:1]",
		},
		"7 scale 1 takes as few as have the room": {
			free:       map[string]int64{"r1": 3 * tib, "r2": 8 * tib, "r3": 5 * tib},
			breakdowns: []Breakdown{breakdown(0, ost(9*tib, 1), mgtmdt())},
			want:       "ost 4947802324992 [r2:1 r3:1]; mgtmdt 5368709120 [r2:1]",
		},
		"8 separate targets": {
			free: map[string]int64{"r1": 4 * tib, "r2": 6 * tib, "r3": 5 * tib},
			breakdowns: []Breakdown{breakdown(0, ost(1e12, 5), parts("mdt", 5*gib, 1),
				mgt())},
			want: "ost 500000000000 [r2:1 r3:1]; mdt 5368709120 [r2:1]; mgt 5368709120 [r2:1]",
		},
		"9 a count of parts": {
			breakdowns: []Breakdown{breakdown(0, parts("ost", 1e12, 3), parts("mdt", 5*gib, 1))},
			want:       "ost 333333333334 [r1:1 r2:1 r3:1]; mdt 5368709120 [r1:1]",
		},
		"10 more parts than rabbits, and not below 4 GiB": {
			breakdowns: []Breakdown{breakdown(0, parts("ost", 1e12, 2), parts("mdt", 1e10, 4))},
			want:       "ost 500000000000 [r1:1 r2:1]; mdt 4294967296 [r1:1 r2:1 r3:2]",
		},
		"11 not beside another job's MGS": {
			free:       map[string]int64{"r2": 12 * tib},
			site:       func(at *site) { at.has("their", "mgtmdt", "r1", 0) },
			breakdowns: []Breakdown{breakdown(0, ost(2e12, 1), mgtmdt())},
			want:       "ost 2000000000000 [r2:1]; mgtmdt 5368709120 [r2:1]",
		},
		"12 persistent xfs goes by the nodes too": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 107688755200))}, nodes: "c01 c05 c06",
			want: "xfs 107688755200 [r1:1 r2:2]",
		},
		"13 an MGS alone": {
			site:       func(at *site) { at.has("their", "mgtmdt", "r1", 0) },
			breakdowns: []Breakdown{breakdown(0, mgt())},
			want:       "mgt 5368709120 [r2:1]",
		},
		"16 two directives with an MGS each": {
			breakdowns: []Breakdown{breakdown(0, ost(1e12, 1), mgtmdt()), breakdown(1, ost(2e12, 1), mgtmdt())},
			want: "ost 1000000000000 [r3:1]; mgtmdt 5368709120 [r1:1] | " +
				"ost 2000000000000 [r1:1]; mgtmdt 5368709120 [r2:1]",
		},
		"17 no rabbit without an MGS": {
			site: func(at *site) { at.has("their", "mgtmdt", "r1", 0); at.has("theirs", "mgt", "r2", 0) },
			breakdowns: []Breakdown{breakdown(0, ost(1e12, 1), mgtmdt()),
				breakdown(1, ost(2e12, 1), mgtmdt())},
			refused: "no rabbit can take mgtmdt: r1, r2, r3 are running an MGS already [#DW 1]",
		},
		"18 no room on a node's rabbit": {
			free:       map[string]int64{"r1": 100000000000},
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c01 c02",
			refused: "xfs needs 93.72 GiB on r1 for nodes c01, c02, and 93.13 GiB is free [#DW 0]",
		},
		"19 no room anywhere": {
			free:       map[string]int64{"r1": tib, "r2": tib, "r3": tib},
			breakdowns: []Breakdown{breakdown(0, ost(4*tib, 5), mgtmdt())},
			refused:    "ost needs 4.00 TiB, and 2.99 TiB is free: r2 1.00 TiB, r3 1.00 TiB, r1 1019.00 GiB [#DW 0]",
		},
		"20 a node's rabbit is drained": {
			site:       func(at *site) { at.drained("r2") },
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c04 c05",
			refused: "r2 (of c05) is Drained: Kubernetes node is tainted with cray.nnf.node.drain [#DW 0]",
		},
		"21 around a drained rabbit": {
			site:       func(at *site) { at.drained("r2") },
			breakdowns: []Breakdown{breakdown(0, ost(10*tib, 5), mgtmdt())},
			want:       "ost 5497558138880 [r1:1 r3:1]; mgtmdt 5368709120 [r1:1]",
		},
		"22 a label that one rabbit has": {
			site:       func(at *site) { at.rabbit("r3").Labels["site/pool"] = "fast" },
			breakdowns: []Breakdown{breakdown(0, labelled(ost(1e12, 10), fast))},
			want:       "ost 1000000000000 [r3:1]",
		},
		"23 one for each rabbit of the nodes": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("gfs2", perServer, 1e12))}, nodes: "c01 c02 c09",
			want: "gfs2 1000000000000 [r1:1 r3:1]",
		},
		"24 xfs and Lustre in one job": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800)), breakdown(1, parts("ost", 1e12, 2), mgtmdt())},
			nodes:      "c01 c02 c05",
			want:       "xfs 50314572800 [r1:2 r2:1] | ost 500000000000 [r1:1 r2:1]; mgtmdt 5368709120 [r3:1]",
		},
		"25 nodes that are only planned": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c01 c02 c03 c05 c06 c07",
			want: "xfs 50314572800 [r1:3 r2:3]",
		},

		"a dedicated MDT stays alone": {
			breakdowns: []Breakdown{breakdown(0, ost(1e12, 10),
				parts("mdt", 5*gib, 1, ""),
				mgt())},
			want: "ost 500000000000 [r2:1 r3:1]; mdt 5368709120 [r1:1]; mgt 5368709120 [r2:1]",
		},
		"a dedicated MDT shares where there is no other rabbit": {
			site: func(at *site) { at.drained("r2"); at.drained("r3") },
			breakdowns: []Breakdown{breakdown(0, ost(1e12, 10),
				parts("mdt", 5*gib, 1, ""))},
			want: "ost 1000000000000 [r1:1]; mdt 5368709120 [r1:1]",
		},
		"the MGS is the first of several MDTs": {
			free:       map[string]int64{"r2": 12 * tib},
			breakdowns: []Breakdown{breakdown(0, parts("mgtmdt", 15*gib, 3, keyMGS))},
			want:       "mgtmdt 5368709120 [r2:1 r1:1 r3:1]",
		},
		"far from the nodes if there is no room near": {
			free:       map[string]int64{"r1": 100 * gib},
			breakdowns: []Breakdown{breakdown(0, ost(4*tib, 1))}, nodes: "c01",
			want: "ost 4398046511104 [r2:1]",
		},
		"more than the machine has": {
			breakdowns: []Breakdown{breakdown(0, ost(61*tib, 5))},
			refused:    "ost needs 61.00 TiB, and 30.00 TiB is free: r1 10.00 TiB, r2 10.00 TiB, r3 10.00 TiB [#DW 0]", never: true,
		},
		"more than the machine has while a rabbit is away": {
			site:       func(at *site) { at.drained("r1") },
			breakdowns: []Breakdown{breakdown(0, ost(59*tib, 5))},
			refused:    "ost needs 59.00 TiB, and 20.00 TiB is free: r2 10.00 TiB, r3 10.00 TiB [#DW 0]",
		},
		"no nodes": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))},
			refused:    "xfs is made on the rabbits of the job's nodes, which are not known [#DW 0]", never: true,
		},
		"a node without a rabbit": {
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c01 x01",
			refused: "node x01 of the job: no rabbit, and xfs is made on the rabbits of the job's nodes [#DW 0]", never: true,
		},
		"a node without a rabbit uses Lustre": {
			breakdowns: []Breakdown{breakdown(0, ost(tib, 1))}, nodes: "c05 x01",
			want: "ost 1099511627776 [r2:1]",
		},
		"a node whose link is down": {
			site:       func(at *site) { at.rabbits[1].Links["c07"] = "Offline" },
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c05 c07",
			refused: "r2 does not reach node c07: its link is Offline [#DW 0]",
		},
		"too few drives": {
			site: func(at *site) {
				at.rabbits[1].Drives = at.rabbits[1].Drives[:13]
			},
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c05",
			refused: "r2 (of c05) is short of drives that are Ready [#DW 0]",
		},
		"a rabbit of SystemConfiguration that DWS did not make": {
			site:       func(at *site) { at.rabbits = at.rabbits[:2] },
			breakdowns: []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}, nodes: "c09",
			refused: "r3 (of c09) is without Storage object [#DW 0]", never: true,
		},
	}
	recorded := readVectors(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			at := newSite(test.free)
			if test.site != nil {
				test.site(at)
			}
			filled, err := Place(test.breakdowns, at.topology(), nodes(test.nodes))
			if test.refused != "" {
				var refusal *Refusal
				require.ErrorAs(t, err, &refusal)
				assert.Equal(t, test.refused, refusal.Text)
				assert.Equal(t, test.never, refusal.Never, "never")
				assert.Nil(t, filled)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, written(filled))
			number, _, _ := strings.Cut(name, " ")
			if given, there := recorded[number]; there {
				assert.Equal(t, given, written(filled), "what NNF was given")
				delete(recorded, number)
			}
		})
	}
	assert.Empty(t, recorded, "vectors that no case shows")
}

// readVectors returns what NNF was given and made, by number.
func readVectors(t *testing.T) map[string]string {
	var vectors map[string]struct {
		Servers map[string][]AllocationSet
		Setup   string
	}
	read(t, "vectors.json", &vectors)
	texts := map[string]string{}
	for number, v := range vectors {
		require.Equal(t, "ready", v.Setup, number)
		var filled []Filled
		for i := range len(v.Servers) {
			all, there := v.Servers[fmt.Sprintf("WF-%d", i)]
			for _, persistent := range v.Servers {
				if !there {
					all = persistent
				}
			}
			filled = append(filled, Filled{Sets: all})
		}
		texts[number] = written(filled)
	}
	return texts
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// 14 and 15 of the table: storage that is there already.
func TestPersistentStorageHasPlaceForItsNodesOnly(t *testing.T) {
	servers := Servers{Filled: []AllocationSet{{"xfs", 5 * gib, []Storage{{"r1", 2}, {"r2", 1}}}}}
	for names, want := range map[string]string{
		"c01 c02 c05":     "",
		"c02 c04 c08":     "",
		"c01 c02 c03":     "persistent storage p has 2 allocations on r1, and the job has 3 nodes there: it was made on r1, r2",
		"c01 c02 c09":     "persistent storage p has 0 allocations on r3, and the job has 1 node there: it was made on r1, r2",
		"c01 c05":         "persistent storage p was made for 3 nodes, and the job has 2",
		"c01 c02 x01":     "node x01 has no rabbit, and persistent storage p is on rabbits",
		"c01 c02 nowhere": "DWS does not know node nowhere: SystemConfiguration default/default does not list it by the name that Slurm uses",
	} {
		err := CheckPersistent("p", &servers, newSite(nil).topology(), nodes(names))
		if want == "" {
			assert.NoError(t, err, names)
		} else {
			assert.EqualError(t, err, want, names)
		}
	}

	// Lustre that is there asks for nothing, and does not hinder what is new.
	persistent := Breakdown{Directive: "#DW persistentdw name=q", Ready: true, Locations: []Location{{Physical: true}}}
	filled, err := Place([]Breakdown{persistent, breakdown(1, ofNodes("xfs", perCompute, 50314572800))}, newSite(nil).topology(), nodes("c01 c02 c05"))
	require.NoError(t, err)
	assert.Equal(t, "xfs 50314572800 [r1:2 r2:1]", written(filled))
}

func TestNodesThatDWSWouldWaitForAreRefused(t *testing.T) {
	topology := newSite(nil).topology()
	assert.NoError(t, topology.Check(nodes("c01 c12 x01")))
	assert.EqualError(t, topology.Check(nodes("c01 c99 d1 c02")),
		"DWS does not know nodes c99, d1: SystemConfiguration default/default does not list them by the name that Slurm uses")
	assert.EqualError(t, topology.Check(nodes("a b c d e f")),
		"DWS does not know nodes a, b, c, d and 2 more: SystemConfiguration default/default does not list them by the name that Slurm uses")
	assert.EqualError(t, topology.Check(nodes("c01 c02 c01")), "node c01 is twice in the job's list of nodes")
}

func TestWhatIsPromisedTwiceIsCrowded(t *testing.T) {
	at := newSite(nil)
	filled := func(rabbits ...string) []Filled {
		set := AllocationSet{Label: "ost", AllocationSize: gib}
		for _, r := range rabbits {
			set.Storage = append(set.Storage, Storage{r, 1})
		}
		return []Filled{{Sets: []AllocationSet{set}}}
	}
	assert.Empty(t, at.topology().Crowded(filled("r1", "r3")))
	assert.Empty(t, at.topology().Crowded(filled("r0", "r9")), "rabbits that SystemConfiguration no longer has")
	at.has("their", "xfs", "r3", 11*tib)
	assert.Equal(t, "r3 has 20.00 TiB, and 21.00 TiB is promised", at.topology().Crowded(filled("r9", "r1", "r3")))
	assert.Empty(t, at.topology().Crowded(filled("r1")))
}
