package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// A standing bundle is one that an administrator makes and removes, and that no job owns. The
// driver's Job has the cluster and nothing else.

// Up makes a standing bundle, or makes of one that is there what the set says: objects are
// changed in place, and those that the set has no more are removed when the others are ready. An
// object with a field that cannot be changed is an error, or with replace is made again if
// Kubernetes would take the new one.
func (d *Driver) Up(ctx context.Context, set Set, timeout time.Duration, replace bool) error {
	items, err := d.inventory(ctx, set, set.Phases)
	if err != nil {
		return err
	}
	l, pruned, err := d.begin(ctx, set, items)
	if err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at, err := d.phases(attempt, l, set.Phases, items, func(ctx context.Context, i item, u *unstructured.Unstructured) error {
		return d.put(ctx, l, i, u, replace)
	})
	if err != nil {
		if attempt.Err() != nil {
			err = &LateError{Bundle: set.String(), Text: at, Final: true, Err: attempt.Err()}
		}
		d.noteFailure(ctx, l, err)
		return err
	}
	if err := d.prune(ctx, l, pruned); err != nil {
		return err
	}
	inventory, err := inventoryOf(items)
	if err != nil {
		return err
	}
	return d.note(ctx, l, map[string]any{annotationInventory: inventory, annotationState: string(StateReady), annotationReason: nil})
}

// begin returns the Lease of a standing bundle with an inventory of what is to be there and of
// what an earlier Up has made that is not.
func (d *Driver) begin(ctx context.Context, set Set, items []item) (l *lease, pruned []item, err error) {
	digest, err := digestOf(set)
	if err != nil {
		return nil, nil, err
	}
	if l, err = d.standing(ctx, set); err != nil {
		return nil, nil, err
	}
	if l != nil {
		pruned = missing(l.Items, items)
	}
	u, err := wanted(d.Job, set, append(slices.Clone(items), pruned...), digest)
	if err != nil {
		return nil, nil, err
	}
	if l == nil {
		made, err := d.leases(set.Namespace).Create(ctx, u)
		if err != nil {
			return nil, nil, explained(set, u, err)
		}
		if l, err = read(made); err != nil {
			return nil, nil, err
		}
	}
	l.Set = set
	return l, pruned, d.note(ctx, l, anew(u, map[string]any{annotationState: string(StateStaging), annotationBegun: stamp()}))
}

// standing is the Lease of a standing bundle; nil: there is none.
func (d *Driver) standing(ctx context.Context, set Set) (*lease, error) {
	found, err := d.standingLease(ctx, set.Namespace, set.Instance)
	if err != nil || found == nil {
		return nil, err
	}
	l, err := read(found)
	if err != nil {
		return nil, fmt.Errorf("%w: take the bundle down, and up again", err)
	}
	return l, nil
}

func (d *Driver) standingLease(ctx context.Context, namespace, instance string) (*unstructured.Unstructured, error) {
	name := LeaseName(d.Job, instance)
	found, err := d.leases(namespace).Get(ctx, name)
	if err != nil || found == nil {
		return nil, err
	}
	if of, ours := d.of(found); !ours || of.ID != 0 || found.GetLabels()[job.LabelBundle] != instance {
		return nil, &ConflictError{Object: kube.ObjectName("leases", namespace, name)}
	}
	return found, nil
}

// put makes an object, or changes it in place.
func (d *Driver) put(ctx context.Context, l *lease, i item, u *unstructured.Unstructured, replace bool) error {
	object := u.DeepCopy()
	_ = unstructured.SetNestedSlice(object.Object, []any{l.owner()}, "metadata", "ownerReferences")
	if err := d.checkArguments(ctx, l.Set, object, false); err != nil {
		return err
	}
	var pauses kube.Pauses
	for {
		found, err := d.objects(l, i).Get(ctx, i.Name)
		if err != nil {
			return err
		}
		switch {
		case found == nil:
			made, err := d.written(l, i).Strict().Create(ctx, object)
			err = d.byUser(err)
			if err == nil {
				d.Log.Infof("%s: created", d.name(l, i))
				if err := d.own(ctx, l, i, made); !kube.Is(err, kube.Conflict) { // the next Up does it
					return err
				}
				return nil
			}
			if !kube.Is(err, kube.Exists) {
				return explained(l.Set, u, err)
			}
		case !d.belongs(l, found):
			of, ours := d.of(found)
			if !ours {
				return &ConflictError{Object: d.name(l, i)}
			}
			return &ConflictError{Object: d.name(l, i), Of: &of}
		case found.GetDeletionTimestamp() == nil:
			if done, err := d.change(ctx, l, i, found, object, replace); done || err != nil {
				return err
			}
		}
		if err := pauses.Wait(ctx); err != nil {
			return err
		}
	}
}

// change makes of an object what is wanted, in place. One with a field that cannot be changed is
// removed if replace is true. done is false if it was, or has changed meanwhile: look again.
func (d *Driver) change(ctx context.Context, l *lease, i item, found, object *unstructured.Unstructured, replace bool) (done bool, err error) {
	if err := d.own(ctx, l, i, found); kube.Is(err, kube.Conflict) {
		return false, nil // a controller was faster
	} else if err != nil {
		return false, err
	}
	object.SetUID(found.GetUID())
	changed, err := d.written(l, i).Apply(ctx, object, true)
	err = d.byUser(err)
	object.SetUID("")
	switch {
	case err == nil:
		if len(differences(found, changed)) > 0 {
			d.Log.Infof("%s: changed", d.name(l, i))
		}
		return true, nil
	case kube.Is(err, kube.Refusal) && replace:
		if err := d.admitted(ctx, l, i, object); err != nil {
			return false, explained(l.Set, object, err)
		}
		return false, d.remove(ctx, l, i, found)
	case kube.Is(err, kube.Conflict):
		return false, nil
	}
	return false, explained(l.Set, object, err)
}

// admitted asks Kubernetes, by a dry run, whether it would take an object if none had its name.
// Kubernetes says that the name is taken only of an object that it has admitted.
func (d *Driver) admitted(ctx context.Context, l *lease, i item, object *unstructured.Unstructured) error {
	err := d.byUser(d.written(l, i).Strict().Check(ctx, object))
	if kube.Is(err, kube.Exists) {
		return nil
	}
	return err
}

// own makes what Create wrote into an object ours to apply: a field that a later apply does not
// have is removed only then. Kubernetes keeps the two apart in managedFields.
func (d *Driver) own(ctx context.Context, l *lease, i item, u *unstructured.Unstructured) error {
	entries, owned := u.GetManagedFields(), false
	for n, e := range entries {
		if e.Manager == kube.FieldManager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == "" {
			entries[n].Operation, owned = metav1.ManagedFieldsOperationApply, true
		}
	}
	applied := slices.ContainsFunc(u.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == kube.FieldManager && e.Operation == metav1.ManagedFieldsOperationApply
	})
	if !owned || applied {
		return nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": string(u.GetUID()), "resourceVersion": u.GetResourceVersion(), "managedFields": entries,
	}})
	if err != nil {
		return err
	}
	_, err = d.objects(l, i).Patch(ctx, i.Name, body)
	return err
}

// Down removes a standing bundle. found is false if there is none.
func (d *Driver) Down(ctx context.Context, namespace, instance string) (found bool, err error) {
	u, err := d.standingLease(ctx, namespace, instance)
	if err != nil || u == nil {
		return false, err
	}
	return true, d.end(ctx, u)
}

// Difference is what Up would do with an object. Nothing is done with one that is as it should be.
type Difference struct {
	Object  string   // "configmap ns/m"
	Made    bool     // it is not there
	Pruned  bool     // the set does not have it
	Changes []string // "spec.replicas: 1 -> 2"
	Refused string   // why it needs a new object: it cannot be changed in place
}

// Diff tells what Up would do, by a dry run.
func (d *Driver) Diff(ctx context.Context, set Set) ([]Difference, error) {
	items, err := d.inventory(ctx, set, set.Phases)
	if err != nil {
		return nil, err
	}
	l, err := d.standing(ctx, set)
	if err != nil {
		return nil, err
	}
	var all []Difference
	if l == nil {
		l = &lease{Set: set, Unstructured: &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"labels": bundle.Labels(d.Job, set.Instance)}}}}
	}
	objects := []*unstructured.Unstructured{}
	for _, p := range set.Phases {
		objects = append(objects, p.Objects...)
	}
	for n, i := range items {
		diff, err := d.diff(ctx, l, i, objects[n].DeepCopy())
		if err != nil {
			return nil, err
		}
		if diff.Made || diff.Refused != "" || len(diff.Changes) > 0 {
			all = append(all, diff)
		}
	}
	for _, old := range l.Items {
		if !slices.ContainsFunc(items, old.same) {
			all = append(all, Difference{Object: d.name(l, old), Pruned: true})
		}
	}
	return all, nil
}

func (d *Driver) diff(ctx context.Context, l *lease, i item, object *unstructured.Unstructured) (Difference, error) {
	diff := Difference{Object: d.name(l, i)}
	if err := d.checkArguments(ctx, l.Set, object, false); err != nil {
		return diff, err
	}
	found, err := d.objects(l, i).Get(ctx, i.Name)
	if err != nil {
		return diff, err
	}
	if found == nil {
		diff.Made = true
		if err := d.admitted(ctx, l, i, object); err != nil {
			return diff, explained(l.Set, object, err)
		}
		return diff, nil
	}
	if !d.belongs(l, found) {
		of, ours := d.of(found)
		if !ours {
			return diff, &ConflictError{Object: diff.Object}
		}
		return diff, &ConflictError{Object: diff.Object, Of: &of}
	}
	_ = unstructured.SetNestedSlice(object.Object, []any{l.owner()}, "metadata", "ownerReferences")
	object.SetUID(found.GetUID())
	would, err := d.objects(l, i).Preview(ctx, object)
	object.SetUID("")
	if kube.Is(err, kube.Refusal) {
		if err := d.admitted(ctx, l, i, object); err != nil {
			return diff, explained(l.Set, object, err)
		}
		diff.Refused = explained(l.Set, object, err).Error()
		return diff, nil
	}
	if err != nil {
		return diff, explained(l.Set, object, err)
	}
	diff.Changes = differences(found, would)
	return diff, nil
}

// differences are the fields in which two states of an object differ, but for those that
// Kubernetes writes.
func differences(before, after *unstructured.Unstructured) []string {
	var changes []string
	compare("", bare(before), bare(after), &changes)
	return changes
}

func bare(u *unstructured.Unstructured) map[string]any {
	object := maps.Clone(u.Object)
	delete(object, "status")
	metadata := map[string]any{}
	for _, key := range []string{"labels", "annotations", "ownerReferences"} {
		if value, ok, _ := unstructured.NestedFieldNoCopy(object, "metadata", key); ok {
			metadata[key] = value
		}
	}
	object["metadata"] = metadata
	return object
}

func compare(path string, before, after any, changes *[]string) {
	old, isMap := before.(map[string]any)
	next, both := after.(map[string]any)
	if !isMap || !both {
		if a, b := shown(before), shown(after); a != b {
			*changes = append(*changes, fmt.Sprintf("%s: %s -> %s", path, a, b))
		}
		return
	}
	keys := slices.Collect(maps.Keys(old))
	for key := range next {
		if _, has := old[key]; !has {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		below := key
		if path != "" {
			below = path + "." + key
		}
		compare(below, old[key], next[key], changes)
	}
}

// shown is a value as JSON; "none" where there is none.
func shown(value any) string {
	if value == nil {
		return "none"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
