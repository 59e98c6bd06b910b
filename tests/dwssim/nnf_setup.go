package dwssim

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// retryAllocation is when NNF tries again what there was no room for.
const retryAllocation = time.Second

// setUp allocates what a directive needs. w is changed.
func (n *nnf) setUp(w *Workflow, s *surroundings, i int, d *directive, now time.Time, out *step) progress {
	switch d.command {
	case "persistentdw":
		return n.consume(w, s, i, d, out)
	case "container":
		return n.makeToken(w, now, out)
	case "jobdw", "create_persistent":
	default:
		return progress{done: true}
	}
	breakdown, servers := s.breakdowns[i], s.servers[i]
	profile, refused := n.profile(d)
	if breakdown == nil || servers == nil || refused != nil {
		return waiting("allocation") // it was deleted, or a profile was
	}
	if refused := checkServers(breakdown, servers, s.storages); refused != nil {
		return refusedBy(refused)
	}
	if refused := n.findMGS(w, s, i, profile, d, out); refused != nil {
		return refusedBy(refused)
	}
	p := n.allocate(servers, profile, s.hung)
	if p.hung != "" && n.late(w, now, out) {
		p.refused = n.notReconciled("could not allocate storage", "storage resource error: "+key(servers), p.hung, "NnfNodeBlockStorage")
	}
	if !p.done {
		out.wakeAt(now.Add(retryAllocation))
	}
	if n.reportServers(s, now, out) && p.done {
		return waiting("allocation set not ready") // watchers see Servers first
	}
	instance := s.persistent[d.args["name"]]
	if p.done && d.command == "create_persistent" && instance != nil && instance.Status.State != "Active" {
		changed := *instance
		changed.Status.State = "Active"
		out.add(updateStatus, kindPersistent, &changed)
	}
	return p
}

// checkServers compares what the workload manager wrote with the breakdown. It does not look at
// labels, counts, health or room; nor does NNF.
func checkServers(breakdown *DirectiveBreakdown, servers *Servers, storages map[string]*Storage) *refusal {
	where := fmt.Sprintf("invalid Rabbit allocations for servers: %s: ", key(servers))
	needed := breakdown.Status.Storage.AllocationSets
	if len(needed) != len(servers.Spec.AllocationSets) {
		return fatal("WLM", "Allocation request does not meet directive requirements",
			where+fmt.Sprintf("Servers resource does not meet storage requirements for directive '%s'", breakdown.Spec.Directive))
	}
	const unsatisfied = "storage directive requirements were not satisfied"
	for _, need := range needed {
		at := slices.IndexFunc(servers.Spec.AllocationSets, func(set ServersSet) bool { return set.Label == need.Label })
		if at < 0 {
			return fatal("WLM", unsatisfied, where+fmt.Sprintf("allocation set %s not found in Servers resource", need.Label))
		}
		set := servers.Spec.AllocationSets[at]
		if need.AllocationStrategy == AllocateSingleServer && (len(set.Storage) != 1 || set.Storage[0].AllocationCount != 1) {
			return fatal("WLM", unsatisfied, where+fmt.Sprintf("allocation set %s expected single allocation", need.Label))
		}
		capacity := set.AllocationSize
		if need.AllocationStrategy == AllocateAcrossServers {
			capacity = 0
			for _, storage := range set.Storage {
				capacity += set.AllocationSize * int64(storage.AllocationCount)
			}
		}
		if capacity < need.MinimumCapacity {
			return fatal("WLM", unsatisfied, where+fmt.Sprintf("allocation set %s specified insufficient capacity", need.Label))
		}
		for _, storage := range set.Storage {
			if storages[storage.Name] == nil {
				return fatal("Internal", unsatisfied, where+
					fmt.Sprintf("could not get storage: %s/%s: Storage.%s %q not found", SystemNamespace, storage.Name, Group, storage.Name))
			}
		}
	}
	return nil
}

// allocate takes from the ledger what a Servers asks for. Each rabbit is tried, whatever happens on
// the others; the first error counts.
func (n *nnf) allocate(servers *Servers, profile Profile, hung map[string]bool) progress {
	p := progress{done: true}
	stop := func(at progress) {
		if p.done || p.refused == nil && at.refused != nil {
			p = at
		}
	}
	for k, set := range servers.Spec.AllocationSets {
		size, shared := set.AllocationSize, !profile.SeparatePools
		switch set.Label {
		case "ost", "mdt", "mgt", "mgtmdt":
			size, shared = max(size, smallestTarget), false
		}
		if len(set.Storage) == 0 {
			stop(refusedBy(minor("could not create allocation", fmt.Sprintf("could not create NnfStorage: CreateOrUpdate failed for NnfStorage: %s: "+
				"NnfStorage.%s %q is invalid: spec.allocationSets[%d].nodes: Required value", key(servers), nnfGroup, servers.Name, k))))
		}
		for entry, storage := range set.Storage {
			if hung[storage.Name] {
				stop(progress{message: "allocation set not ready", hung: storage.Name})
				continue
			}
			if refused := n.allocateOn(storage, poolKey{key(servers), set.Label, entry}, size, shared); refused != nil {
				stop(refusedBy(refused))
			}
		}
	}
	return p
}

func (n *nnf) allocateOn(storage ServersStorage, owner poolKey, size int64, shared bool) *refusal {
	where := fmt.Sprintf("storage resource error: %s: ", owner.servers)
	if (owner.label == "mgt" || owner.label == "mgtmdt") && n.ledger.otherMGT(storage.Name, owner.servers) {
		address := nid(storage.Name)
		return fatal("WLM", "could not allocate storage", where+fmt.Sprintf("could not get available fsname: "+
			"could not get NnfLustreMGT for address: %s: multiple MGTs found for address %s", address, address))
	}
	at, err := n.ledger.allocate(storage.Name, owner, size, storage.AllocationCount, shared)
	if err == nil {
		return nil
	}
	pool := where + fmt.Sprintf("Node: %s: unable to allocate NVMe namespaces for allocation %d: could not create storage pool: "+
		"could not allocate storage pool: Error %%s, Retry-Delay: 0s, Resource: #StorageService.v1_5_0.StorageService, Cause: %%s, Internal Error: %%v", storage.Name, at)
	full, spaces := errFull{}, errNamespaces{}
	switch {
	case errors.As(err, &full):
		return fatal("WLM", storage.Name+": insufficient capacity available",
			fmt.Sprintf(pool, "406: Not Acceptable", "Insufficient capacity available", err))
	case errors.As(err, &spaces):
		return minor("could not allocate storage", fmt.Sprintf(pool, "500: Internal Server Error", "Failed to allocate storage volumes", err))
	}
	return minor("could not allocate storage", where+err.Error())
}

// nid is the LNet address of a rabbit.
func nid(rabbit string) string { return rabbit + "@tcp" }

// reportServers brings the status of a Workflow's Servers up to date, and returns whether it was not.
func (n *nnf) reportServers(s *surroundings, now time.Time, out *step) bool {
	reported := false
	for _, i := range sortedIndices(s.servers) {
		servers := s.servers[i]
		if servers == nil || len(servers.Spec.AllocationSets) == 0 && servers.Status.LastUpdate != nil {
			continue
		}
		status := serversStatus(servers, n.ledger.of(key(servers)))
		if servers.Status.LastUpdate != nil && reflect.DeepEqual(status.AllocationSets, servers.Status.AllocationSets) && status.Ready == servers.Status.Ready {
			continue
		}
		changed := *servers
		status.LastUpdate = microTime(now)
		changed.Status = status
		s.servers[i] = &changed
		out.replace(kindServers, &changed)
		reported = true
	}
	return reported
}

// replace is updateStatus of an object that may be among the changes already.
func (s *step) replace(k kind, object *Servers) {
	s.changes = slices.DeleteFunc(s.changes, func(c change) bool {
		return c.verb == updateStatus && c.kind == k && key(c.object) == key(object)
	})
	s.add(updateStatus, k, object)
}

// serversStatus is what a Servers' status says of the pools that it has. Each Storage of spec is in
// it, and each that NNF has ever tried; once all are there, it is ready for ever.
func serversStatus(servers *Servers, held map[string]map[string]holding) ServersStatus {
	status := ServersStatus{Ready: servers.Status.Ready}
	all := len(servers.Spec.AllocationSets) > 0
	for _, set := range servers.Spec.AllocationSets {
		wanted := map[string]int{}
		for _, storage := range set.Storage {
			wanted[storage.Name] += storage.AllocationCount
		}
		for rabbit := range held[set.Label] {
			wanted[rabbit] += 0
		}
		entries := map[string]ServersStatusStorage{}
		for rabbit, count := range wanted {
			has := held[set.Label][rabbit]
			entries[rabbit] = ServersStatusStorage{AllocationSize: has.bytes, Ready: has.count > 0 && has.count >= count}
			all = all && entries[rabbit].Ready
		}
		all = all && len(entries) > 0
		status.AllocationSets = append(status.AllocationSets, ServersStatusSet{Label: set.Label, Storage: entries})
	}
	status.Ready = status.Ready || all
	return status
}

// released is the status of a Servers that has nothing left.
func released(status ServersStatus) ServersStatus {
	sets := slices.Clone(status.AllocationSets)
	for i := range sets {
		entries := map[string]ServersStatusStorage{}
		for rabbit := range sets[i].Storage {
			entries[rabbit] = ServersStatusStorage{}
		}
		sets[i].Storage = entries
	}
	status.AllocationSets = sets
	return status
}

func sortedIndices[V any](m map[int]V) []int {
	indices := make([]int, 0, len(m))
	for i := range m {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	return indices
}
