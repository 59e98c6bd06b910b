// Package bundle makes Kubernetes objects that live as long as a job from templates that an
// administrator approved. A bundle is a folder: bundle.toml, which declares typed
// parameters and phases, and files of plain Kubernetes YAML. A parameter's value is put
// into the parsed tree, never into text that is parsed afterwards, so that it cannot change
// anything but its own place. docs/bundles.md describes the language.
package bundle

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
)

// Labels and the annotation of a bundle's objects, besides those of every object of a job and
// job.LabelBundle, which is the instance.
const (
	AnnotationName = "slurmk8s.io/bundle-name" // the folder's name
	LabelUser      = "slurmk8s.io/user"        // of pods; escaped as users.Label does
	LabelAccount   = "slurmk8s.io/account"     // of pods; the Slurm account, escaped too
)

// The moments at which a bundle's objects are made (Bundle.When).
const (
	WhenStage = "stage" // while the job is pending: no node is held meanwhile
	WhenStart = "start" // when the job has its nodes, before any prolog
)

// What happens to the job if the objects cannot be made (Bundle.OnFailure).
const (
	OnFailureHold    = "hold"    // what Slurm does after a failed stage-in
	OnFailureCancel  = "cancel"  // the job ends, with the reason in its SystemComment
	OnFailureProceed = "proceed" // the job starts without them
)

// What a phase waits for before the next one begins (Phase.Wait).
const (
	WaitReady     = "ready"      // each object is ready, by the rules of its kind
	WaitNone      = "none"       // each object exists
	WaitEndpoints = "endpoints"  // ready, and each Service has a ready endpoint
	WaitCondition = "condition:" // + TYPE=STATUS: each object has this condition
)

// Bundle is a folder that was loaded. It is not changed afterwards.
type Bundle struct {
	Name    string // of the folder, a DNS label
	Dir     string // its real path
	Digest  string // SHA-256 of the files that were read, in hexadecimal
	Summary string // one line
	// When is WhenStage or WhenStart.
	When string
	// Timeout is for all phases together, DeleteTimeout for one phase at the end.
	Timeout, DeleteTimeout time.Duration
	OnFailure              string // OnFailureHold and so on
	// Images are the patterns that parameters of type image must match; "*" stands for any
	// text without "/".
	Images []string
	Params []*Param // in the order of the file; "name" comes first if it is not declared
	Phases []*PhaseTemplate
	Env    map[string]string // variables of the job, with references
}

// PhaseTemplate is a phase with references instead of values.
type PhaseTemplate struct {
	Name string
	Wait string // WaitReady and so on
	// OnDelete: the objects are made when the bundle is removed, before the other phases
	// are deleted, and are deleted themselves when they are ready or have failed.
	OnDelete bool
	OnlyIf   string // the parameter without which the phase is left out; empty: none
	Files    []string
	Objects  []Template
}

// Template is one object of a file.
type Template struct {
	File   string
	Object map[string]any
}

// Kind is what the object is.
func (t Template) Kind() schema.GroupVersionKind {
	u := unstructured.Unstructured{Object: t.Object}
	return u.GroupVersionKind()
}

// Kinds are those of all objects, each once, in the order of the phases.
func (b *Bundle) Kinds() []schema.GroupVersionKind {
	var kinds []schema.GroupVersionKind
	seen := map[schema.GroupVersionKind]bool{}
	for _, phase := range b.Phases {
		for _, t := range phase.Objects {
			if kind := t.Kind(); !seen[kind] {
				seen[kind] = true
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// Param returns a declared parameter, or nil.
func (b *Bundle) Param(name string) *Param {
	for _, p := range b.Params {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Facts are what Slurm says of the job. A job id of 0 stands for none: the bundle is made by
// an administrator and outlives jobs.
type Facts struct {
	job.Job
	Account, Partition string
	// Nodes and BatchHost are known to bundles of WhenStart only. At submission the dry run
	// takes 1 and "node".
	Nodes     int
	BatchHost string
}

// Rendered is what a bundle means for one job: objects in order, with the labels and
// annotations of the bridge, the namespace, and no ownerReference yet.
type Rendered struct {
	Bundle   *Bundle
	Instance string
	// Timeout is for all phases together: the user's, else the bundle's.
	Timeout time.Duration
	Phases  []Phase           // those that are made at once
	Delete  []Phase           // those of OnDelete
	Env     map[string]string // variables of the job
	// Values are those of all parameters, defaults included: string, int64, bool, for
	// arguments a list of {name, value}, and for a label a map of one entry. Optional ones
	// that were not given are missing.
	Values map[string]any

	namespace string
}

// Namespace is where all objects are.
func (r *Rendered) Namespace() string { return r.namespace }

// Phase is a step in the order of dependency.
type Phase struct {
	Name    string
	Wait    string // WaitReady and so on
	Objects []*unstructured.Unstructured
	Files   []string // of each object, for messages
}
