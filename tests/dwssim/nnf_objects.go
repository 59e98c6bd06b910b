package dwssim

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Names that NNF puts on objects.
const (
	nnfGroup            = "nnf.cray.hpe.com"
	workflowFinalizer   = nnfGroup + "/nnf_workflow"
	breakdownFinalizer  = nnfGroup + "/directiveBreakdown"
	serversFinalizer    = nnfGroup + "/nnf-servers"
	persistentFinalizer = nnfGroup + "/persistentStorage"
	mountFinalizer      = nnfGroup + "/nnf_clientmount"

	ownerLabel      = Group + "/owner."
	workflowLabel   = Group + "/workflow."
	persistentLabel = Group + "/persistentstorage."
	storageLabel    = Group + "/storage"
	standaloneLabel = nnfGroup + "/standalone_mgt"

	// ignoreUIDAnnotation opens a persistent instance to the persistentdw of all users.
	ignoreUIDAnnotation = Group + "/ignore-uid"
)

// SystemNamespace is where Storages, the SystemConfiguration and the SystemStatus are.
const SystemNamespace = "default"

// kind is one of DWS's kinds beyond Workflow and Computes, or Secret or Namespace.
type kind struct {
	name, plural string
}

var (
	kindBreakdown    = kind{"DirectiveBreakdown", "directivebreakdowns"}
	kindServers      = kind{"Servers", "servers"}
	kindStorage      = kind{"Storage", "storages"}
	kindSystem       = kind{"SystemConfiguration", "systemconfigurations"}
	kindSystemStatus = kind{"SystemStatus", "systemstatuses"}
	kindPersistent   = kind{"PersistentStorageInstance", "persistentstorageinstances"}
	kindClientMount  = kind{"ClientMount", "clientmounts"}

	kindSecret    = kind{"Secret", "secrets"}
	kindNamespace = kind{"Namespace", "namespaces"}
)

// nnfKinds are what Options.NNF adds.
var nnfKinds = []kind{kindBreakdown, kindServers, kindStorage, kindSystem, kindSystemStatus, kindPersistent, kindClientMount}

// resource is where the API serves the kind, version being that of DWS.
func (k kind) resource(version string) schema.GroupVersionResource {
	if k == kindSecret || k == kindNamespace {
		return schema.GroupVersionResource{Version: "v1", Resource: k.plural}
	}
	return schema.GroupVersionResource{Group: Group, Version: version, Resource: k.plural}
}

// ResourceError is how all of these objects tell an error.
type ResourceError struct {
	DebugMessage string `json:"debugMessage"`
	Severity     string `json:"severity"`
	Type         string `json:"type"`
	UserMessage  string `json:"userMessage,omitempty"`
}

// DirectiveBreakdown says what storage a directive needs.
type DirectiveBreakdown struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DirectiveBreakdownSpec   `json:"spec"`
	Status DirectiveBreakdownStatus `json:"status,omitempty"`
}

// DirectiveBreakdownSpec is a copy of the directive.
type DirectiveBreakdownSpec struct {
	Directive string `json:"directive"`
	UserID    uint32 `json:"userID"`
}

// DirectiveBreakdownStatus is what the workload manager reads.
type DirectiveBreakdownStatus struct {
	Compute  *ComputeBreakdown `json:"compute,omitempty"`
	Error    *ResourceError    `json:"error,omitempty"`
	Ready    bool              `json:"ready"`
	Requires []string          `json:"requires,omitempty"`
	Storage  *StorageBreakdown `json:"storage,omitempty"`
}

// ComputeBreakdown says where the job's nodes must be.
type ComputeBreakdown struct {
	Constraints ComputeConstraints `json:"constraints"`
}

// ComputeConstraints has a Location for each allocation set.
type ComputeConstraints struct {
	Location []ComputeLocation `json:"location,omitempty"`
}

// ComputeLocation says how nodes must reach the storage of one allocation set.
type ComputeLocation struct {
	Access    []LocationAccess `json:"access"`
	Reference FieldReference   `json:"reference"`
}

// LocationAccess is one way: Type is physical or network, Priority mandatory or bestEffort.
type LocationAccess struct {
	Priority string `json:"priority"`
	Type     string `json:"type"`
}

// FieldReference points at a part of an object.
type FieldReference struct {
	FieldPath string `json:"fieldPath,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// StorageBreakdown says what to allocate, and in which Servers to write down where.
type StorageBreakdown struct {
	AllocationSets []AllocationSet `json:"allocationSets,omitempty"`
	Lifetime       string          `json:"lifetime"`
	Reference      ObjectReference `json:"reference"`
}

// AllocationSet is one kind of allocation. MinimumCapacity is in bytes: of each allocation, or of
// all together if the strategy is AllocateAcrossServers.
type AllocationSet struct {
	AllocationStrategy string         `json:"allocationStrategy"`
	Constraints        SetConstraints `json:"constraints"`
	Label              string         `json:"label"`
	MinimumCapacity    int64          `json:"minimumCapacity"`
}

// SetConstraints limit the choice of Storages. Zero Count or Scale means none.
type SetConstraints struct {
	Colocation []Colocation `json:"colocation,omitempty"`
	Count      int          `json:"count,omitempty"`
	Labels     []string     `json:"labels,omitempty"`
	Scale      int          `json:"scale,omitempty"`
}

// Colocation of type exclusive keeps sets of the same key on different Storages.
type Colocation struct {
	Key  string `json:"key"`
	Type string `json:"type"`
}

// Values of AllocationSet.AllocationStrategy.
const (
	AllocatePerCompute    = "AllocatePerCompute"
	AllocateAcrossServers = "AllocateAcrossServers"
	AllocateSingleServer  = "AllocateSingleServer"
)

// Servers is where the workload manager writes down which Storages are to be used.
type Servers struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ServersSpec   `json:"spec"`
	Status ServersStatus `json:"status,omitempty"`
}

// ServersSpec is the workload manager's.
type ServersSpec struct {
	AllocationSets []ServersSet `json:"allocationSets,omitempty"`
}

// ServersSet is where the allocations of one label are to be, each of AllocationSize bytes.
type ServersSet struct {
	AllocationSize int64            `json:"allocationSize"`
	Label          string           `json:"label"`
	Storage        []ServersStorage `json:"storage"`
}

// ServersStorage is how many allocations a Storage is to have.
type ServersStorage struct {
	AllocationCount int    `json:"allocationCount"`
	Name            string `json:"name"`
}

// ServersStatus is what has been allocated.
type ServersStatus struct {
	AllocationSets []ServersStatusSet `json:"allocationSets,omitempty"`
	LastUpdate     *metav1.MicroTime  `json:"lastUpdate,omitempty"`
	Ready          bool               `json:"ready"`
}

// ServersStatusSet is what has been allocated of one label, by Storage.
type ServersStatusSet struct {
	Label   string                          `json:"label"`
	Storage map[string]ServersStatusStorage `json:"storage"`
}

// ServersStatusStorage has the bytes of all allocations of a set on one Storage.
type ServersStatusStorage struct {
	AllocationSize int64 `json:"allocationSize"`
	Ready          bool  `json:"ready"`
}

// Storage is a rabbit.
type Storage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StorageSpec   `json:"spec"`
	Status StorageStatus `json:"status,omitempty"`
}

// StorageSpec is the administrator's.
type StorageSpec struct {
	Mode  string `json:"mode,omitempty"`
	State string `json:"state,omitempty"`
}

// StorageStatus tells how a Storage is. Capacity is the bytes that were free when it was last
// looked at: allocations do not change it.
type StorageStatus struct {
	Access         StorageAccess   `json:"access"`
	Capacity       int64           `json:"capacity"`
	Devices        []StorageDevice `json:"devices,omitempty"`
	Message        string          `json:"message,omitempty"`
	RebootRequired bool            `json:"rebootRequired,omitempty"`
	Status         string          `json:"status,omitempty"`
	Type           string          `json:"type,omitempty"`
}

// StorageAccess says which nodes reach the Storage.
type StorageAccess struct {
	Computes []StorageNode `json:"computes,omitempty"`
	Protocol string        `json:"protocol,omitempty"`
	Servers  []StorageNode `json:"servers,omitempty"`
}

// StorageNode is a node and how its link to the Storage is.
type StorageNode struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

// StorageDevice is a drive; Capacity is in bytes.
type StorageDevice struct {
	Capacity        int64  `json:"capacity"`
	FirmwareVersion string `json:"firmwareVersion,omitempty"`
	Model           string `json:"model,omitempty"`
	SerialNumber    string `json:"serialNumber,omitempty"`
	Slot            string `json:"slot,omitempty"`
	Status          string `json:"status"`
	WearLevel       int64  `json:"wearLevel,omitempty"`
}

// SystemConfiguration says which compute node reaches which Storage.
type SystemConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SystemConfigurationSpec   `json:"spec"`
	Status SystemConfigurationStatus `json:"status,omitempty"`
}

// SystemConfigurationSpec is the administrator's.
type SystemConfigurationSpec struct {
	ExternalComputeNodes   []ExternalNode      `json:"externalComputeNodes,omitempty"`
	Ports                  []string            `json:"ports,omitempty"`
	PortsCooldownInSeconds int                 `json:"portsCooldownInSeconds"`
	StorageNodes           []SystemStorageNode `json:"storageNodes,omitempty"`
}

// ExternalNode is a compute node that reaches storage by network only.
type ExternalNode struct {
	Name string `json:"name"`
}

// SystemStorageNode is a rabbit and its compute nodes.
type SystemStorageNode struct {
	ComputesAccess []ComputeAccess `json:"computesAccess,omitempty"`
	Name           string          `json:"name"`
	Type           string          `json:"type"`
}

// ComputeAccess is a compute node at a port of a rabbit.
type ComputeAccess struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
}

// SystemConfigurationStatus says whether all Storages exist.
type SystemConfigurationStatus struct {
	Ready bool `json:"ready"`
}

// SystemStatus says which compute nodes are not to be waited for.
type SystemStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Data SystemStatusData `json:"data,omitempty"`
}

// SystemStatusData has Enabled or Disabled by node.
type SystemStatusData struct {
	Nodes map[string]string `json:"nodes,omitempty"`
}

// PersistentStorageInstance is storage that outlives its job.
type PersistentStorageInstance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PersistentSpec   `json:"spec"`
	Status PersistentStatus `json:"status,omitempty"`
}

// PersistentSpec names the owner and the users of an instance.
type PersistentSpec struct {
	ConsumerReferences []ObjectReference `json:"consumerReferences,omitempty"`
	DWDirective        string            `json:"dwDirective"`
	FsType             string            `json:"fsType"`
	Name               string            `json:"name"`
	State              string            `json:"state"`
	UserID             uint32            `json:"userID"`
}

// PersistentStatus has Creating, Active, Degraded or Destroying as State.
type PersistentStatus struct {
	Servers ObjectReference `json:"servers"`
	State   string          `json:"state"`
}

// ClientMount is what one node is to mount for one directive.
type ClientMount struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClientMountSpec    `json:"spec"`
	Status *ClientMountStatus `json:"status,omitempty"`
}

// ClientMountSpec is NNF's; DesiredState is mounted or unmounted.
type ClientMountSpec struct {
	DesiredState string      `json:"desiredState"`
	Mounts       []MountInfo `json:"mounts"`
	Node         string      `json:"node"`
}

// MountInfo is one mount.
type MountInfo struct {
	Device         map[string]any `json:"device"`
	GroupID        uint32         `json:"groupID"`
	MountPath      string         `json:"mountPath"`
	Options        string         `json:"options"`
	SetPermissions bool           `json:"setPermissions"`
	TargetType     string         `json:"targetType"`
	Type           string         `json:"type"`
	UserID         uint32         `json:"userID"`
}

// ClientMountStatus is the node's answer; none means that its clientmountd never saw the mount.
type ClientMountStatus struct {
	AllReady bool           `json:"allReady"`
	Error    *ResourceError `json:"error,omitempty"`
	Mounts   []MountStatus  `json:"mounts"`
}

// MountStatus is the state of one mount.
type MountStatus struct {
	Ready bool   `json:"ready"`
	State string `json:"state"`
}

// decode reads what a dynamic client returned.
func decode[T any](object *unstructured.Unstructured) (*T, error) {
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed); err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return typed, nil
}
