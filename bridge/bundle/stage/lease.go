package stage

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
)

// Annotations of a bundle's Lease, besides those of every object of a bundle.
const (
	// The inventory lists all objects of the bundle, and is written before the first of
	// them is made. The digest is of all that is to be made.
	annotationInventory = "slurmk8s.io/inventory"
	annotationDigest    = "slurmk8s.io/digest"
	annotationState     = "slurmk8s.io/state"
	annotationReason    = "slurmk8s.io/reason"  // of StateFailed
	annotationBegun     = "slurmk8s.io/begun"   // when the first phase was begun; RFC 3339, by the controller host's clock
	annotationNoRoom    = "slurmk8s.io/no-room" // why an object that is missing cannot be made yet
	annotationChanged   = "slurmk8s.io/changed" // "true": some objects may be of an earlier set, until the bundle is ready
	annotationPatience  = "slurmk8s.io/delete-timeout"
	annotationLast      = "slurmk8s.io/on-delete" // the objects that are made at the end; lastDone once they have been
	annotationLastTries = "slurmk8s.io/on-delete-failures"
)

// lastDone says that what the end of a bundle makes was made: what is left of it can only be removed.
const lastDone = "[]"

// State is where in its life a bundle is.
type State string

// The states of a bundle.
const (
	StateClaimed State = ""        // it has its Lease, and no object yet
	StateStaging State = "staging" // its phases are being made
	StateReady   State = "ready"
	StateFailed  State = "failed"
)

// Status is the state as bbstat calls it.
func (s State) Status() string {
	switch s {
	case StateClaimed:
		return "Claimed"
	case StateStaging:
		return "Waiting"
	case StateReady:
		return "Ready"
	case StateFailed:
		return "Failed"
	}
	return string(s)
}

// Set is a bundle of a job as Kubernetes is to have it. Its objects have their namespace and the
// marks of bundle.Mark, and no owner.
type Set struct {
	Bundle    string // its name
	Instance  string // its name in the job, a DNS label
	Namespace string // of all objects
	Phases    []bundle.Phase
	Last      []bundle.Phase // made when the bundle ends, and removed when they are ready
	// DeleteTimeout is how long the objects of one phase may take to end.
	DeleteTimeout time.Duration
}

// String is how messages call it: "bundle exporter", "bundle exporter (as e2)".
func (s Set) String() string { return called(s.Bundle, s.Instance) }

func called(name, instance string) string {
	if instance == name || instance == "" {
		return "bundle " + name
	}
	return fmt.Sprintf("bundle %s (as %s)", name, instance)
}

// Of is the set that a bundle means for a job.
func Of(r *bundle.Rendered) Set {
	return Set{
		Bundle: r.Bundle.Name, Instance: r.Instance, Namespace: r.Namespace(),
		Phases: r.Phases, Last: r.Delete, DeleteTimeout: r.Bundle.DeleteTimeout,
	}
}

// LeaseName is the name of the Lease that all objects of an instance belong to.
func LeaseName(of job.Job, instance string) string {
	if of.ID == 0 {
		return "slurm-" + of.Cluster + "." + instance
	}
	return of.LeaseName() + "." + instance
}

// of is the job whose bundle an object belongs to, with the id 0 for a standing bundle. ours is
// false for one that this cluster's bridge did not make.
func (d *Driver) of(u *unstructured.Unstructured) (of job.Job, ours bool) {
	labels := u.GetLabels()
	if _, ofJob := labels[job.LabelJobID]; ofJob || labels[job.LabelBundle] == "" {
		return job.Of(u, d.Job.Cluster)
	}
	return job.Job{Cluster: d.Job.Cluster}, labels[job.LabelManagedBy] == job.ManagedBy && labels[job.LabelCluster] == d.Job.Cluster
}

// lease is the Lease of a bundle as it is in Kubernetes.
type lease struct {
	*unstructured.Unstructured
	Set // without Phases: Items has what was made of them
	State
	Items []item
}

// item is an object of the inventory.
type item struct {
	Phase    string `json:"phase"`
	Wait     string `json:"wait,omitempty"`
	Group    string `json:"group,omitempty"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	// Old: the set has it no more. It is removed when what the set has is ready.
	Old bool `json:"old,omitempty"`
}

// runs tells whether an object is work that is done once, so that each run of a job needs its own.
func (i item) runs() bool { return i.Kind == "Pod" || i.known().ends }

// same tells whether two items are one object.
func (i item) same(other item) bool {
	return i.Group == other.Group && i.Resource == other.Resource && i.Name == other.Name
}

// missing are the items of an earlier inventory that another does not have.
func missing(earlier, items []item) []item {
	return slices.DeleteFunc(slices.Clone(earlier), func(old item) bool { return slices.ContainsFunc(items, old.same) })
}

func (i item) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: i.Group, Version: i.Version, Resource: i.Resource}
}

func (i item) known() kind {
	return kindOf(schema.GroupVersion{Group: i.Group, Version: i.Version}.String(), i.Kind)
}

// phases are the items in the order of their phases; the old ones are last.
func (l *lease) phases() [][]item { return byPhase(l.Items) }

// old divides the inventory into what the set has, and what it has no more.
func (l *lease) old() (items, old []item) {
	n := slices.IndexFunc(l.Items, func(i item) bool { return i.Old })
	if n < 0 {
		return l.Items, nil
	}
	return l.Items[:n], l.Items[n:]
}

func byPhase(items []item) [][]item {
	var all [][]item
	for i, it := range items {
		if i == 0 || it.Phase != items[i-1].Phase || it.Old != items[i-1].Old {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], it)
	}
	return all
}

// inventoryOf is annotationInventory.
func inventoryOf(items []item) (string, error) {
	text, err := json.Marshal(items)
	return string(text), err
}

// wanted is the Lease of a set as it is created.
func wanted(of job.Job, set Set, items []item, digest string) (*unstructured.Unstructured, error) {
	inventory, err := inventoryOf(items)
	if err != nil {
		return nil, err
	}
	last, err := json.Marshal(set.Last)
	if err != nil {
		return nil, err
	}
	annotations := bundle.Annotations(of, set.Bundle)
	annotations[annotationInventory] = inventory
	if len(set.Last) > 0 {
		annotations[annotationLast] = string(last)
	}
	annotations[annotationDigest] = digest
	annotations[annotationPatience] = set.DeleteTimeout.String()
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1",
		"kind":       "Lease",
		"metadata": map[string]any{
			"name": LeaseName(of, set.Instance), "namespace": set.Namespace,
			"labels": bundle.Labels(of, set.Instance), "annotations": annotations,
		},
		"spec": map[string]any{
			"holderIdentity": of.Holder(),
			"acquireTime":    time.Now().UTC().Format(metav1.RFC3339Micro),
		},
	}}, nil
}

// anew are the annotations of a Lease that is there for what is wanted of it now, without those of
// what was wanted before, and with more.
func anew(wanted *unstructured.Unstructured, more map[string]any) map[string]any {
	notes := map[string]any{annotationLast: nil, annotationReason: nil, annotationLastTries: nil}
	for key, value := range wanted.GetAnnotations() {
		notes[key] = value
	}
	maps.Copy(notes, more)
	return notes
}

// defaultPatience is for a Lease that does not say how long a phase may take to end.
const defaultPatience = time.Minute

// read is the bundle that a Lease says it is of. One whose inventory somebody damaged has
// no items, and the error says so.
func read(u *unstructured.Unstructured) (*lease, error) {
	notes, labels := u.GetAnnotations(), u.GetLabels()
	l := &lease{Unstructured: u, State: State(notes[annotationState]), Set: Set{
		Bundle: notes[bundle.AnnotationName], Instance: labels[job.LabelBundle], Namespace: u.GetNamespace(), DeleteTimeout: defaultPatience,
	}}
	if d, err := time.ParseDuration(notes[annotationPatience]); err == nil && d > 0 {
		l.DeleteTimeout = d
	}
	for annotation, to := range map[string]any{annotationInventory: &l.Items, annotationLast: &l.Last} {
		text, given := notes[annotation]
		if !given && annotation == annotationLast {
			continue
		}
		if err := json.Unmarshal([]byte(text), to); err != nil {
			l.Items, l.Last = nil, nil
			return l, fmt.Errorf("lease %s/%s: annotation %s is damaged: %w", u.GetNamespace(), u.GetName(), annotation, err)
		}
	}
	return l, nil
}

// begun is when the first phase was begun; now, if nobody has noted it.
func (l *lease) begun() time.Time {
	at, err := time.Parse(time.RFC3339, l.GetAnnotations()[annotationBegun])
	if err != nil {
		return time.Now()
	}
	return at
}

// owner is the ownerReference of the bundle's objects.
func (l *lease) owner() map[string]any { return job.OwnerReference(l.GetName(), l.GetUID()) }

// digestOf tells whether two runs of a hook want the same.
func digestOf(set Set) (string, error) {
	sum := fnv.New64a()
	for _, p := range append(slices.Clone(set.Phases), set.Last...) {
		fmt.Fprintf(sum, "%q %q\n", p.Name, p.Wait)
		for _, u := range p.Objects {
			text, err := json.Marshal(u.Object) // with sorted keys
			if err != nil {
				return "", err
			}
			sum.Write(append(text, '\n'))
		}
	}
	return fmt.Sprintf("%016x", sum.Sum64()), nil
}
