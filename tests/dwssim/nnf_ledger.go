package dwssim

import (
	"fmt"
	"slices"
	"sync"
)

// How NNF spreads a pool over the drives of a rabbit.
const (
	drivesOfRabbit = 18
	drivesOfPool   = 16
	// driveGranularity is what the part of a pool on each drive is rounded up to, in bytes.
	driveGranularity = 4096
	// poolsOfRabbit is where the drives of the mock run out of NVMe namespaces.
	poolsOfRabbit = 36
	// smallestTarget is the least size of a Lustre target, in bytes.
	smallestTarget = 4_000_000_000
)

// ledger knows each byte of each rabbit.
type ledger struct {
	mu      sync.Mutex
	drive   int64 // bytes of a drive
	rabbits map[string]*rabbitLedger
	// tried are the sets of a Servers that had, or wanted, a pool on a rabbit.
	tried map[string]map[triedKey]bool
}

type triedKey struct{ label, rabbit string }

// rabbitLedger has the free bytes of each drive and the pools on them.
type rabbitLedger struct {
	free  []int64
	pools []pool
	// full lets nothing more in.
	full bool
}

// poolKey says whose allocations a pool has: those of the set of a Servers on one rabbit. Entry is
// the place in the set's list, in which a rabbit may be twice.
type poolKey struct {
	servers string // NAMESPACE/NAME
	label   string
	entry   int
}

// pool has count allocations of equal size, in equal parts on some drives.
type pool struct {
	poolKey
	count  int
	part   int64
	drives []int
}

func (p pool) bytes() int64 { return p.part * int64(len(p.drives)) }

func newLedger(driveBytes int64) *ledger {
	return &ledger{drive: driveBytes, rabbits: map[string]*rabbitLedger{}, tried: map[string]map[triedKey]bool{}}
}

// addRabbit makes a rabbit known; one that is known keeps its pools.
func (l *ledger) addRabbit(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rabbits[name] == nil {
		l.rabbits[name] = &rabbitLedger{free: slices.Repeat([]int64{l.drive}, drivesOfRabbit)}
	}
}

// setFull makes a rabbit take nothing more, or as much as there is room for again.
func (l *ledger) setFull(rabbit string, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rabbits[rabbit].full = full
}

func (l *ledger) isFull(rabbit string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rabbits[rabbit].full
}

// recover takes up what a Servers' status says that it has. How it was divided is not known: each
// Storage of a set has one pool.
func (l *ledger) recover(servers *Servers) {
	for _, set := range servers.Status.AllocationSets {
		counts := map[string]int{}
		for _, asked := range servers.Spec.AllocationSets {
			for _, storage := range asked.Storage {
				if asked.Label == set.Label {
					counts[storage.Name] += storage.AllocationCount
				}
			}
		}
		for rabbit, has := range set.Storage {
			if has.AllocationSize > 0 {
				l.addRabbit(rabbit)
				count := max(counts[rabbit], 1)
				_, _ = l.allocate(rabbit, poolKey{key(servers), set.Label, 0}, has.AllocationSize/int64(count), count, true)
			}
		}
	}
}

// free is how many bytes of all drives of a rabbit have not been allocated.
func (l *ledger) free(rabbit string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := int64(0)
	if known := l.rabbits[rabbit]; known != nil {
		for _, bytes := range known.free {
			sum += bytes
		}
	}
	return sum
}

// errFull says why there is no room.
type errFull struct{ requested, available int64 }

func (e errFull) Error() string {
	return fmt.Sprintf("Insufficient drive capacity available. Requested: %d Available: %d", e.requested, e.available)
}

// errNamespaces is that the drives have no NVMe namespace left.
type errNamespaces struct{}

func (errNamespaces) Error() string { return "Create Volume Failure: Could not find free namespace" }

// allocate makes sure that count allocations of size bytes are on a rabbit: in one pool if shared,
// else in one each. What is there already stays. The error is with the allocation that failed; those
// before it are kept, as with the real one.
func (l *ledger) allocate(rabbit string, key poolKey, size int64, count int, shared bool) (failed int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.rabbits[rabbit]
	if known == nil {
		return 0, fmt.Errorf("namespaces %q not found", rabbit)
	}
	if l.tried[key.servers] == nil {
		l.tried[key.servers] = map[triedKey]bool{}
	}
	l.tried[key.servers][triedKey{key.label, rabbit}] = true
	each := 1
	if shared {
		size, each = size*int64(count), count
	}
	there := known.countOf(key)
	for made := 0; made < count; made += each {
		if made < there {
			continue
		}
		if err := known.addPool(key, size, each); err != nil {
			return made, err
		}
	}
	return 0, nil
}

func (r *rabbitLedger) countOf(key poolKey) int {
	count := 0
	for _, p := range r.pools {
		if p.poolKey == key {
			count += p.count
		}
	}
	return count
}

// addPool takes the drives with the most room.
func (r *rabbitLedger) addPool(key poolKey, size int64, count int) error {
	part := roundUp((size+drivesOfPool-1)/drivesOfPool, driveGranularity)
	drives := make([]int, len(r.free))
	for i := range drives {
		drives[i] = i
	}
	slices.SortStableFunc(drives, func(a, b int) int { return compare(r.free[b], r.free[a]) })
	drives = drives[:drivesOfPool]
	if available := r.free[drives[drivesOfPool-1]]; available < part {
		return errFull{part, available}
	}
	if r.full {
		return errFull{part, 0}
	}
	if len(r.pools) >= poolsOfRabbit {
		return errNamespaces{}
	}
	for _, drive := range drives {
		r.free[drive] -= part
	}
	r.pools = append(r.pools, pool{poolKey: key, count: count, part: part, drives: drives})
	return nil
}

// release gives all that a Servers has on all rabbits back.
func (l *ledger) release(servers string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tried, servers)
	for _, known := range l.rabbits {
		known.pools = slices.DeleteFunc(known.pools, func(p pool) bool {
			if p.servers != servers {
				return false
			}
			for _, drive := range p.drives {
				known.free[drive] += p.part
			}
			return true
		})
	}
}

// holding is what the sets of one label of a Servers have on a rabbit.
type holding struct {
	count int
	bytes int64
}

// of returns what a Servers has, by label and rabbit; nothing where it was only tried.
func (l *ledger) of(servers string) map[string]map[string]holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := map[string]map[string]holding{}
	for at := range l.tried[servers] {
		if held[at.label] == nil {
			held[at.label] = map[string]holding{}
		}
		held[at.label][at.rabbit] = holding{}
	}
	for rabbit, known := range l.rabbits {
		for _, p := range known.pools {
			if p.servers != servers {
				continue
			}
			before := held[p.label][rabbit]
			held[p.label][rabbit] = holding{before.count + p.count, before.bytes + p.bytes()}
		}
	}
	return held
}

// otherMGT says whether a rabbit runs an MGS of another Servers.
func (l *ledger) otherMGT(rabbit, servers string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.rabbits[rabbit]
	return known != nil && slices.ContainsFunc(known.pools, func(p pool) bool {
		return p.servers != servers && (p.label == "mgt" || p.label == "mgtmdt")
	})
}

func roundUp(bytes, to int64) int64 { return (bytes + to - 1) / to * to }

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
