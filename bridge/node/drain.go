package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Terms say how the pods of a node are evicted.
type Terms struct {
	Grace   time.Duration // the longest grace period
	Timeout time.Duration // how long disruption budgets are waited for
	Policy  string        // then: slurmconf.EvictDelete, EvictFail or EvictIgnore
}

// Outcome says what happened to a node's pods.
type Outcome struct {
	Evicted int // pods that left
	Kept    int // pods that by their kind are not asked to
	Ignored int // pods that run beside the job: they did not leave in time
}

// StuckError is a node that does not become empty. Kubernetes did not fail, and a retry
// helps only after somebody has changed something.
type StuckError struct {
	Reason string
	Node   string // Slurm's name of it, of several nodes that are taken at once
	// Policy is set when it was the job's or the administrator's word to fail then.
	Policy bool
}

func (e *StuckError) Error() string { return e.Reason }

// FailsJob reports whether an error fails the job regardless of on_error: the mistake is
// the job's own, or its policy for pods that do not leave is to fail.
func FailsJob(err error) bool {
	var refused *job.Refused
	var stuck *StuckError
	return errors.As(err, &refused) || errors.As(err, &stuck) && stuck.Policy
}

// StaysOccupied reports whether the node will be as little free at the job's next try: a pod
// is there that nobody may evict.
func StaysOccupied(err error) bool {
	var stuck *StuckError
	return errors.As(err, &stuck) && !stuck.Policy
}

// EndMargin is how long a pod may take to go after its grace period, while the kubelet
// kills it and unmounts its volumes.
const EndMargin = 15 * time.Second

// eventDelay is how long the Event of an evicted pod waits at most for the evictions of the others
// to be answered: a person may be looking for it.
const eventDelay = time.Second

// Empty evicts the pods of a closed node and returns when they are gone, or when the
// policy says so. The node must have been closed since closedAt.
func (b *Driver) Empty(ctx context.Context, name string, h Claim, terms Terms, closedAt time.Time) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &drain{
		b: b, node: name, terms: terms, begun: time.Now(), events: b.events(name, h),
		victims: map[types.UID]*victim{}, kept: map[types.UID]bool{}, results: make(chan result), telling: make(chan struct{}, 1),
	}
	defer d.group.Wait()
	defer cancel()
	d.group.Go(func() { _ = safely.Do(func() error { d.events.taken(ctx); return nil }) })
	return d.run(ctx, closedAt)
}

// drain is one node that is being emptied. One goroutine, run, has its state.
type drain struct {
	b       *Driver
	node    string
	terms   Terms
	events  *events
	listed  bool
	victims map[types.UID]*victim
	kept    map[types.UID]bool
	evicted int
	results chan result
	untold  []pod         // evicted, and without an Event yet
	telling chan struct{} // has place for who creates an Event of a pod
	begun   time.Time
	forced  bool // the policy "delete" is at work
	ending  bool // only pods that are on their way are waited for
	group   sync.WaitGroup
}

// victim is a pod that has to leave.
type victim struct {
	pod
	stop    context.CancelFunc // of the request that is running for it
	granted bool               // it is on its way
	// problem is why it is not, as far as is known: the request may be running still.
	problem atomic.Pointer[error]
}

// result is how the request for a pod ended.
type result struct {
	pod pod
	err error
}

func (d *drain) run(ctx context.Context, closedAt time.Time) (Outcome, error) {
	changes := d.b.follow(ctx, d.node)
	settled := time.NewTimer(time.Until(closedAt.Add(d.b.Cfg.Settle.Std())))
	defer settled.Stop()
	deadline := time.NewTimer(d.patience(ctx))
	defer deadline.Stop()
	defer d.tellAll(ctx)
	late := time.NewTimer(eventDelay)
	late.Stop()
	defer late.Stop()
	isSettled := false
	for {
		if isSettled && d.listed && len(d.victims) == 0 {
			return d.outcome(), nil
		}
		select {
		case n, ok := <-changes:
			if !ok {
				return d.late(ctx, ctx.Err())
			}
			if n.err != nil {
				return d.late(ctx, n.err)
			}
			if err := d.take(ctx, n); err != nil {
				return d.outcome(), err
			}
		case r := <-d.results:
			if r.err == nil {
				if len(d.untold) == 0 {
					late.Reset(eventDelay)
				}
				d.untold = append(d.untold, r.pod)
			}
			if err := d.answered(ctx, r); err != nil {
				return d.outcome(), err
			}
			if !d.asking() {
				d.tellAll(ctx)
			}
		case <-late.C:
			d.tellAll(ctx)
		case <-settled.C:
			isSettled = true
		case <-deadline.C:
			more := d.more(ctx)
			if more <= 0 {
				return d.giveUp(ctx)
			}
			deadline.Reset(more)
		case <-ctx.Done():
			return d.late(ctx, ctx.Err())
		}
	}
}

// patience is how long evictions are tried. The policy "delete" needs time of its own
// before the caller's.
func (d *drain) patience(ctx context.Context) time.Duration {
	end, bounded := ctx.Deadline()
	if !bounded {
		return d.terms.Timeout
	}
	left := time.Until(end)
	if d.terms.Policy == slurmconf.EvictDelete {
		left -= min(d.terms.Grace+EndMargin, left/2)
	}
	return min(d.terms.Timeout, max(left, 0))
}

func (d *drain) outcome() Outcome { return Outcome{Evicted: d.evicted, Kept: len(d.kept)} }

// take notes what is told of the pods.
func (d *drain) take(ctx context.Context, n news) error {
	if !n.isAll {
		if n.gone {
			d.gone(n.one.UID)
			return nil
		}
		return d.seen(ctx, n.one)
	}
	here := map[types.UID]bool{}
	for _, p := range n.all {
		here[p.UID] = true
	}
	for uid := range d.victims {
		if !here[uid] {
			d.gone(uid)
		}
	}
	if !d.listed { // nothing is evicted for a job that cannot have the node
		for _, p := range n.all {
			if p.fate(d.b.Cfg) == slurmconf.PodFail {
				return d.refuse(p)
			}
		}
	}
	for _, p := range n.all {
		if err := d.seen(ctx, p); err != nil {
			return err
		}
	}
	d.listed = true
	return nil
}

func (d *drain) refuse(p pod) error {
	did := "nothing was evicted; "
	if d.listed {
		did = ""
	}
	why := map[kind]struct{ is, key string }{
		tolerating: {"tolerates a closed node", "tolerating"},
		unmanaged:  {"has no controller", "unmanaged"},
		emptyDir:   {"has an emptyDir volume", "emptydir"},
	}[p.kind]
	return &StuckError{Reason: fmt.Sprintf("%s %s: %sdelete it, or set nodes.%s", p, why.is, did, why.key)}
}

func (d *drain) gone(uid types.UID) {
	delete(d.kept, uid)
	if v := d.victims[uid]; v != nil {
		v.stop()
		delete(d.victims, uid)
		d.evicted++
	}
}

// seen deals with a pod that is on the node.
func (d *drain) seen(ctx context.Context, p pod) error {
	v := d.victims[p.UID]
	fate := p.fate(d.b.Cfg)
	if p.kind == daemonSet && d.listed && v == nil {
		fate = slurmconf.PodKeep // it came back, and would again
	}
	switch {
	case fate == slurmconf.PodKeep:
		if v != nil { // it finished by itself
			d.gone(p.UID)
		}
		d.kept[p.UID] = true
	case fate == slurmconf.PodFail && v == nil:
		return d.refuse(p)
	case v != nil:
		v.terminating = p.terminating
	default:
		v = &victim{pod: p, stop: func() {}}
		d.victims[p.UID] = v
		switch {
		case p.terminating && p.grace <= d.terms.Grace:
			v.granted = true // somebody else has sent it, and soon enough
		case d.forced:
			d.send(ctx, v, d.b.remove)
		default:
			d.send(ctx, v, d.b.evict)
		}
	}
	return nil
}

// send runs a request for a pod beside the others.
func (d *drain) send(ctx context.Context, v *victim, request func(context.Context, pod, time.Duration, func(error)) error) {
	life, stop := context.WithCancel(ctx)
	v.stop = stop
	p := v.pod
	d.group.Go(func() {
		err := safely.Do(func() error {
			return request(life, p, d.terms.Grace, func(err error) { v.problem.Store(&err) })
		})
		if err != nil && life.Err() != nil {
			return // it was stopped
		}
		select {
		case d.results <- result{p, err}:
		case <-ctx.Done():
			if err == nil {
				_ = safely.Do(func() error { d.tell(ctx, p); return nil })
			}
		}
	})
}

// asking tells whether Kubernetes has not answered yet for one of the pods.
func (d *drain) asking() bool {
	for _, v := range d.victims {
		if !v.granted && v.problem.Load() == nil {
			return true
		}
	}
	return false
}

// tellAll creates the Events of the pods that were evicted. Evictions go first: an API server that
// many nodes ask at once would have them wait for Events.
func (d *drain) tellAll(ctx context.Context) {
	for _, p := range d.untold {
		d.group.Go(func() { _ = safely.Do(func() error { d.tell(ctx, p); return nil }) })
	}
	d.untold = nil
}

// tell creates a pod's Event. While pods are ending there is time for one Event after the other,
// and what is left at the end goes at once.
func (d *drain) tell(ctx context.Context, p pod) {
	select {
	case d.telling <- struct{}{}:
		defer func() { <-d.telling }()
	case <-ctx.Done():
	}
	d.events.evicted(ctx, p)
}

// answered notes how a request ended. That Kubernetes does not let us evict at all is
// an error for the whole node.
func (d *drain) answered(ctx context.Context, r result) error {
	v := d.victims[r.pod.UID]
	if v == nil {
		return nil
	}
	v.granted = r.err == nil
	switch {
	case v.granted:
		return nil
	case kube.Is(r.err, kube.Denied), kube.Is(r.err, kube.Unauthorized):
		return r.err
	case d.forced || d.terms.Policy == slurmconf.EvictIgnore:
		return nil // until the deadline: others may still leave
	case d.terms.Policy == slurmconf.EvictDelete:
		d.send(ctx, v, d.b.remove)
		return nil
	}
	return &StuckError{Reason: r.err.Error(), Policy: true}
}

// more is how much longer to wait when the time for disruption budgets is over: pods
// that are on their way have their grace period before them, and so have those that
// the policy "delete" ends now. 0: no longer.
func (d *drain) more(ctx context.Context) time.Duration {
	if d.ending || !d.listed {
		return 0
	}
	d.forced = d.terms.Policy == slurmconf.EvictDelete
	longest := time.Duration(0)
	for _, v := range d.victims {
		longest = max(longest, min(v.grace, d.terms.Grace))
		switch {
		case v.granted:
		case !d.forced:
			return 0
		default:
			d.b.Log.Warnf("node %s: %s did not leave within %s: deleting it", d.node, v.pod, d.terms.Timeout)
			v.stop()
			d.send(ctx, v, d.b.remove)
		}
	}
	d.ending = true
	return longest + EndMargin
}

// giveUp is the end of the time.
func (d *drain) giveUp(ctx context.Context) (Outcome, error) {
	outcome := d.outcome()
	if !d.listed {
		return outcome, errors.New("listing its pods took too long")
	}
	if d.terms.Policy == slurmconf.EvictIgnore {
		outcome.Ignored = len(d.victims)
		d.b.Log.Warn(d.remaining())
		return outcome, nil
	}
	if err := d.answers(ctx); err != nil {
		return outcome, err
	}
	return outcome, &StuckError{Reason: d.remaining(), Policy: true}
}

// answers asks whether Kubernetes is there: pods that stay because it is away are not the
// job's failure.
func (d *drain) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	_, err := d.b.nodes().Get(ctx, d.node)
	return err
}

// answerTimeout has its place in what the hook leaves of its time for the rest.
const answerTimeout = time.Second

// remaining says which pods are still there, and why.
func (d *drain) remaining() string {
	left := make([]*victim, 0, len(d.victims))
	for _, v := range d.victims {
		left = append(left, v)
	}
	slices.SortFunc(left, func(a, b *victim) int { return cmp.Compare(a.String(), b.String()) })
	const shown = 3
	var words []string
	for _, v := range left[:min(shown, len(left))] {
		problem := v.problem.Load()
		switch {
		case v.granted:
			words = append(words, v.String()+" is still terminating")
		case problem != nil:
			words = append(words, (*problem).Error())
		default:
			words = append(words, v.String()+" does not leave")
		}
	}
	if len(left) > shown {
		words = append(words, fmt.Sprintf("and %d more", len(left)-shown))
	}
	return fmt.Sprintf("%s still there after %s: %s", count(len(left)), time.Since(d.begun).Round(time.Second), strings.Join(words, "; "))
}

// late ends the wait because of the caller's time, or because Kubernetes does not tell
// what becomes of the pods.
func (d *drain) late(ctx context.Context, err error) (Outcome, error) {
	if d.listed && errors.Is(err, context.DeadlineExceeded) {
		return d.giveUp(ctx)
	}
	return d.outcome(), err
}

func count(pods int) string {
	if pods == 1 {
		return "1 pod is"
	}
	return fmt.Sprintf("%d pods are", pods)
}
