package placement

import (
	"maps"
	"slices"
)

// CheckPersistent refuses nodes that a persistent instance's storage of nodes does not
// match, one allocation for each. DWS would wait without an end for a node too many.
// name is the instance's, servers are its own.
func CheckPersistent(name string, servers *Servers, t *Topology, nodes []string) error {
	if err := t.Check(nodes); err != nil {
		return err
	}
	has := map[string]int{}
	total := 0
	for _, set := range servers.Filled {
		for _, storage := range set.Storage {
			has[storage.Name] += storage.AllocationCount
			total += storage.AllocationCount
		}
	}
	wanted := map[string]int{}
	for _, node := range nodes {
		r := t.ofNode[node]
		if r == nil {
			return refusef("node %s has no rabbit, and persistent storage %s is on rabbits", node, name)
		}
		wanted[r.name]++
	}
	for _, r := range slices.Sorted(maps.Keys(wanted)) {
		if wanted[r] > has[r] {
			refusal := refusef("persistent storage %s has %s on %s, and the job has %s there: it was made on %s", name,
				count(has[r], "allocation"), r, count(wanted[r], "node"), list(slices.Sorted(maps.Keys(has))))
			if has[r] == 0 {
				refusal.on(r)
			}
			return refusal
		}
	}
	if len(nodes) < total {
		return refusef("persistent storage %s was made for %s, and the job has %d", name, count(total, "node"), len(nodes))
	}
	return nil
}
