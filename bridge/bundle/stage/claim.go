package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Check asks Kubernetes about each object in a dry run, all at once; nothing is stored. A
// name that somebody else has is an error already now; a namespace that is full is not,
// since Bring waits for room.
func (d *Driver) Check(ctx context.Context, set Set) error {
	phases := append(slices.Clone(set.Phases), set.Last...)
	items, err := d.inventory(ctx, set, phases)
	if err != nil {
		return err
	}
	l := &lease{Set: set}
	var objects []*unstructured.Unstructured
	for _, p := range phases {
		objects = append(objects, p.Objects...)
	}
	last := len(objects)
	for _, p := range set.Last {
		last -= len(p.Objects)
	}
	return first(each(len(items), func(n int) error {
		object := objects[n].DeepCopy()
		if err := d.checkArguments(ctx, set, object, n >= last); err != nil {
			return err
		}
		err := d.byUser(d.written(l, items[n]).Strict().Check(ctx, object))
		if overQuota(err) {
			return nil
		}
		if !kube.Is(err, kube.Exists) { // admission comes before the name is looked at
			if err != nil {
				return explained(set, objects[n], err)
			}
			return nil
		}
		found, err := d.objects(l, items[n]).Get(ctx, items[n].Name)
		if err != nil || found == nil {
			return err
		}
		of, ours := d.of(found)
		switch {
		case !ours:
			return &ConflictError{Object: d.name(l, items[n])}
		case of.ID == d.Job.ID || d.Alive == nil && of.ID != 0:
			return nil
		}
		return d.mustBeOver(ctx, d.name(l, items[n]), of)
	}))
}

// first is one of joined errors: a person mends one after another.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

// Claim makes the Lease of a set with its inventory, before any object. What an earlier run of
// the job, or the same run with another set, left under the Lease is taken over: Bring changes
// it. What an earlier job of the same id left, and what has failed, is removed first.
// Claim of a bundle that is being made gives it all its time again.
func (d *Driver) Claim(ctx context.Context, set Set) error {
	l, err := d.claim(ctx, set, true)
	if err != nil || l.State != StateStaging {
		return err
	}
	return d.note(ctx, l, map[string]any{annotationBegun: stamp()})
}

// claim is Claim; what has failed in this run is returned as it is unless again is true.
func (d *Driver) claim(ctx context.Context, set Set, again bool) (*lease, error) {
	items, err := d.inventory(ctx, set, set.Phases)
	if err != nil {
		return nil, err
	}
	digest, err := digestOf(set)
	if err != nil {
		return nil, err
	}
	name := LeaseName(d.Job, set.Instance)
	var pauses kube.Pauses
	for {
		found, err := d.leases(set.Namespace).Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if found == nil {
			u, err := wanted(d.Job, set, items, digest)
			if err != nil {
				return nil, err
			}
			made, err := d.leases(set.Namespace).Create(ctx, u)
			if err == nil {
				d.Log.Infof("%s: claimed in namespace %s, %d objects", set, set.Namespace, len(items))
				return read(made)
			}
			if !kube.Is(err, kube.Exists) && !kube.Is(err, kube.Conflict) {
				return nil, explained(set, u, err)
			}
			// Our own create whose answer was lost, or one on its way out: look again.
			if pauses.Wait(ctx) != nil {
				return nil, err
			}
			continue
		}
		if _, ours := d.of(found); !ours || found.GetLabels()[job.LabelBundle] == "" {
			return nil, &ConflictError{Object: kube.ObjectName("leases", set.Namespace, name)}
		}
		l, damaged := read(found)
		if damaged == nil && found.GetAnnotations()[annotationDigest] == digest && d.thisRun(found) && (l.State != StateFailed || !again) {
			return l, nil
		}
		if damaged == nil && d.inherits(l) {
			d.Log.Infof("%s: lease %s/%s is left from an earlier run: changing what belongs to it", set, set.Namespace, name)
			return l, d.takeOver(ctx, set, l, items, digest)
		}
		d.Log.Infof("%s: lease %s/%s is left from an earlier run: removing what belongs to it first", set, set.Namespace, name)
		if err := d.end(ctx, found); err != nil {
			return nil, fmt.Errorf("%s is left from an earlier run and cannot be removed: %w", set, err)
		}
	}
}

// inherits tells whether what a Lease lists may be changed into what is wanted now: it is of the
// same job, has not failed, and nothing is or was made at its end, which undoes what this very
// run of the bundle did elsewhere.
func (d *Driver) inherits(l *lease) bool {
	notes := l.GetAnnotations()
	sameJob := notes[job.AnnotationUID] == fmt.Sprint(d.Job.UID) &&
		(notes[job.AnnotationSubmitTime] == d.Job.SubmitTime || d.Job.Restarts != job.AnyRun && d.Job.Restarts > 0)
	return sameJob && l.State != StateFailed && notes[annotationLast] == "" && l.GetDeletionTimestamp() == nil
}

// takeOver notes a new inventory in the Lease of an earlier set, before anything is changed. What
// the new set does not have stays in it until it is removed.
func (d *Driver) takeOver(ctx context.Context, set Set, l *lease, items []item, digest string) error {
	old := missing(l.Items, items)
	for n := range old {
		old[n].Old = true
	}
	all := append(slices.Clone(items), old...)
	u, err := wanted(d.Job, set, all, digest)
	if err != nil {
		return err
	}
	err = d.note(ctx, l, anew(u, map[string]any{annotationState: nil, annotationBegun: nil, annotationNoRoom: nil, annotationChanged: "true"}))
	if err != nil {
		return fmt.Errorf("%s: %w", set, err)
	}
	l.Set, l.Items = set, all
	return nil
}

// thisRun tells whether an object was made for this run of the job, by all that Slurm
// tells about it.
func (d *Driver) thisRun(u *unstructured.Unstructured) bool {
	notes := u.GetAnnotations()
	for key, value := range d.Job.Annotations() {
		if key != job.AnnotationUser && notes[key] != "" && notes[key] != value {
			return false
		}
	}
	return true
}

// note writes where the bundle is into its Lease. An empty value removes an annotation.
func (d *Driver) note(ctx context.Context, l *lease, annotations map[string]any) error {
	body, err := l.noting(annotations)
	if err != nil {
		return err
	}
	var pauses kube.Pauses
	for {
		changed, err := d.leases(l.Namespace).Patch(ctx, l.GetName(), body)
		if err == nil {
			l.Unstructured = changed
			break
		}
		if !kube.Is(err, kube.Conflict) {
			return err
		}
		found, getErr := d.leases(l.Namespace).Get(ctx, l.GetName())
		if getErr != nil || found == nil || found.GetUID() != l.GetUID() { // of a later run
			return err
		}
		if pauses.Wait(ctx) != nil {
			return err
		}
	}
	changed := l.Unstructured
	l.State = State(changed.GetAnnotations()[annotationState])
	return nil
}

// noting is the body of a patch of this very Lease.
func (l *lease) noting(annotations map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": string(l.GetUID()), "annotations": annotations}})
}

// noteNoRoom keeps for people why an object is missing. Nothing but the quota knows it. Several
// objects may be without room at once, so the lease in memory stays as it is.
func (d *Driver) noteNoRoom(ctx context.Context, l *lease, i item, cause error) {
	var request *kube.RequestError
	if !errors.As(cause, &request) {
		return
	}
	body, err := l.noting(map[string]any{annotationNoRoom: wire.Line(i.text(progress{waiting, kube.Reason(request.Err)}))})
	if err == nil {
		_, err = d.leases(l.Namespace).Patch(ctx, l.GetName(), body)
	}
	if err != nil {
		d.Log.Warn(err)
	}
}

// make creates an object, or finds that an earlier attempt of this run has, or changes what an
// earlier set of the job left. An object of the name that a job left which is over is removed
// first; any other is left alone.
func (d *Driver) make(ctx context.Context, l *lease, i item, u *unstructured.Unstructured, atEnd bool) error {
	object := u.DeepCopy()
	_ = unstructured.SetNestedSlice(object.Object, []any{l.owner()}, "metadata", "ownerReferences")
	if err := d.checkArguments(ctx, l.Set, object, atEnd); err != nil {
		return err
	}
	create := func() (*unstructured.Unstructured, error) {
		if atEnd {
			return d.objects(l, i).Strict().Create(ctx, object)
		}
		made, err := d.written(l, i).Strict().Create(ctx, object)
		return made, d.byUser(err)
	}
	var pauses kube.Pauses
	told := false
	for {
		made, err := create()
		if err == nil {
			d.Log.WithField("object_uid", string(made.GetUID())).Infof("%s: created", d.name(l, i))
			return nil
		}
		if overQuota(err) {
			if !told {
				d.noteNoRoom(ctx, l, i, err)
			}
			told = true
			if pauses.Wait(ctx) != nil {
				return explained(l.Set, u, err)
			}
			continue // another job's end may make room
		}
		if !kube.Is(err, kube.Exists) && !kube.Is(err, kube.Conflict) {
			return explained(l.Set, u, err)
		}
		found, judged := d.judge(ctx, l, i)
		if judged != nil {
			return judged
		}
		if found != nil && (atEnd || l.GetAnnotations()[annotationChanged] == "") {
			return nil
		}
		if found != nil {
			if done, err := d.renew(ctx, l, i, found, object); done || err != nil {
				return err
			}
		}
		if pauses.Wait(ctx) != nil {
			return err
		}
	}
}

// renew makes of an object that an earlier set of the same job left what is wanted now. done is
// false if it had to be removed, or has changed meanwhile.
func (d *Driver) renew(ctx context.Context, l *lease, i item, found, object *unstructured.Unstructured) (done bool, err error) {
	if i.runs() && !d.thisRun(found) {
		return false, d.remove(ctx, l, i, found)
	}
	return d.change(ctx, l, i, found, object, true)
}

// judge looks at an object whose name is taken, and returns it if it is this bundle's. What is
// left of a job that is over is removed.
func (d *Driver) judge(ctx context.Context, l *lease, i item) (own *unstructured.Unstructured, err error) {
	found, err := d.objects(l, i).Get(ctx, i.Name)
	if err != nil || found == nil {
		return nil, err
	}
	of, ours := d.of(found)
	switch {
	case !ours:
		return nil, &ConflictError{Object: d.name(l, i)}
	case d.belongs(l, found) && l.owns(found):
		if found.GetDeletionTimestamp() != nil {
			return nil, nil
		}
		return found, nil
	case d.belongs(l, found): // of an earlier run whose Lease is gone
	case of.ID == d.Job.ID && d.thisRun(found):
		return nil, &ConflictError{Object: d.name(l, i), Same: true, Of: &of}
	case of.ID != d.Job.ID:
		if err := d.mustBeOver(ctx, d.name(l, i), of); err != nil {
			return nil, err
		}
	}
	d.Log.Infof("%s: left by job %d, which is over: removing it first", d.name(l, i), of.ID)
	return nil, d.remove(ctx, l, i, found)
}

// owns tells whether an object was made under this very Lease.
func (l *lease) owns(u *unstructured.Unstructured) bool {
	for _, owner := range u.GetOwnerReferences() {
		if owner.UID == l.GetUID() {
			return true
		}
	}
	return false
}

func (d *Driver) mustBeOver(ctx context.Context, object string, of job.Job) error {
	if d.Alive == nil || of.ID == 0 {
		return &ConflictError{Object: object, Of: &of}
	}
	alive, err := d.Alive(ctx, of)
	switch {
	case err != nil:
		return fmt.Errorf("%s belongs to job %d, and it is unknown whether that job is over: %w", object, of.ID, err)
	case alive:
		return &ConflictError{Object: object, Of: &of}
	}
	return nil
}

// remove deletes the object that was read and no other of its name, and waits until it is
// gone.
func (d *Driver) remove(ctx context.Context, l *lease, i item, u *unstructured.Unstructured) error {
	objects, uid := d.objects(l, i), u.GetUID()
	if u.GetDeletionTimestamp() == nil {
		remove := objects.Delete
		if i.known().makes || i.known().resource == "" {
			remove = objects.DeleteForeground
		}
		d.Log.WithField("object_uid", string(uid)).Infof("%s: delete", d.name(l, i))
		if err := stubbornly(ctx, objects, remove, i.Name, uid); err != nil {
			return err
		}
	}
	now, err := objects.Get(ctx, i.Name)
	if err != nil || now == nil || now.GetUID() != uid {
		return err
	}
	changes := objects.Watch(kube.Selection{Fields: "metadata.name=" + i.Name}, now.GetResourceVersion())
	defer changes.Stop()
	for {
		change, err := changes.Next(ctx)
		switch {
		case err != nil:
			return err
		case change.Gone, change.Object != nil && change.Object.GetUID() != uid:
			return nil
		case change.Listed && (len(change.All) == 0 || change.All[0].GetUID() != uid):
			return nil
		}
	}
}

// stubbornly deletes one object and no other of its name. A Conflict means that another has the
// name by now, or only that the object changed meanwhile: then it is tried again.
func stubbornly(ctx context.Context, objects *kube.Objects, remove func(context.Context, string, metav1.Preconditions) error, name string, uid types.UID) error {
	var pauses kube.Pauses
	for {
		err := remove(ctx, name, metav1.Preconditions{UID: &uid})
		if !kube.Is(err, kube.Conflict) {
			return err
		}
		found, getErr := objects.Get(ctx, name)
		if getErr != nil {
			return getErr
		}
		if found == nil || found.GetUID() != uid {
			return nil
		}
		if pauses.Wait(ctx) != nil {
			return err
		}
	}
}

// stamp is the present time in an annotation.
func stamp() string { return time.Now().UTC().Format(time.RFC3339Nano) }
