package dwssim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// NNF makes the simulator a provider of storage, as HPE's NNF is: it says in DirectiveBreakdowns what
// a directive needs, allocates what the workload manager writes into Servers, and mounts it on the
// nodes in Computes. What it does and says was recorded from the real one. It differs from that in
// this:
//
//   - A node that is Fenced is so in v1alpha6 too, where DWS converts that to Offline.
//   - copy_in and copy_out mount nothing on the rabbits, and succeed at once.
//   - A container starts and ends at once; there is no pod.
//   - ClientMounts do not name the drives, and all Lustres have the same file system name.
//   - There are none of NNF's own kinds: NnfStorage, NnfAccess and the like.
//
// Annotations on its objects make it fail; the methods of Sim set them.
type NNF struct {
	// Rabbits names the compute nodes of each rabbit. They are written into the SystemConfiguration
	// if there is none; afterwards that counts.
	Rabbits map[string][]string
	// External are compute nodes without a rabbit.
	External []string
	// Profiles are the storage profiles; nil means DefaultProfiles.
	Profiles map[string]Profile
	// CopyProfiles are the names that copy_in and copy_out may use.
	CopyProfiles []string
	// GlobalLustre are the mount points of file systems to copy from and to; nil means /lus/global.
	GlobalLustre []string
	// DriveBytes is the size of each of the 18 drives of a rabbit; 0 means 2 TiB. A pool takes 16.
	DriveBytes int64
	// ChildTimeout is after how long NNF takes a node or rabbit that does nothing for a transient
	// condition; 0 means 5 minutes.
	ChildTimeout time.Duration
	// Namespaces are those whose Workflows can mount; nil means all. With the real one it is default
	// alone: its node controllers and clientmountd do not see others.
	Namespaces []string
	// NoTLSSecret takes away what requires= needs of the administrator.
	NoTLSSecret bool
}

// Annotations that make the simulator fail.
const (
	// HungAnnotation on the SystemConfiguration has the nodes whose clientmountd does nothing, and
	// the rabbits that do not allocate, separated by commas.
	HungAnnotation = "dwssim.slurmk8s.io/hung"
	// StatusAnnotation on a Storage is its status in place of Ready.
	StatusAnnotation = "dwssim.slurmk8s.io/status"
	// LinksAnnotation on a Storage has statuses of its nodes in place of Ready: NODE=STATUS,...
	LinksAnnotation = "dwssim.slurmk8s.io/links"
	// CopyAnnotation on the SystemConfiguration is the message that all copies fail with.
	CopyAnnotation = "dwssim.slurmk8s.io/copy-fails"
	// FullAnnotation on a Storage lets nothing more be allocated there, whatever it is.
	FullAnnotation = "dwssim.slurmk8s.io/full"
)

// nnf is the provider. As in DWS's own machine, next and all that it calls use neither clock nor API;
// act and look do, and keepStorages.
type nnf struct {
	options NNF
	version string
	ledger  *ledger
	locks   locks

	api api
	// namespaces are those of nodes that keepStorages has made.
	namespaces []string
	logf       func(format string, args ...any)
}

func newNNF(options NNF, a api, logf func(string, ...any)) *nnf {
	if options.Profiles == nil {
		options.Profiles = DefaultProfiles()
	}
	if options.GlobalLustre == nil {
		options.GlobalLustre = []string{"/lus/global"}
	}
	if options.DriveBytes == 0 {
		options.DriveBytes = 2 << 40
	}
	if options.ChildTimeout == 0 {
		options.ChildTimeout = 5 * time.Minute
	}
	return &nnf{options: options, version: a.version, ledger: newLedger(options.DriveBytes), api: a, logf: logf}
}

// ParseRabbits reads RABBIT=NODE,...;RABBIT=NODE,...
func ParseRabbits(text string) (map[string][]string, error) {
	rabbits := map[string][]string{}
	for _, part := range strings.Split(text, ";") {
		rabbit, nodes, found := strings.Cut(part, "=")
		if !found || rabbit == "" || slices.Contains(strings.Split(nodes, ","), "") {
			return nil, fmt.Errorf("rabbits %q: %q is not RABBIT=NODE,NODE", text, part)
		}
		if rabbits[rabbit] != nil {
			return nil, fmt.Errorf("rabbits %q: %s is given twice", text, rabbit)
		}
		rabbits[rabbit] = strings.Split(nodes, ",")
	}
	return rabbits, nil
}

// systemConfiguration is what an administrator would write.
func (o NNF) systemConfiguration() *SystemConfiguration {
	system := &SystemConfiguration{Spec: SystemConfigurationSpec{Ports: []string{"5000-5999"}}}
	system.Name, system.Namespace = "default", SystemNamespace
	for _, rabbit := range slices.Sorted(maps.Keys(o.Rabbits)) {
		node := SystemStorageNode{Type: "Rabbit", Name: rabbit}
		for i, compute := range o.Rabbits[rabbit] {
			node.ComputesAccess = append(node.ComputesAccess, ComputeAccess{Index: i, Name: compute})
		}
		system.Spec.StorageNodes = append(system.Spec.StorageNodes, node)
	}
	for _, external := range o.External {
		system.Spec.ExternalComputeNodes = append(system.Spec.ExternalComputeNodes, ExternalNode{Name: external})
	}
	return system
}

// nodes are all that have a namespace of ClientMounts.
func (s *SystemConfiguration) nodes() []string {
	var nodes []string
	for _, storage := range s.Spec.StorageNodes {
		nodes = append(nodes, storage.Name)
	}
	for node := range rabbitOf(s) {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	return nodes
}

// hung are the nodes and rabbits that an annotation says to hang.
func (s *SystemConfiguration) hung() map[string]bool {
	hung := map[string]bool{}
	for _, name := range strings.Split(s.Annotations[HungAnnotation], ",") {
		hung[name] = name != ""
	}
	return hung
}

// newStorage is the Storage of a rabbit as DWS makes it.
func (n *nnf) newStorage(system *SystemConfiguration, rabbit SystemStorageNode) *Storage {
	storage := &Storage{Spec: StorageSpec{Mode: "Live", State: "Enabled"}}
	storage.Name, storage.Namespace = rabbit.Name, SystemNamespace
	own(&storage.ObjectMeta, kindSystem.name, system, n.version)
	storage.Labels[storageLabel] = rabbit.Type
	return storage
}

// storageStatus is the status of a rabbit. free are the bytes of its drives: they are looked at when
// the Storage is new, or a link changes, and not when something is allocated.
func (n *nnf) storageStatus(storage *Storage, rabbit SystemStorageNode, free int64) StorageStatus {
	status := StorageStatus{Type: "NVMe", Status: "Ready", Capacity: storage.Status.Capacity, Message: storage.Status.Message}
	status.Access = StorageAccess{Protocol: "PCIe", Servers: []StorageNode{{rabbit.Name, "Ready"}}}
	links := map[string]string{}
	for _, link := range strings.Split(storage.Annotations[LinksAnnotation], ",") {
		node, state, _ := strings.Cut(link, "=")
		links[node] = state
	}
	for _, compute := range rabbit.ComputesAccess {
		state := links[compute.Name]
		if state == "" {
			state = "Ready"
		}
		status.Access.Computes = append(status.Access.Computes, StorageNode{compute.Name, state})
	}
	for slot := range drivesOfRabbit {
		status.Devices = append(status.Devices, StorageDevice{
			Slot: fmt.Sprint(slot + 1), Status: "Ready", Capacity: n.options.DriveBytes, WearLevel: 25,
			Model: "MOCK", FirmwareVersion: "MOCK", SerialNumber: fmt.Sprintf("MOCK-%s-%d", rabbit.Name, slot+1),
		})
	}
	if storage.Status.Status == "" || !slices.Equal(storage.Status.Access.Computes, status.Access.Computes) {
		status.Capacity = free
	}
	if set := storage.Annotations[StatusAnnotation]; set != "" {
		status.Status = set
	}
	status.RebootRequired = status.Status == "Degraded"
	switch {
	case storage.Spec.State == "Disabled":
		status.Status, status.Message = "Disabled", "Storage node manually disabled"
	case status.Status == "Drained":
		status.Message = "Kubernetes node is tainted with cray.nnf.node.drain"
	case status.Status == "Offline":
		status.Message = "Kubernetes node is offline"
	case storage.Status.Status == "Disabled":
		status.Message = "" // of all messages, NNF takes back only this one
	}
	return status
}
