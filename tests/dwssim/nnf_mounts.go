package dwssim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	mounted   = "mounted"
	unmounted = "unmounted"

	pendingMount   = "pending mount"
	pendingUnmount = "pending unmount"
	unableToMount  = "unable to mount file system on client nodes"
)

// mountPlan is what NNF wants mounted for a directive.
type mountPlan struct {
	// mounts by the node, or by the rabbit if on is servers.
	mounts map[string][]MountInfo
	// stuck is a mistake that NNF says nothing about and never gets over.
	stuck bool
	// refused is the first node that could not be served. Others are.
	refused *refusal
}

// rabbitOf is the rabbit of each compute node; an external node has none.
func rabbitOf(system *SystemConfiguration) map[string]string {
	rabbits := map[string]string{}
	for _, storage := range system.Spec.StorageNodes {
		for _, compute := range storage.ComputesAccess {
			rabbits[compute.Name] = storage.Name
		}
	}
	for _, external := range system.Spec.ExternalComputeNodes {
		rabbits[external.Name] = ""
	}
	return rabbits
}

// planMounts says what the nodes of a job mount of the storage that held has, by label and rabbit.
func planMounts(w *Workflow, index int, fsType string, servers *Servers, held map[string]map[string]holding, computes []string, system *SystemConfiguration) mountPlan {
	plan := mountPlan{mounts: map[string][]MountInfo{}}
	rabbits := rabbitOf(system)
	perRabbit := map[string]int{}
	for _, node := range computes {
		perRabbit[rabbits[node]]++
	}
	label := fsType
	if !isLocal(fsType) {
		label = "ost"
	}
	if isLocal(fsType) {
		for rabbit, has := range held[label] {
			if has.count > 0 && perRabbit[rabbit] > has.count {
				return mountPlan{stuck: true}
			}
		}
	}
	used := map[string]int{}
	refuse := func(why string) {
		if plan.refused == nil {
			plan.refused = minor(unableToMount, "unable to create ClientMount resources: "+why)
		}
	}
	for _, node := range computes {
		rabbit, known := rabbits[node]
		switch {
		case plan.mounts[node] != nil:
			plan.stuck = true // twice in Computes
		case !known:
			refuse(fmt.Sprintf("namespaces %q not found", node))
		case !isLocal(fsType):
			plan.mounts[node] = []MountInfo{mountInfo(w, index, fsType, lustreDevice(servers, held))}
		case held[label][rabbit].count == 0:
			refuse(fmt.Sprintf("ClientMount.%s %q is invalid: spec.mounts: Invalid value: 0: spec.mounts in body should have at least 1 items",
				Group, mountName(w, index, "computes")))
		default:
			device := nodeDevice(servers, label, rabbit, used[rabbit])
			device["type"], device["lvm"] = "lvm", map[string]any{"deviceType": "nvme"}
			plan.mounts[node] = []MountInfo{mountInfo(w, index, fsType, device)}
			used[rabbit]++
		}
	}
	return plan
}

// planServerMounts says what the rabbits themselves mount of a directive's storage, for containers.
func planServerMounts(w *Workflow, index int, fsType string, servers *Servers, held map[string]map[string]holding) map[string][]MountInfo {
	mounts := map[string][]MountInfo{}
	switch fsType {
	case "lustre":
		for rabbit, has := range held["ost"] {
			if has.count > 0 {
				mounts[rabbit] = []MountInfo{mountInfo(w, index, fsType, lustreDevice(servers, held))}
			}
		}
	case "gfs2", "raw":
		for rabbit, has := range held[fsType] {
			for i := range has.count {
				device := nodeDevice(servers, fsType, rabbit, i)
				device["type"] = "reference"
				info := mountInfo(w, index, fsType, device)
				info.MountPath += fmt.Sprintf("/%s-%d", rabbit, i)
				mounts[rabbit] = append(mounts[rabbit], info)
			}
		}
	}
	return mounts
}

func mountInfo(w *Workflow, index int, fsType string, device map[string]any) MountInfo {
	info := MountInfo{
		Device: device, GroupID: w.Spec.GroupID, UserID: w.Spec.UserID, MountPath: mountPath(w, index),
		TargetType: "directory", Type: fsType,
	}
	if fsType == "raw" {
		info.Type, info.TargetType, info.Options, info.SetPermissions = "none", "file", "bind", true
	}
	return info
}

// nodeDevice is one allocation on a rabbit.
func nodeDevice(servers *Servers, label, rabbit string, allocation int) map[string]any {
	reference := map[string]any{"objectReference": map[string]any{
		"kind": "NnfNodeStorage", "name": servers.Namespace + "-" + servers.Name + "-" + label + "-0", "namespace": rabbit,
	}}
	if allocation > 0 {
		reference["data"] = int64(allocation)
	}
	return map[string]any{"deviceReference": reference}
}

func lustreDevice(servers *Servers, held map[string]map[string]holding) map[string]any {
	address := ""
	for _, label := range []string{"mgt", "mgtmdt"} {
		for _, rabbit := range sortedKeys(held[label]) {
			if address == "" && held[label][rabbit].count > 0 {
				address = nid(rabbit)
			}
		}
	}
	return map[string]any{
		"type":            "lustre",
		"deviceReference": map[string]any{"objectReference": map[string]any{"kind": "NnfStorage", "name": servers.Name, "namespace": servers.Namespace}},
		"lustre":          map[string]any{"fileSystemName": "aaaaaaaa", "mgsAddresses": address},
	}
}

// mountName is the name of the ClientMounts of a directive, in the namespace of each node.
func mountName(w *Workflow, index int, on string) string {
	return w.Namespace + "-" + nameOf(w, index) + "-" + on
}

// mountsOf are the ClientMounts of a directive that exist, by node.
func mountsOf(w *Workflow, s *surroundings, index int, on string) map[string]*ClientMount {
	mounts := map[string]*ClientMount{}
	for _, mount := range s.mounts {
		if mount.Name == mountName(w, index, on) {
			mounts[mount.Namespace] = mount
		}
	}
	return mounts
}

// mount mounts a directive's storage on the job's nodes.
func (n *nnf) mount(w *Workflow, s *surroundings, i int, d *directive, now time.Time, out *step) progress {
	switch d.command {
	case "jobdw", "persistentdw":
	case "container":
		return n.startContainer(s, d)
	default:
		return progress{done: true}
	}
	servers := s.servers[i]
	if servers == nil {
		return waiting(pendingMount)
	}
	kind := fsType(d, s)
	if refused := fenced(s, kind); refused != nil {
		return refusedBy(refused)
	}
	if d.command == "persistentdw" && kind == "xfs" && !n.locks.take(key(servers), w) {
		return waiting(pendingMount)
	}
	held := n.ledger.of(key(servers))
	plan := planMounts(w, i, kind, servers, held, s.computes, s.system)
	ready := n.carryMounts(w, s, i, "computes", plan.mounts, out)
	if !n.carryMounts(w, s, i, "servers", planServerMounts(w, i, kind, servers, held), out) {
		ready = false
	}
	if plan.refused == nil {
		plan.refused = n.failedMount(w, s, i, now, out)
	}
	switch {
	case plan.refused != nil:
		return refusedBy(plan.refused)
	case plan.stuck || !ready:
		return waiting(pendingMount)
	}
	return progress{done: true, message: pendingMount}
}

// fenced refuses gfs2 on nodes that were fenced.
func fenced(s *surroundings, fsType string) *refusal {
	if fsType != "gfs2" {
		return nil
	}
	var nodes []string
	for _, rabbit := range sortedKeys(s.storages) {
		for _, compute := range s.storages[rabbit].Status.Access.Computes {
			if compute.Status == "Fenced" && slices.Contains(s.computes, compute.Name) {
				nodes = append(nodes, compute.Name)
			}
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	list := "[" + strings.Join(nodes, " ") + "]"
	return fatal("Internal", fmt.Sprintf("Workflow failed: compute nodes %s were fenced during the job", list), "compute nodes have been fenced: "+list)
}

// failedMount is the error of a node, if one has an error or does nothing for too long.
func (n *nnf) failedMount(w *Workflow, s *surroundings, i int, now time.Time, out *step) *refusal {
	const check = "unable to check ClientMount status"
	mounts := mountsOf(w, s, i, "computes")
	for _, node := range sortedKeys(mounts) {
		status := mounts[node].Status
		switch {
		case !slices.Contains(s.computes, node):
		case status != nil && status.Error != nil:
			return &refusal{"Internal", status.Error.Severity, "mount/unmount failed",
				fmt.Sprintf("%s: Node: %s: %s", check, node, status.Error.DebugMessage)}
		case s.blind:
			return &refusal{"Internal", "Major", unableToMount, fmt.Sprintf("%s: Node: %s: mount/unmount failed: unable to build NnfNodeStorage: "+
				"unable to find pinned storage profile: unable to get: %s/%s because of unknown namespace for the cache", check, node, w.Namespace, nameOf(w, i))}
		case s.hung[node] && !isAt(mounts[node], mounted) && n.late(w, now, out):
			return n.notReconciled(unableToMount, check, node, kindClientMount.name)
		}
	}
	return nil
}

// carryMounts makes the ClientMounts and has the nodes mount; it returns true when all have.
func (n *nnf) carryMounts(w *Workflow, s *surroundings, i int, on string, wanted map[string][]MountInfo, out *step) bool {
	existing := mountsOf(w, s, i, on)
	ready := true
	for _, node := range sortedKeys(wanted) {
		mount := existing[node]
		if mount == nil {
			ready = false
			mount = &ClientMount{Spec: ClientMountSpec{DesiredState: mounted, Mounts: wanted[node], Node: node}}
			mount.Name, mount.Namespace, mount.Labels = mountName(w, i, on), node, workflowLabels(w, i)
			mount.Labels[ownerLabel+"kind"], mount.Labels[ownerLabel+"name"] = "NnfAccess", nameOf(w, i)+"-"+on
			mount.Labels[ownerLabel+"namespace"], mount.Labels[ownerLabel+"uid"] = w.Namespace, string(w.UID)
			mount.Labels[nnfGroup+"/pinned_storage_profile_name"] = nameOf(w, i)
			mount.Labels[nnfGroup+"/pinned_storage_profile_namespace"] = w.Namespace
			mount.Labels[nnfGroup+"/target_directive_index"] = strconv.Itoa(i)
			mount.Labels[nnfGroup+"/target_owner_uid"] = string(w.UID)
			if on == "servers" {
				mount.Labels[nnfGroup+"/teardown_state"] = PostRun
			}
			if !s.hung[node] {
				mount.Finalizers = []string{mountFinalizer} // clientmountd puts it there
			}
			out.add(create, kindClientMount, mount)
			continue
		}
		ready = n.drive(s, mount, mounted, out) && ready
	}
	return ready
}

// drive moves one ClientMount to a state, NNF's part and the node's. It returns true once the node
// has done so. An error that a test wrote stays.
func (n *nnf) drive(s *surroundings, mount *ClientMount, state string, out *step) bool {
	if mount.Spec.DesiredState != state {
		changed := *mount
		changed.Spec.DesiredState = state
		out.add(update, kindClientMount, &changed)
		return false
	}
	if isAt(mount, state) {
		return true
	}
	if s.stuck(mount.Namespace) || mount.Status != nil && mount.Status.Error != nil {
		return false
	}
	if !slices.Contains(mount.Finalizers, mountFinalizer) {
		changed := *mount
		changed.Finalizers = append(slices.Clone(mount.Finalizers), mountFinalizer)
		out.add(update, kindClientMount, &changed)
		return false
	}
	changed := *mount
	changed.Status = &ClientMountStatus{AllReady: true}
	for range mount.Spec.Mounts {
		changed.Status.Mounts = append(changed.Status.Mounts, MountStatus{Ready: true, State: state})
	}
	out.add(updateStatus, kindClientMount, &changed)
	return false
}

func isAt(mount *ClientMount, state string) bool {
	return mount.Status != nil && mount.Status.AllReady && !slices.ContainsFunc(mount.Status.Mounts, func(m MountStatus) bool { return m.State != state })
}

// unmount takes a directive's storage from the job's nodes. Those that are in Computes no longer are
// left alone, as are those that SystemStatus disabled, but for one whose clientmountd never saw the
// mount. Of an external node NNF never learns that it has unmounted.
func (n *nnf) unmount(w *Workflow, s *surroundings, i int, d *directive, out *step) progress {
	if d.command == "container" {
		return progress{done: true, message: "pending container finish"}
	}
	rabbits := rabbitOf(s.system)
	ready := true
	mounts := mountsOf(w, s, i, "computes")
	for _, node := range sortedKeys(mounts) {
		if !slices.Contains(s.computes, node) {
			continue
		}
		mount := mounts[node]
		gone := n.drive(s, mount, unmounted, out)
		touched := slices.Contains(mount.Finalizers, mountFinalizer)
		external := rabbits[node] == ""
		ready = ready && (gone && !external || s.disabled[node] && touched && !external)
	}
	if !ready {
		return waiting(pendingUnmount)
	}
	servers := mountsOf(w, s, i, "servers")
	for _, rabbit := range sortedKeys(servers) {
		ready = n.drive(s, servers[rabbit], unmounted, out) && ready
	}
	if ready && s.servers[i] != nil {
		n.locks.release(key(s.servers[i]), w)
	}
	if !ready {
		return waiting(pendingUnmount)
	}
	return progress{done: true, message: pendingUnmount}
}

// removeMounts deletes the ClientMounts of a directive; it returns true when there are none left. A
// node that hangs keeps its own, unless it never saw it or is disabled.
func (n *nnf) removeMounts(w *Workflow, s *surroundings, i int, out *step) bool {
	gone := true
	for _, on := range []string{"computes", "servers"} {
		mounts := mountsOf(w, s, i, on)
		for _, node := range sortedKeys(mounts) {
			mount := mounts[node]
			gone = false
			switch {
			case !s.stuck(node) || s.disabled[node] || len(mount.Finalizers) == 0:
				out.add(letGo, kindClientMount, mount)
			case mount.DeletionTimestamp == nil:
				out.add(remove, kindClientMount, mount)
			}
		}
	}
	return gone
}
