package placement

import (
	"cmp"
	"slices"
)

// Choose returns n nodes for a job whose storage is made before it has any: those that are
// planned, if all have a rabbit that is well, else nodes of as few rabbits as possible, the least
// full rabbit first. usable says which nodes a job can get. The error is a *Refusal.
func (t *Topology) Choose(n int, planned []string, usable func(node string) bool) ([]string, error) {
	good := func(node string) bool { return t.ofNode[node] != nil && t.Fault(node) == "" }
	if len(planned) == n && !slices.ContainsFunc(planned, func(node string) bool { return !good(node) }) {
		return planned, nil
	}
	served := map[*rabbit][]string{}
	for _, node := range t.Nodes() {
		if good(node) && usable(node) {
			served[t.ofNode[node]] = append(served[t.ofNode[node]], node)
		}
	}
	room := func(r *rabbit) float64 { return float64(r.total-r.used) / float64(max(r.total, 1)) }
	order := slices.Clone(t.rabbits)
	slices.SortStableFunc(order, func(a, b *rabbit) int { return cmp.Compare(room(b), room(a)) })
	var chosen []string
	for _, r := range order {
		nodes := served[r]
		chosen = append(chosen, nodes[:min(len(nodes), n-len(chosen))]...)
	}
	if len(chosen) < n {
		return nil, refusef("the job wants %s, and %d have a rabbit that is well", count(n, "node"), len(chosen))
	}
	return chosen, nil
}

// PerRabbit is how many of the nodes each rabbit serves.
func (t *Topology) PerRabbit(nodes []string) map[string]int {
	counts := map[string]int{}
	for _, node := range nodes {
		if r := t.ofNode[node]; r != nil {
			counts[r.name]++
		}
	}
	return counts
}

// Counts are how many allocations the servers have on each rabbit.
func (s *Servers) Counts() map[string]int {
	counts := map[string]int{}
	for _, set := range s.Filled {
		for _, storage := range set.Storage {
			counts[storage.Name] += storage.AllocationCount
		}
	}
	return counts
}
