package placement

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// minAllocation is the least that is asked for, since smaller ones fail or hang with
	// xfs and Lustre on real rabbits (flux-coral2, issue 132).
	minAllocation = 4 << 30
	// minPart is how small the parts may become that a directive's scale spreads.
	minPart = 64 << 30
	// middleScale counts where a directive says neither scale nor count.
	middleScale = 5
)

// Filled is what the Servers of a breakdown are filled with.
type Filled struct {
	Servers types.NamespacedName
	Sets    []AllocationSet
}

// NeedsNodes reports whether the breakdowns can be placed only when the job's nodes are
// known: their storage has to be on the rabbits of these nodes.
func NeedsNodes(breakdowns []Breakdown) bool {
	return slices.ContainsFunc(breakdowns, func(b Breakdown) bool {
		return slices.ContainsFunc(b.Locations, func(l Location) bool { return l.Physical }) ||
			slices.ContainsFunc(b.Sets, func(s Set) bool { return s.perNode() })
	})
}

// HaveOtherKeys reports whether a set has a colocation key that is not known by the label of
// the sets which have it: the breakdowns of other jobs tell who has it.
func HaveOtherKeys(breakdowns []Breakdown) bool {
	return slices.ContainsFunc(breakdowns, func(b Breakdown) bool {
		return slices.ContainsFunc(b.Sets, func(s Set) bool {
			return slices.ContainsFunc(s.Keys, func(key string) bool { return key != keyMGS })
		})
	})
}

func (s *Set) perNode() bool { return s.Strategy == perCompute || s.Strategy == perServer }

// Place chooses the storage of all breakdowns of a job, or of none: then the error is a
// *Refusal. nodes are the job's, by DWS's names; none: they are not known yet. The same
// input gives the same answer.
//
// Storage of nodes goes first, since it has no choice; then what has a colocation key, since
// that has less than the rest. Within these the order is that of the directives. Where there
// is a choice the rabbit goes first that is least full.
func Place(breakdowns []Breakdown, t *Topology, nodes []string) ([]Filled, error) {
	filled, err := place(breakdowns, t, nodes)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		_, err := place(breakdowns, t.empty(), nodes)
		refusal.Never = err != nil
	}
	return filled, err
}

// empty is the topology without any storage on it, and with all rabbits well.
func (t *Topology) empty() *Topology {
	all := &Topology{ofNode: map[string]*rabbit{}, external: t.external}
	fresh := map[*rabbit]*rabbit{}
	var largest int64
	for _, r := range t.rabbits {
		largest = max(largest, r.total)
	}
	for _, r := range t.rabbits {
		c := *r
		if c.fault != "" { // it may not show its drives
			c.total = largest
		}
		c.fault, c.used, c.taken, c.links = "", 0, nil, nil
		fresh[r] = &c
		all.rabbits = append(all.rabbits, &c)
	}
	for node, r := range t.ofNode {
		all.ofNode[node] = fresh[r]
	}
	return all
}

// placer places the sets of one job.
type placer struct {
	spots []*spot // by the rabbits' names
}

// spot is a rabbit and what the job has of it.
type spot struct {
	*rabbit
	nodes []string        // the job's that it serves
	free  int64           // bytes; less than 0 where more is promised than there is
	keys  map[string]bool // exclusive colocation keys
	has   bool            // anything at all
}

// wish is an allocation set and what else its directive says.
type wish struct {
	*Set
	near           bool // rather on rabbits of the job's nodes
	breakdown, set int
}

func place(breakdowns []Breakdown, t *Topology, nodes []string) ([]Filled, error) {
	if err := t.Check(nodes); err != nil {
		return nil, err
	}
	p := &placer{}
	of := make(map[*rabbit]*spot, len(t.rabbits))
	for _, r := range t.rabbits {
		s := &spot{rabbit: r, free: r.total - r.used, keys: map[string]bool{}}
		p.spots, of[r] = append(p.spots, s), s
	}
	var external []string
	for _, node := range nodes {
		if r := t.ofNode[node]; r != nil {
			of[r].nodes = append(of[r].nodes, node)
		} else {
			external = append(external, node)
		}
	}
	filled := make([]Filled, len(breakdowns))
	var wishes []wish
	for i := range breakdowns {
		b := &breakdowns[i]
		for j := range b.Sets {
			near := slices.ContainsFunc(b.Locations, func(l Location) bool { return l.Set == j && l.PhysicalIfPossible })
			wishes = append(wishes, wish{&b.Sets[j], near, i, j})
		}
		filled[i] = Filled{b.Servers, make([]AllocationSet, len(b.Sets))}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return a.turn() - b.turn() })
	for _, w := range wishes {
		var size int64
		var chosen []*spot
		var refusal *Refusal
		if w.perNode() {
			size, chosen, refusal = p.onNodes(w, external)
		} else {
			size, chosen, refusal = p.anywhere(w)
		}
		if refusal != nil {
			refusal.Text += " [" + breakdowns[w.breakdown].Directive + "]"
			return nil, refusal
		}
		for _, s := range chosen {
			s.free -= poolBytes(w.Label, size, 1)
			s.has = true
			for _, key := range w.Keys {
				s.keys[key] = true
			}
		}
		filled[w.breakdown].Sets[w.set] = AllocationSet{w.Label, size, counted(w.Label, chosen)}
	}
	return slices.DeleteFunc(filled, func(f Filled) bool { return len(f.Sets) == 0 }), nil
}

func (w wish) turn() int {
	switch {
	case w.perNode():
		return 0
	case len(w.Keys) > 0:
		return 1
	}
	return 2
}

// counted is the list for Servers, by name. NNF makes the first allocation of a mgtmdt the
// MGS, so the rabbit that was chosen first stays first there.
func counted(label string, chosen []*spot) []Storage {
	counts := map[string]int{}
	for _, r := range chosen {
		counts[r.name]++
	}
	names := slices.Sorted(maps.Keys(counts))
	if label == "mgtmdt" {
		first := chosen[0].name
		names = append([]string{first}, slices.DeleteFunc(names, func(n string) bool { return n == first })...)
	}
	storage := make([]Storage, len(names))
	for i, name := range names {
		storage[i] = Storage{name, counts[name]}
	}
	return storage
}

// onNodes places on the rabbits of the job's nodes. It returns the bytes of an allocation,
// and a rabbit for each.
func (p *placer) onNodes(w wish, external []string) (int64, []*spot, *Refusal) {
	if len(external) > 0 {
		return 0, nil, refusef("%s of the job: no rabbit, and %s is made on the rabbits of the job's nodes", some(external, "node", "nodes"), w.Label)
	}
	size := max(w.Minimum, minAllocation)
	var chosen []*spot
	for _, s := range p.spots {
		if len(s.nodes) == 0 {
			continue
		}
		if why := s.unfit(w); why != "" {
			return 0, nil, refusef("%s (of %s) is %s", s.name, list(s.nodes), why).on(s.name)
		}
		for _, node := range s.nodes {
			if link, known := s.links[node]; known && link != ready {
				return 0, nil, refusef("%s does not reach node %s: its link is %s", s.name, node, link).on(node)
			}
		}
		n := len(s.nodes)
		if w.Strategy == perServer {
			n = 1
		}
		if wanted := poolBytes(w.Label, size, n); wanted > s.free {
			return 0, nil, refusef("%s needs %s on %s for %s, and %s is free", w.Label, need(wanted), s.name,
				some(s.nodes, "node", "nodes"), have(s.free)).on(s.name)
		}
		chosen = append(chosen, slices.Repeat([]*spot{s}, n)...)
	}
	if len(chosen) == 0 {
		return 0, nil, refusef("%s is made on the rabbits of the job's nodes, which are not known", w.Label)
	}
	return size, chosen, nil
}

// unfit says why a rabbit cannot have the set, room aside; "": it can.
func (r *spot) unfit(w wish) string {
	if r.fault != "" {
		return r.fault
	}
	if label := r.lacks(w.Labels); label != "" {
		return "without label " + label
	}
	for _, key := range w.Keys {
		if r.taken[key] || r.keys[key] {
			if key == keyMGS {
				return "running an MGS already"
			}
			return fmt.Sprintf("taken by other storage with colocation key %q", key)
		}
	}
	return ""
}

// anywhere places on rabbits of its own choice. A set with the key "" wants to be alone
// (exclusiveMdt of NNF's profiles), and is if there are rabbits enough; that goes before
// being near the job's nodes.
func (p *placer) anywhere(w wish) (int64, []*spot, *Refusal) {
	fit, err := p.fit(w)
	if err != nil {
		return 0, nil, err
	}
	aloof := slices.Contains(w.Keys, "")
	for _, apart := range []bool{true, false} {
		for _, near := range []bool{true, false} {
			if near && !w.near {
				continue
			}
			var candidates []*spot
			for _, s := range fit {
				disturbed := s.keys[""] || aloof && s.has
				if !(apart && disturbed) && !(near && len(s.nodes) == 0) {
					candidates = append(candidates, s)
				}
			}
			if size, chosen := w.spread(candidates); chosen != nil {
				return size, chosen, nil
			}
		}
	}
	return 0, nil, w.noRoom(fit)
}

// fit returns the rabbits that can have the set, room aside, the least full one first.
func (p *placer) fit(w wish) ([]*spot, *Refusal) {
	var fit []*spot
	var reasons []string // in the order of the rabbits' names
	unfit := map[string][]string{}
	for _, s := range p.spots {
		why := s.unfit(w)
		if why == "" {
			fit = append(fit, s)
			continue
		}
		if unfit[why] == nil {
			reasons = append(reasons, why)
		}
		unfit[why] = append(unfit[why], s.name)
	}
	if len(fit) > 0 {
		room := func(s *spot) float64 { return float64(s.free) / float64(max(s.total, 1)) }
		slices.SortStableFunc(fit, func(a, b *spot) int { return cmp.Compare(room(b), room(a)) })
		return fit, nil
	}
	for i, why := range reasons {
		verb := "are"
		if len(unfit[why]) == 1 {
			verb = "is"
		}
		reasons[i] = fmt.Sprintf("%s %s %s", list(unfit[why]), verb, why)
	}
	return nil, refusef("no rabbit can take %s: %s", w.Label, cmp.Or(list(reasons), "there is none"))
}

// spread divides the set among the candidates, which are in order: it returns the bytes of
// a part, and the rabbit of each. Without the room for it there is none.
func (w wish) spread(candidates []*spot) (size int64, chosen []*spot) {
	if n := w.parts(); n > 0 {
		return w.inTurn(candidates, n)
	}
	// Equal parts on as many rabbits: Lustre is full when its fullest OST is.
	free := make([]int64, len(candidates))
	for i, s := range candidates {
		free[i] = -s.free
	}
	slices.Sort(free)
	room := func(n int) bool { return poolBytes(w.Label, w.part(n), 1) <= -free[n-1] }
	fewest := 1
	for fewest <= len(candidates) && !room(fewest) {
		fewest++
	}
	if fewest > len(candidates) {
		return 0, nil
	}
	most := max(fewest, min(len(candidates), int(max(1, w.Minimum/minPart))))
	scale := cmp.Or(w.Scale, middleScale)
	n := fewest + ((scale-1)*(most-fewest)+8)/9
	for !room(n) {
		n--
	}
	return w.inTurn(candidates, n)
}

// parts is into how many parts the set is to be divided; 0: its scale decides.
func (w wish) parts() int {
	if w.Strategy == single {
		return 1
	}
	return w.Count
}

// part is the bytes of each of n parts.
func (w wish) part(n int) int64 {
	return max((min(w.Minimum, endless)+int64(n)-1)/int64(n), minAllocation)
}

// inTurn puts n parts on the candidates that have the room, one after another, and begins
// again with the first.
func (w wish) inTurn(candidates []*spot, n int) (int64, []*spot) {
	size, chosen := w.part(n), make([]*spot, 0, min(n, len(candidates)))
	wanted := poolBytes(w.Label, size, 1)
	for round := int64(1); ; round++ {
		before := len(chosen)
		for _, s := range candidates {
			if s.free < round*wanted {
				continue
			}
			if chosen = append(chosen, s); len(chosen) == n {
				return size, chosen
			}
		}
		if len(chosen) == before {
			return 0, nil
		}
	}
}

// noRoom says what the set needs, and what the rabbits have that could take it.
func (w wish) noRoom(fit []*spot) *Refusal {
	wanted := need(w.Minimum)
	switch n := w.parts(); {
	case n > 1:
		wanted = fmt.Sprintf("%d times %s", n, need(poolBytes(w.Label, w.part(n), 1)))
	case n == 1:
		wanted = need(poolBytes(w.Label, w.part(1), 1)) + " on one rabbit"
	}
	slices.SortStableFunc(fit, func(a, b *spot) int { return cmp.Compare(b.free, a.free) })
	var sum int64
	each := make([]string, len(fit))
	for i, s := range fit {
		sum += max(s.free, 0)
		each[i] = s.name + " " + have(s.free)
	}
	return refusef("%s needs %s, and %s is free: %s", w.Label, wanted, have(sum), list(each))
}
