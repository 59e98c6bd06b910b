package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Bring makes the objects of a set, phase after phase, and returns when the last one is
// ready. timeout is for all phases, counted from the first attempt of this run; ctx may end
// one attempt earlier, and the next goes on from there. The error is a *FailedError if
// the bundle cannot become ready, a *LateError if it was not in time, and then the Lease
// says so: a bundle that has failed in this run is not tried again before Claim.
func (d *Driver) Bring(ctx context.Context, set Set, timeout time.Duration) error {
	l, err := d.claim(ctx, set, false)
	if err != nil || l.State == StateReady {
		return err
	}
	if l.State == StateFailed {
		return l.failure()
	}
	if l.State == StateClaimed {
		if err := d.note(ctx, l, map[string]any{annotationState: string(StateStaging), annotationBegun: stamp()}); err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
	}
	until := l.begun().Add(timeout)
	attempt, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	begin := time.Now()
	items, old := l.old()
	at, err := d.phases(attempt, l, set.Phases, items, d.maker(l, false))
	if err == nil {
		if err = d.prune(attempt, l, old); err != nil && attempt.Err() == nil {
			d.Log.Warnf("%v: the end of the job removes it", err)
			old, err = nil, nil
		}
		at = "removing what the bundle has no more"
	}
	if err == nil {
		notes := map[string]any{annotationState: string(StateReady), annotationNoRoom: nil, annotationChanged: nil}
		if len(old) > 0 {
			if notes[annotationInventory], err = inventoryOf(items); err != nil {
				return err
			}
		}
		if err := d.note(ctx, l, notes); err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
		d.Log.WithField("ms", time.Since(begin).Milliseconds()).Infof("%s: ready", set)
		return nil
	}
	if attempt.Err() != nil {
		late := &LateError{Bundle: set.String(), Text: at, Final: !time.Now().Before(until), Err: attempt.Err()}
		if !late.Final {
			return late // the next attempt goes on
		}
		err = late
	}
	d.noteFailure(ctx, l, err)
	return err
}

// prune removes objects that a bundle has no more.
func (d *Driver) prune(ctx context.Context, l *lease, old []item) error {
	for _, phase := range slices.Backward(byPhase(old)) {
		if err := d.endPhase(ctx, l, phase); err != nil {
			return fmt.Errorf("%s: %w", l.Set, first(err))
		}
	}
	return nil
}

// noteFailure keeps the reason where status and later hooks find it, unless another
// attempt may do better.
func (d *Driver) noteFailure(ctx context.Context, l *lease, cause error) {
	var final *FailedError
	var late *LateError
	if !errors.As(cause, &final) && !errors.As(cause, &late) && wire.CodeOf(cause) != wire.Refused {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second/2)
	defer cancel()
	reason := strings.TrimPrefix(cause.Error(), l.Set.String()+": ")
	err := d.note(ctx, l, map[string]any{annotationState: string(StateFailed), annotationReason: wire.Line(reason)})
	if err != nil {
		d.Log.Warn(err)
	}
}

// failure is why a bundle failed, as noteFailure has noted it.
func (l *lease) failure() error {
	return &FailedError{Bundle: l.Set.String(), Text: l.GetAnnotations()[annotationReason]}
}

// making is how an object comes to be there.
type making func(ctx context.Context, i item, u *unstructured.Unstructured) error

// maker is that of a job's bundle, when it begins or atEnd.
func (d *Driver) maker(l *lease, atEnd bool) making {
	return func(ctx context.Context, i item, u *unstructured.Unstructured) error {
		return d.make(ctx, l, i, u, atEnd)
	}
}

// phases makes one phase after another. at says how far it came, if it did not come through.
func (d *Driver) phases(ctx context.Context, l *lease, phases []bundle.Phase, items []item, make making) (at string, err error) {
	for n, p := range phases {
		these := items[:len(p.Objects)]
		items = items[len(p.Objects):]
		at = fmt.Sprintf("phase %s (%d of %d)", p.Name, n+1, len(phases))
		if err := first(each(len(these), func(n int) error { return make(ctx, these[n], p.Objects[n]) })); err != nil {
			return join(at, err.Error()), err
		}
		how, err := d.await(ctx, l, these)
		if err != nil {
			return join(at, how), err
		}
	}
	return "", nil
}

// Ready looks once whether the bundle is still all there and ready, but for what was not
// waited for and what may be cleaned up once it has done its work. The error is a
// *FailedError if it is not.
func (d *Driver) Ready(ctx context.Context, set Set) error {
	found, err := d.leases(set.Namespace).Get(ctx, LeaseName(d.Job, set.Instance))
	if err != nil {
		return err
	}
	if found == nil {
		return &FailedError{Bundle: set.String(), Text: "its Lease is gone: somebody removed it"}
	}
	l, err := read(found)
	if err != nil {
		return &FailedError{Bundle: set.String(), Text: err.Error(), Err: err}
	}
	if l.State == StateFailed {
		return l.failure()
	}
	items, _ := l.old()
	return first(each(len(items), func(n int) error {
		i := items[n]
		if i.Wait == bundle.WaitNone {
			return nil
		}
		u, err := d.objects(l, i).Get(ctx, i.Name)
		if err != nil {
			return err
		}
		if l.State == StateReady && i.known().ends && (u == nil || u.GetDeletionTimestamp() != nil) {
			return nil
		}
		if p := readiness(u, i.Wait); p.verdict != ready {
			return &FailedError{Bundle: set.String(), Text: join(d.name(l, i), p.text)}
		}
		return nil
	}))
}

// Instances are the bundles that the job has in a namespace, by their Leases.
func (d *Driver) Instances(ctx context.Context, namespace string) ([]Progress, error) {
	found, err := d.leases(namespace).List(ctx, kube.Selection{Labels: d.Job.BundleSelector()})
	if err != nil {
		return nil, err
	}
	var all []Progress
	for n := range found {
		l, err := read(&found[n])
		if _, ours := d.of(&found[n]); ours && err == nil && len(l.Items) > 0 {
			all = append(all, d.progress(ctx, l))
		}
	}
	return all, nil
}

// Progress is how far a bundle is.
type Progress struct {
	Set
	State
	Phase  string // the first that is not ready; "" if all are
	N, Of  int    // its number, from 1, and how many there are
	Ready  int    // objects of it that are ready
	All    int    // objects of it
	Reason string
	UID    uint32 // of the job's user
}

// progress looks at the objects of the first phase that is not ready.
func (d *Driver) progress(ctx context.Context, l *lease) Progress {
	items, _ := l.old()
	phases := byPhase(items)
	of, _ := d.of(l.Unstructured)
	p := Progress{UID: of.UID, Set: l.Set, State: l.State, Of: len(phases), Reason: l.GetAnnotations()[annotationReason]}
	if l.State == StateReady {
		p.N = p.Of
		return p
	}
	for n, items := range phases {
		p.Phase, p.N, p.Ready, p.All = items[0].Phase, n+1, 0, len(items)
		v, err := d.look(ctx, l, items)
		if err != nil {
			p.Reason = err.Error()
			return p
		}
		var waits []string
		for _, i := range items {
			how := v.of(i, time.Now())
			if how.verdict == ready {
				p.Ready++
				continue
			}
			text := i.text(how)
			if full := l.GetAnnotations()[annotationNoRoom]; v.known[i.gvr()][i.Name] == nil && strings.HasPrefix(full, i.text(progress{})+": ") {
				text = full
			}
			waits = append(waits, text)
		}
		if p.Ready < p.All {
			p.Reason = cmp.Or(p.Reason, strings.Join(waits, "; "))
			return p
		}
	}
	return p
}

// look reads the objects of a phase as they are now, and those that say why they wait.
func (d *Driver) look(ctx context.Context, l *lease, items []item) (view, error) {
	found := make([]*unstructured.Unstructured, len(items))
	v := view{known: map[schema.GroupVersionResource]map[string]*unstructured.Unstructured{}}
	err := each(len(items), func(n int) (err error) {
		found[n], err = d.objects(l, items[n]).Get(ctx, items[n].Name)
		return err
	})
	if err != nil {
		return v, first(err)
	}
	var more []schema.GroupVersionResource
	for n, i := range items {
		if v.known[i.gvr()] == nil {
			v.known[i.gvr()] = map[string]*unstructured.Unstructured{}
		}
		if found[n] == nil {
			continue
		}
		v.known[i.gvr()][i.Name] = found[n]
		if by, needed := i.judgedBy(); needed && v.of(i, time.Now()).verdict != ready && !slices.Contains(more, by) {
			more = append(more, by)
		}
	}
	listed := make([][]unstructured.Unstructured, len(more))
	err = each(len(more), func(n int) (err error) {
		listed[n], err = d.Kube.Objects(more[n], l.Namespace).List(ctx, kube.Selection{Labels: d.selector(l)})
		if more[n] == podsGVR && kube.Is(err, kube.Denied) { // they are only looked at for their reason
			return nil
		}
		return err
	})
	for n, gvr := range more {
		of := v.known[gvr]
		if of == nil {
			of = map[string]*unstructured.Unstructured{}
			v.known[gvr] = of
		}
		for i := range listed[n] {
			of[listed[n][i].GetName()] = &listed[n][i]
		}
	}
	return v, first(err)
}
