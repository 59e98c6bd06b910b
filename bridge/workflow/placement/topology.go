package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// A pool of NNF's takes the same from each of 16 drives, or of at least 14, however many
// more the rabbit has (allocation_policy.go of nnf-ec).
const (
	poolDrives    = 16
	minPoolDrives = 14
)

const ready = "Ready"

// Topology is what rabbits there are, which nodes they serve, and what they have left.
type Topology struct {
	rabbits  []*rabbit // by name
	ofNode   map[string]*rabbit
	external map[string]bool // nodes that reach storage by the network only
}

type rabbit struct {
	name   string
	labels map[string]string
	fault  string            // why it is not usable; "": it is
	links  map[string]string // of nodes, by name: the state of the PCIe link
	total  int64             // bytes that pools can have together
	used   int64             // bytes of them that are allocated or promised
	taken  map[string]bool   // exclusive colocation keys of what is on it
}

// NewTopology reads a system's objects and subtracts what servers have got or have been
// promised, except those that are to be placed. breakdowns tell which colocation keys
// servers have, whatever job they are of.
//
// What a rabbit has is told by its drives. status.capacity of a Storage is what was free
// when a drive or a link last changed (seen with nnf-sos 7249600).
func NewTopology(system System, rabbits []Rabbit, servers []Servers, breakdowns []Breakdown, except ...types.NamespacedName) *Topology {
	t := &Topology{ofNode: map[string]*rabbit{}, external: map[string]bool{}}
	byName := map[string]*rabbit{}
	for i := range rabbits {
		byName[rabbits[i].Name] = newRabbit(&rabbits[i])
	}
	for name, nodes := range system.Rabbits {
		if byName[name] == nil {
			byName[name] = &rabbit{name: name, fault: "without Storage object", taken: map[string]bool{}}
		}
		for _, node := range nodes {
			t.ofNode[node] = byName[name]
		}
	}
	for _, node := range system.External {
		t.external[node] = true
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		t.rabbits = append(t.rabbits, byName[name])
	}

	keys := map[setID][]string{}
	for _, b := range breakdowns {
		for _, set := range b.Sets {
			keys[setID{b.Servers, set.Label}] = set.Keys
		}
	}
	for i := range servers {
		s := &servers[i]
		if slices.Contains(except, s.ID) {
			continue
		}
		for name, bytes := range s.occupied() {
			if r := byName[name]; r != nil {
				r.used = min(r.used+bytes, endless)
			}
		}
		for _, set := range s.Filled {
			for _, storage := range set.Storage {
				if r := byName[storage.Name]; r != nil {
					for _, key := range slices.Concat(keys[setID{s.ID, set.Label}], keysOf(set.Label)) {
						r.taken[key] = true
					}
				}
			}
		}
	}
	return t
}

// setID names an allocation set of any job.
type setID struct {
	servers types.NamespacedName
	label   string
}

func newRabbit(of *Rabbit) *rabbit {
	r := &rabbit{name: of.Name, labels: of.Labels, links: of.Links, taken: map[string]bool{}}
	drives := slices.Sorted(slices.Values(of.Drives))
	for i := range min(len(drives), poolDrives) {
		r.total += drives[len(drives)-1-i]
	}
	switch {
	case !of.Enabled:
		r.fault = "Disabled"
	case of.Status != ready:
		r.fault = cmp.Or(of.Status, "not started by its driver")
		if of.Message != "" {
			r.fault += ": " + of.Message
		}
	case of.RebootRequired:
		r.fault = "to be rebooted"
	case len(drives) < minPoolDrives:
		r.fault = "short of drives that are Ready"
	}
	return r
}

// occupied is what the servers take of each rabbit, in bytes. Until all is allocated once,
// that is what was promised, or what was allocated where that is more.
func (s *Servers) occupied() map[string]int64 {
	type place struct{ label, rabbit string }
	bytes := map[place]int64{}
	if !s.Ready {
		for _, set := range s.Filled {
			for _, storage := range set.Storage {
				at := place{set.Label, storage.Name}
				bytes[at] = min(bytes[at]+poolBytes(set.Label, set.AllocationSize, storage.AllocationCount), endless)
			}
		}
	}
	for _, made := range s.Made {
		at := place{made.Label, made.Rabbit}
		bytes[at] = max(bytes[at], min(made.Bytes, endless))
	}
	sums := map[string]int64{}
	for at, n := range bytes {
		sums[at.rabbit] = min(sums[at.rabbit]+n, endless)
	}
	return sums
}

// endless is more bytes than a machine has, and few enough to add up some.
const endless = 1 << 58

// poolBytes is what a rabbit needs for n allocations. NNF rounds each drive's part up to
// 4096 bytes, and makes no target of Lustre below 4,000,000,000 bytes.
func poolBytes(label string, size int64, n int) int64 {
	const unit = poolDrives * 4096
	switch label {
	case "ost", "mdt", "mgt", "mgtmdt":
		size = max(size, 4_000_000_000)
	}
	each := (min(size, endless) + unit - 1) / unit * unit
	if each > 0 && int64(n) > endless/each {
		return endless
	}
	return int64(n) * each
}

// lacks returns a label that the set wants and the rabbit does not have, or "".
func (r *rabbit) lacks(labels []string) string {
	for _, label := range labels {
		key, value, exact := strings.Cut(label, "=")
		if has, there := r.labels[key]; !there || exact && has != value {
			return label
		}
	}
	return ""
}

// Check refuses nodes of a job for which DWS would wait without an end, and without saying
// why: those that SystemConfiguration does not have, and those that are given twice.
func (t *Topology) Check(nodes []string) error {
	seen := map[string]bool{}
	var unknown []string
	for _, node := range nodes {
		if seen[node] {
			return refusef("node %s is twice in the job's list of nodes", node)
		}
		seen[node] = true
		if t.ofNode[node] == nil && !t.external[node] {
			unknown = append(unknown, node)
		}
	}
	if len(unknown) > 0 {
		return refusef("DWS does not know %s: SystemConfiguration default/default does not list %s by the name that Slurm uses",
			some(unknown, "node", "nodes"), it(unknown))
	}
	return nil
}

// Rabbits are the names of all, in order.
func (t *Topology) Rabbits() []string {
	names := make([]string, len(t.rabbits))
	for i, r := range t.rabbits {
		names[i] = r.name
	}
	return names
}

// Nodes are those that rabbits serve, by name.
func (t *Topology) Nodes() []string { return slices.Sorted(maps.Keys(t.ofNode)) }

// Bytes are what the storage of a breakdown takes of the rabbits: as its servers are filled, or
// before that at least, for so many nodes.
func Bytes(b *Breakdown, servers *Servers, nodes int) (sum int64) {
	for _, set := range servers.Filled {
		for _, storage := range set.Storage {
			sum = min(sum+poolBytes(set.Label, set.AllocationSize, storage.AllocationCount), endless)
		}
	}
	if len(servers.Filled) > 0 {
		return sum
	}
	for i := range b.Sets {
		count := 1
		if b.Sets[i].perNode() {
			count = nodes
		}
		sum = min(sum+poolBytes(b.Sets[i].Label, max(b.Sets[i].Minimum, minAllocation), count), endless)
	}
	return sum
}

// Fault says why a node has no storage of its own: its rabbit's fault, or that of the link to
// it; "": it has.
func (t *Topology) Fault(node string) string {
	r := t.ofNode[node]
	switch {
	case r == nil:
		return ""
	case r.fault != "":
		return r.name + " is " + r.fault
	}
	if link, known := r.links[node]; known && link != ready {
		return fmt.Sprintf("its link to %s is %s", r.name, link)
	}
	return ""
}

// Full makes nothing more fit on a rabbit.
func (t *Topology) Full(name string) {
	for _, r := range t.rabbits {
		if r.name == name {
			r.used = r.total
		}
	}
}

// Crowded names a rabbit among those that were filled on which more is promised than there
// is; "" is none.
func (t *Topology) Crowded(filled []Filled) string {
	for _, f := range filled {
		for _, set := range f.Sets {
			for _, storage := range set.Storage {
				i, known := slices.BinarySearchFunc(t.rabbits, storage.Name, func(r *rabbit, name string) int { return cmp.Compare(r.name, name) })
				if !known {
					continue // SystemConfiguration no longer has it
				}
				if r := t.rabbits[i]; r.used > r.total {
					return fmt.Sprintf("%s has %s, and %s is promised", r.name, have(r.total), need(r.used))
				}
			}
		}
	}
	return ""
}

// Fits reports whether servers that are filled are those for the nodes, as far as their sets
// are storage of nodes: one allocation for each node, on its rabbit.
func (t *Topology) Fits(b *Breakdown, servers *Servers, nodes []string) bool {
	wanted := map[string]int{}
	for _, node := range nodes {
		if r := t.ofNode[node]; r != nil {
			wanted[r.name]++
		}
	}
	for i := range b.Sets {
		set := &b.Sets[i]
		if !set.perNode() {
			continue
		}
		has := map[string]int{}
		for _, filled := range servers.Filled {
			for _, storage := range filled.Storage {
				if filled.Label == set.Label {
					has[storage.Name] += storage.AllocationCount
				}
			}
		}
		same := func(has, wanted int) bool { return has == wanted || set.Strategy == perServer && has > 0 && wanted > 0 }
		if !maps.EqualFunc(has, wanted, same) {
			return false
		}
	}
	return true
}

// Room is what a rabbit has.
type Room struct {
	Rabbit string   `json:"rabbit"`
	Fault  string   `json:"fault,omitempty"` // why nothing new is placed there
	Free   int64    `json:"free_bytes"`      // neither made nor promised
	Total  int64    `json:"total_bytes"`
	Nodes  []string `json:"nodes"` // that it serves, by name
}

// Rooms are what the rabbits have, by name.
func (t *Topology) Rooms() []Room {
	served := map[*rabbit][]string{}
	for _, node := range slices.Sorted(maps.Keys(t.ofNode)) {
		served[t.ofNode[node]] = append(served[t.ofNode[node]], node)
	}
	rooms := make([]Room, len(t.rabbits))
	for i, r := range t.rabbits {
		rooms[i] = Room{r.name, r.fault, max(r.total-r.used, 0), r.total, served[r]}
	}
	return rooms
}
