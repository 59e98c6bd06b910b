package dwssim

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// Group is the API group of all DWS kinds.
	Group = "dataworkflowservices.github.io"
	// Finalizer keeps a Workflow until DWS has cleaned up after it.
	Finalizer = Group + "/workflow"
)

// The states of a Workflow, in spec.desiredState, status.state and a driver's watchState.
const (
	Proposal = "Proposal"
	Setup    = "Setup"
	DataIn   = "DataIn"
	PreRun   = "PreRun"
	PostRun  = "PostRun"
	DataOut  = "DataOut"
	Teardown = "Teardown"
)

// States are all states, in the order a Workflow passes them.
var States = []string{Proposal, Setup, DataIn, PreRun, PostRun, DataOut, Teardown}

// Values of a Workflow's status.status and of a driver's status.
const (
	Pending            = "Pending"
	Queued             = "Queued"
	Running            = "Running"
	Completed          = "Completed"
	DriverWait         = "DriverWait"
	TransientCondition = "TransientCondition"
	Error              = "Error"
)

// Workflow is the API object, field by field as DWS has it since v1alpha5.
type Workflow struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WorkflowSpec   `json:"spec"`
	Status WorkflowStatus `json:"status,omitempty"`
}

// WorkflowSpec is what the workload manager asks for.
type WorkflowSpec struct {
	DesiredState string             `json:"desiredState"`
	WLMID        string             `json:"wlmID"`
	JobID        intstr.IntOrString `json:"jobID"`
	UserID       uint32             `json:"userID"`
	GroupID      uint32             `json:"groupID"`
	Hurry        bool               `json:"hurry,omitempty"`
	ForceReady   bool               `json:"forceReady,omitempty"`
	DWDirectives []string           `json:"dwDirectives"`
}

// WorkflowStatus is not a subresource: whoever may write a Workflow may write it.
type WorkflowStatus struct {
	State                string            `json:"state,omitempty"`
	Ready                bool              `json:"ready"`
	Status               string            `json:"status,omitempty"`
	Message              string            `json:"message,omitempty"`
	Env                  map[string]string `json:"env,omitempty"`
	Drivers              []Driver          `json:"drivers,omitempty"`
	DirectiveBreakdowns  []ObjectReference `json:"directiveBreakdowns,omitempty"`
	Requires             []string          `json:"requires,omitempty"`
	WorkflowToken        *WorkflowToken    `json:"workflowToken,omitempty"`
	Computes             ObjectReference   `json:"computes"`
	DesiredStateChange   *metav1.MicroTime `json:"desiredStateChange,omitempty"`
	ReadyChange          *metav1.MicroTime `json:"readyChange,omitempty"`
	ElapsedTimeLastState string            `json:"elapsedTimeLastState,omitempty"`
}

// Driver is the part of one driver in one state for one directive.
type Driver struct {
	DriverID     string            `json:"driverID"`
	TaskID       string            `json:"taskID"`
	DWDIndex     int               `json:"dwdIndex"`
	WatchState   string            `json:"watchState"`
	LastHB       int64             `json:"lastHB"`
	Completed    bool              `json:"completed"`
	Status       string            `json:"status,omitempty"`
	Message      string            `json:"message,omitempty"`
	Error        string            `json:"error,omitempty"`
	CompleteTime *metav1.MicroTime `json:"completeTime,omitempty"`
}

// ObjectReference points at another object of DWS.
type ObjectReference struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// WorkflowToken names the Secret with the user's token.
type WorkflowToken struct {
	SecretName      string `json:"secretName,omitempty"`
	SecretNamespace string `json:"secretNamespace,omitempty"`
}

// WorkflowsResource is where the API serves Workflows of a version.
func WorkflowsResource(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: Group, Version: version, Resource: "workflows"}
}

// ComputesResource is where the API serves Computes of a version.
func ComputesResource(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: Group, Version: version, Resource: "computes"}
}

// FromUnstructured reads what a dynamic client returned.
func FromUnstructured(object *unstructured.Unstructured) (*Workflow, error) {
	workflow := &Workflow{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, workflow); err != nil {
		return nil, fmt.Errorf("workflow %s/%s: %w", object.GetNamespace(), object.GetName(), err)
	}
	return workflow, nil
}

// Unstructured is the form that a dynamic client takes.
func (w *Workflow) Unstructured() (*unstructured.Unstructured, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(w)
	if err != nil {
		return nil, fmt.Errorf("workflow %s/%s: %w", w.Namespace, w.Name, err)
	}
	return &unstructured.Unstructured{Object: object}, nil
}

// deepCopy returns a Workflow that shares nothing with w that this package changes.
func (w *Workflow) deepCopy() *Workflow {
	c := *w
	w.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	// Clone keeps an empty list empty: as null, the API would refuse it.
	c.Spec.DWDirectives = slices.Clone(w.Spec.DWDirectives)
	c.Status.Drivers = slices.Clone(w.Status.Drivers)
	if c.Status.Env = maps.Clone(w.Status.Env); c.Status.Env == nil {
		c.Status.Env = map[string]string{}
	}
	return &c
}
