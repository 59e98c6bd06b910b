package stage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// End removes all bundles of the job in a namespace, each phase after those that were made
// after it. A job without bundles there is no error. If something does not end in time,
// the rest is removed all the same, and the Lease stays, so that the next attempt or
// reconcile finds what is left.
func (d *Driver) End(ctx context.Context, namespace string) error {
	found, err := d.leases(namespace).List(ctx, kube.Selection{Labels: d.Job.BundleSelector()})
	if kube.Is(err, kube.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return each(len(found), func(n int) error { return d.end(ctx, &found[n]) })
}

// end removes what belongs to one Lease, and then the Lease. It needs no bundle: that may
// have changed or gone since.
func (d *Driver) end(ctx context.Context, u *unstructured.Unstructured) error {
	l, err := read(u)
	if err != nil {
		// Garbage collection knows the owner: with the Lease all else goes, in any order.
		d.Log.Warnf("%v: its objects end in any order", err)
		return d.removeLease(ctx, l)
	}
	var failed error
	if l.State != StateClaimed { // otherwise there is nothing to undo
		failed = d.runLast(ctx, l)
	}
	for _, items := range slices.Backward(l.phases()) {
		if ctx.Err() != nil {
			break
		}
		if err := d.endPhase(ctx, l, items); err != nil {
			failed = cmp.Or(failed, err)
		}
	}
	failed = cmp.Or(failed, ctx.Err())
	if failed != nil {
		return fmt.Errorf("%s: %w", l.Set, first(failed))
	}
	return d.removeLease(ctx, l)
}

// runLast makes the objects that are for the end, waits for them, and removes them again.
// Where one has failed in an earlier attempt it is made again, up to lastTries times:
// reconcile comes every minute.
func (d *Driver) runLast(ctx context.Context, l *lease) error {
	tries, _ := strconv.Atoi(l.GetAnnotations()[annotationLastTries])
	if tries >= lastTries {
		d.Log.Errorf("%s: what it has for the end failed %d times and is given up", l.Set, tries)
		return nil
	}
	items, err := d.inventory(ctx, l.Set, l.Last)
	if err != nil || len(items) == 0 {
		return err
	}
	running, cancel := context.WithTimeout(ctx, l.DeleteTimeout)
	defer cancel()
	how, failed := d.phases(running, l, l.Last, items, d.maker(l, true))
	if failed != nil && running.Err() != nil {
		failed = &LateError{Bundle: l.Set.String(), Text: how, Err: running.Err()}
	}
	for _, items := range slices.Backward(byPhase(items)) {
		if err := d.endPhase(ctx, l, items); err != nil {
			failed = cmp.Or(failed, err)
		}
	}
	if failed != nil {
		if ctx.Err() == nil { // else it was interrupted
			if err := d.note(ctx, l, map[string]any{annotationLastTries: strconv.Itoa(tries + 1)}); err != nil {
				d.Log.Warn(err)
			}
		}
		return failed
	}
	return d.note(ctx, l, map[string]any{annotationLast: lastDone}) // an attempt that comes after this one has less to do
}

// lastTries is how often the objects for the end of a bundle may fail.
const lastTries = 5

func (d *Driver) removeLease(ctx context.Context, l *lease) error {
	leases := d.leases(l.Namespace)
	err := stubbornly(ctx, leases, leases.Delete, l.GetName(), l.GetUID())
	if err == nil {
		d.Log.Infof("%s: removed from namespace %s", l.Set, l.Namespace)
	}
	return err
}

// endPhase removes the objects of one phase at once.
func (d *Driver) endPhase(ctx context.Context, l *lease, items []item) error {
	ending, cancel := context.WithTimeout(ctx, l.DeleteTimeout)
	defer cancel()
	return each(len(items), func(n int) error {
		err := d.endObject(ending, l, items[n])
		if err != nil && ending.Err() != nil && ctx.Err() == nil { // the phase's time is over, and not the hook's
			return fmt.Errorf("%s is deleted but not gone yet%s", d.name(l, items[n]), d.held(ctx, l, items[n]))
		}
		return err
	})
}

// endObject removes an object if it is this bundle's. An absent one is done.
func (d *Driver) endObject(ctx context.Context, l *lease, i item) error {
	found, err := d.objects(l, i).Get(ctx, i.Name)
	if kube.Is(err, kube.Unserved) || err == nil && found == nil {
		return nil // the kind is gone, and the objects with it
	}
	if err != nil {
		return err
	}
	if !d.belongs(l, found) || !l.owns(found) && len(found.GetOwnerReferences()) > 0 { // of a later run
		d.Log.Warnf("%s is not of this bundle any more: it was left alone", d.name(l, i))
		return nil
	}
	if i.Group == argoGroup && i.Kind == "Workflow" {
		d.terminate(ctx, l, i, found)
	}
	return d.remove(ctx, l, i, found)
}

// belongs tells whether an object is of the bundle of a Lease, whichever job this driver
// is for: reconcile ends those of others.
func (d *Driver) belongs(l *lease, u *unstructured.Unstructured) bool {
	of, ours := d.of(u)
	owner, _ := d.of(l.Unstructured)
	return ours && of.ID == owner.ID && u.GetLabels()[job.LabelBundle] == l.Instance
}

// held says what keeps an object that does not end, as far as can be seen in a second.
func (d *Driver) held(ctx context.Context, l *lease, i item) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := d.objects(l, i).Get(ctx, i.Name)
	if err != nil || found == nil {
		return ""
	}
	if node, _, _ := unstructured.NestedString(found.Object, "spec", "nodeName"); i.Kind == "Pod" && node != "" {
		return fmt.Sprintf(": it is on node %s (is its kubelet running?)", node)
	}
	if finalizers := found.GetFinalizers(); len(finalizers) > 0 {
		return ": finalizer " + strings.Join(finalizers, ", ")
	}
	return ""
}

const (
	argoGroup = "argoproj.io"
	// argoPatience is how long a Workflow that is terminated may take to stop its pods.
	argoPatience = 15 * time.Second
)

// terminate stops a Workflow that runs, so that its exit handlers are not begun by its
// deletion. Best effort: it is deleted in any case.
func (d *Driver) terminate(ctx context.Context, l *lease, i item, u *unstructured.Unstructured) {
	if phase := argoPhase(u); phase == "" || argoOver(phase) {
		return
	}
	changed, err := d.objects(l, i).Patch(ctx, i.Name, []byte(fmt.Sprintf(`{"metadata":{"uid":%q},"spec":{"shutdown":"Terminate"}}`, u.GetUID())))
	if err != nil {
		d.Log.Warn(err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, argoPatience)
	defer cancel()
	changes := d.objects(l, i).Watch(kube.Selection{Fields: "metadata.name=" + i.Name}, changed.GetResourceVersion())
	defer changes.Stop()
	for {
		change, err := changes.Next(ctx)
		switch {
		case err != nil, change.Gone:
			return
		case change.Object != nil && argoOver(argoPhase(change.Object)):
			return
		case change.Listed && (len(change.All) == 0 || argoOver(argoPhase(&change.All[0]))):
			return
		}
	}
}
