package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// State is a state of a Workflow, in DWS's words.
type State string

// The states of a Workflow in their order. DWS allows the next one only, or
// Teardown from anywhere.
const (
	Proposal State = "Proposal"
	Setup    State = "Setup"
	DataIn   State = "DataIn"
	PreRun   State = "PreRun"
	PostRun  State = "PostRun"
	DataOut  State = "DataOut"
	Teardown State = "Teardown"
)

var order = []State{Proposal, Setup, DataIn, PreRun, PostRun, DataOut, Teardown}

// index is a state's place in the order, -1 for a state that DWS may add later.
func (s State) index() int { return slices.Index(order, s) }

func (s State) before(other State) bool { return s.index() < other.index() }

func (s State) next() State { return order[s.index()+1] }

// Annotations of a Workflow, besides those of every object of a job.
const (
	// When the present state was asked for, and since when a driver reports a
	// TransientCondition in it; RFC 3339, by the controller host's clock. From
	// Slurm 24.05 on one state is waited for by many short hooks.
	annotationStateSince     = "slurmk8s.io/state-since"
	annotationTransientSince = "slurmk8s.io/transient-since"
)

// driver is an entry of status.drivers.
type driver struct {
	Directive int64 // index in spec.dwDirectives
	Watch     State
	Status    string
	Message   string // for the user
	Error     string // with more detail
}

// object is what the bridge reads of a Workflow. Fields that it does not know,
// now or in a later version of DWS, do not matter to it.
type object struct {
	Name, Namespace string
	UID             types.UID
	ResourceVersion string
	Deleting        bool
	Labels          map[string]string
	Annotations     map[string]string

	Desired    State
	Hurry      bool
	JobID      string
	OwnerUID   int64
	Directives []string

	State             State
	Ready             bool
	Status            string
	Message           string
	Elapsed           string
	Env               map[string]string
	Drivers           []driver
	ComputesName      string
	ComputesNamespace string
	Token             types.NamespacedName // the Secret of status.workflowToken
	Breakdowns        []types.NamespacedName
}

// String is how errors and logs name a Workflow.
func (o *object) String() string { return "workflow " + o.Namespace + "/" + o.Name }

func parse(u *unstructured.Unstructured) *object {
	text := func(fields ...string) string {
		v, _, _ := unstructured.NestedFieldNoCopy(u.Object, fields...)
		if v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}
	flag := func(fields ...string) bool {
		v, _, _ := unstructured.NestedBool(u.Object, fields...)
		return v
	}
	o := &object{
		Name: u.GetName(), Namespace: u.GetNamespace(),
		UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
		Deleting:    u.GetDeletionTimestamp() != nil,
		Labels:      u.GetLabels(),
		Annotations: u.GetAnnotations(),
		Desired:     State(text("spec", "desiredState")),
		Hurry:       flag("spec", "hurry"),
		JobID:       text("spec", "jobID"),
		State:       State(text("status", "state")),
		Ready:       flag("status", "ready"),
		Status:      text("status", "status"),
		Message:     text("status", "message"),
		Elapsed:     text("status", "elapsedTimeLastState"),

		ComputesName:      text("status", "computes", "name"),
		ComputesNamespace: text("status", "computes", "namespace"),
	}
	o.Token = types.NamespacedName{
		Namespace: text("status", "workflowToken", "secretNamespace"), Name: text("status", "workflowToken", "secretName"),
	}
	o.OwnerUID, _, _ = unstructured.NestedInt64(u.Object, "spec", "userID")
	o.Directives, _, _ = unstructured.NestedStringSlice(u.Object, "spec", "dwDirectives")
	o.Env, _, _ = unstructured.NestedStringMap(u.Object, "status", "env")

	references, _, _ := unstructured.NestedSlice(u.Object, "status", "directiveBreakdowns")
	for _, r := range references {
		if r, ok := r.(map[string]any); ok {
			name, _ := r["name"].(string)
			namespace, _ := r["namespace"].(string)
			o.Breakdowns = append(o.Breakdowns, types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	entries, _, _ := unstructured.NestedSlice(u.Object, "status", "drivers")
	for _, entry := range entries {
		fields, ok := entry.(map[string]any)
		if !ok {
			continue
		}
		d := driver{}
		d.Directive, _, _ = unstructured.NestedInt64(fields, "dwdIndex")
		watch, _, _ := unstructured.NestedString(fields, "watchState")
		d.Watch = State(watch)
		d.Status, _, _ = unstructured.NestedString(fields, "status")
		d.Message, _, _ = unstructured.NestedString(fields, "message")
		d.Error, _, _ = unstructured.NestedString(fields, "error")
		o.Drivers = append(o.Drivers, d)
	}
	return o
}

// reached reports whether DWS is done with the state. status.ready alone still
// belongs to the former state right after a change, and the status text may say
// Completed before the drivers are: reference/dws.md, section 2.3.
func (o *object) reached(target State) bool {
	return o.Desired == target && o.State == target && o.Ready
}

// worst is the status of the state that the Workflow is in, or "" while DWS has
// not yet taken up the desired state.
func (o *object) worst() string {
	if o.State != o.Desired {
		return ""
	}
	return o.Status
}

// The values of status.status that need the bridge's attention.
const (
	statusError     = "Error"
	statusTransient = "TransientCondition"
)

// failure describes the driver error or condition of the present state for the
// user: DWS's own message first, then the driver's error, then the directive that it is
// about.
func (o *object) failure() string {
	message, directive := o.Message, ""
	if d := o.failedDriver(); d != nil {
		message = withError(cmp.Or(o.Message, d.Message), d.Error)
		if d.Directive >= 0 && d.Directive < int64(len(o.Directives)) {
			directive = o.Directives[d.Directive]
		}
	}
	text := fmt.Sprintf("%s failed: %s", o.State, shorten(cmp.Or(message, "DWS gives no reason"), 500))
	if directive != "" {
		text += " [" + shorten(directive, 200) + "]"
	}
	return text
}

// waitsFor is the error that a driver reports while it goes on; "": none does.
func (o *object) waitsFor() string {
	for i := range o.Drivers {
		if d := &o.Drivers[i]; d.Watch == o.State && d.Status != "Completed" && d.Error != "" {
			return d.Error
		}
	}
	return ""
}

// failedDriver is the driver that the Workflow's message is about, or the first one with
// its status; nil if there is none.
func (o *object) failedDriver() *driver {
	var first *driver
	for i := range o.Drivers {
		d := &o.Drivers[i]
		if d.Watch != o.State || d.Status != o.Status {
			continue
		}
		if strings.HasPrefix(o.Message, fmt.Sprintf("DW Directive %d: ", d.Directive)) {
			return d
		}
		if first == nil {
			first = d
		}
	}
	return first
}

// withError appends a driver's error to its message, unless that has it already.
func withError(message, detail string) string {
	switch {
	case detail == "" || strings.Contains(message, detail):
		return message
	case message == "":
		return detail
	case strings.HasSuffix(strings.TrimRight(message, " "), ":"):
		return strings.TrimRight(message, " ") + " " + detail
	}
	return shorten(message, 300) + " (" + detail + ")"
}

// failedBeforeRun reports that the job can never run: in a state that it has to
// pass before it starts a driver failed, or reports a TransientCondition that has
// outlasted its grace. A younger condition is no failure: after a restart of
// slurmctld the job is staged again. Nor is it that a rabbit has no room: other nodes, or
// another hour, may have.
func (o *object) failedBeforeRun(grace time.Duration) bool {
	outlasted := false
	if since, err := time.Parse(time.RFC3339, o.Annotations[annotationTransientSince]); err == nil {
		outlasted = time.Since(since) >= grace
	}
	for _, d := range o.Drivers {
		failed := d.Status == statusError || d.Status == statusTransient && outlasted
		if d.Watch == Setup && noRoomThere().MatchString(d.Message) {
			continue
		}
		if failed && d.Watch.index() >= 0 && d.Watch.before(PostRun) {
			return true
		}
	}
	return false
}

// shorten cuts text to at most n bytes, at a rune's edge.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n-3], "") + "..."
}
