package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// deleting is the answer that the API server gives to a create while an object of
// that name is on its way out.
func deleting(object string) error {
	return apierrors.NewAlreadyExists(Services.GroupResource(), object+" is being deleted")
}

// Ready opens a service to traffic, at each of its addresses.
func (r *Registrar) Ready(ctx context.Context, reg *Registration) error {
	all := map[netip.Addr]bool{}
	for _, at := range reg.addresses {
		all[at] = true
	}
	return r.become(ctx, reg, Ready, all)
}

// NotReady closes it to traffic until it is Ready again.
func (r *Registrar) NotReady(ctx context.Context, reg *Registration) error {
	return r.become(ctx, reg, NotReady, nil)
}

// Terminating closes it to new connections.
func (r *Registrar) Terminating(ctx context.Context, reg *Registration) error {
	return r.become(ctx, reg, Terminating, reg.answers)
}

// Answers opens one address of the service to traffic, or closes it. The service is ready
// when it answers at the first one; the other one is open only while it answers there too.
func (r *Registrar) Answers(ctx context.Context, reg *Registration, at netip.Addr, ready bool) error {
	answers := maps.Clone(reg.answers)
	if answers == nil {
		answers = map[netip.Addr]bool{}
	}
	answers[at] = ready
	c := NotReady
	if answers[r.Addresses(reg)[0]] {
		c = Ready
	}
	return r.become(ctx, reg, c, answers)
}

// Addresses are those of this node that the Service leads to, or the preferred one if it
// leads to none. The first one decides whether the service is ready.
func (r *Registrar) Addresses(reg *Registration) []netip.Addr {
	if len(reg.addresses) == 0 {
		return []netip.Addr{r.Address}
	}
	return slices.Clone(reg.addresses)
}

// conditionAt is the condition of one address.
func (reg *Registration) conditionAt(at netip.Addr) Condition {
	if reg.answers[at] {
		return reg.condition
	}
	return NotReady
}

// become publishes another condition, or one of other addresses; on an error all is as
// before.
func (r *Registrar) become(ctx context.Context, reg *Registration, c Condition, answers map[netip.Addr]bool) error {
	if reg.condition == Terminating {
		return nil
	}
	before := *reg
	reg.condition, reg.answers = c, answers
	same := func(at netip.Addr) bool { return reg.conditionAt(at) == before.conditionAt(at) }
	if c == before.condition && !slices.ContainsFunc(reg.addresses, func(at netip.Addr) bool { return !same(at) }) {
		return nil
	}
	if reg.Shared || reg.Internal() || reg.lost || reg.owner == nil {
		return nil
	}
	if err := r.publish(ctx, r.api(), reg); err != nil {
		reg.condition, reg.answers = before.condition, before.answers
		return err
	}
	if c != before.condition {
		r.became(reg, before.condition)
	}
	return nil
}

// Renew renews the job's Leases, restores what somebody took away meanwhile, and takes
// over the shared services whose holder is gone. Of several steps and nodes of a job only
// one writes a Lease in each half of interval.
func (r *Registrar) Renew(ctx context.Context, regs []*Registration, interval time.Duration) error {
	var failed []error
	for _, namespace := range namespaces(regs) {
		failed = append(failed, r.renew(ctx, namespace, regs, interval))
	}
	for _, reg := range regs {
		if reg.Shared && !reg.lost {
			failed = append(failed, r.inherit(ctx, reg))
		}
	}
	return errors.Join(failed...)
}

func (r *Registrar) renew(ctx context.Context, namespace string, regs []*Registration, interval time.Duration) error {
	lease, err := job.GetLease(ctx, r.Kube, namespace, r.Job)
	if err != nil {
		return err
	}
	at, fresh := job.Renewed(lease, r.Job, time.Now())
	var owner map[string]any
	if fresh && time.Since(at) < interval/2 {
		owner = job.OwnerReference(lease.GetName(), lease.GetUID())
	} else if owner, err = r.keeper().Apply(ctx, namespace); err != nil {
		return err
	}
	var failed []error
	for _, reg := range regs {
		if reg.Namespace != namespace || reg.Shared || reg.lost {
			continue
		}
		if err := r.restore(ctx, reg, owner); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// restore makes again what is missing of a service. If somebody else has its name
// by now, this node's endpoint is withdrawn: it would answer in their name.
func (r *Registrar) restore(ctx context.Context, reg *Registration, owner map[string]any) error {
	p, err := r.judge(ctx, reg.Spec)
	var taken *ConflictError
	if errors.As(err, &taken) {
		r.Log.Errorf("lost: %v", err)
		reg.lost = true
		return r.withdraw(ctx, reg)
	}
	if err != nil {
		return err
	}
	if p.shared && !reg.AllNodes {
		r.Log.Warnf("%s: step %s of this job took it over", reg.Object(), p.holder.Step)
		reg.share(p.holder)
		return nil
	}
	joined := !reg.Array || p.found != nil && ownedBy(p.found, owner)
	if (p.mine || p.shared) && p.found != nil && reg.owner["uid"] == owner["uid"] && joined {
		missing, err := r.missing(ctx, reg)
		if err != nil || missing == "" {
			return err
		}
		r.Log.Warnf("%s: somebody removed %s: restoring it", reg.Object(), missing)
		if err := r.publish(ctx, r.users(), reg); err != nil {
			return err
		}
		r.tell(reg, kube.EventWarning, eventRestored, "somebody removed %s: %s restored it", missing, r.job())
		return nil
	}
	r.Log.Warnf("%s: somebody removed it or its lease: restoring it", reg.Object())
	reg.owner = owner
	if err := r.make(ctx, reg, p); err != nil || reg.Shared {
		return err
	}
	r.tell(reg, kube.EventWarning, eventRestored, "somebody removed it or its Lease: %s restored it", r.job())
	return nil
}

// missing names the endpoint of this node that is not there; "" if all is.
func (r *Registrar) missing(ctx context.Context, reg *Registration) (string, error) {
	if reg.Internal() {
		return "", nil
	}
	for _, address := range reg.addresses {
		name := r.maker().sliceName(reg.Spec, address)
		found, err := r.api().get(ctx, EndpointSlices, reg.Namespace, name)
		if err != nil {
			return "", err
		}
		if found == nil {
			return "EndpointSlice " + name, nil
		}
	}
	if !reg.Endpoints {
		return "", nil
	}
	found, err := r.api().get(ctx, Endpoints, reg.Namespace, reg.Name)
	if err != nil || found != nil {
		return "", err
	}
	return "Endpoints " + reg.Name, nil
}

// inherit takes a shared service over if its holder is gone. A holder on this node is
// known by its program, without a request. One on another node counts as gone when it
// has removed its Service, or when nobody renews the job's Lease any more: a step that
// only shares does not.
func (r *Registrar) inherit(ctx context.Context, reg *Registration) error {
	if reg.Holder.Node == r.Node {
		if alive, err := r.Alive(ctx, reg.Holder); err != nil || alive {
			return err
		}
	}
	p, err := r.judge(ctx, reg.Spec)
	var taken *ConflictError
	if errors.As(err, &taken) {
		r.Log.Errorf("lost: %v", err)
		reg.lost = true
		return nil
	}
	if err != nil {
		return err
	}
	if p.shared && !reg.AllNodes {
		reg.share(p.holder)
		return nil
	}
	if reg.owner, err = r.keeper().Apply(ctx, reg.Namespace); err != nil {
		return err
	}
	before := reg.Holder
	reg.Shared = false // what is known of its answers still counts: this step goes on asking
	if err := r.make(ctx, reg, p); err != nil {
		reg.share(before)
		return err
	}
	switch {
	case reg.Shared:
	case before.Step == "":
		r.Announce([]*Registration{reg})
	default:
		r.tell(reg, kube.EventNormal, eventTakenOver, "step %s, which is over, left it to step %s of %s", before.Step, r.Step, r.job())
	}
	return nil
}

// Adopt returns the registrations that an earlier process made for the same step,
// for Deregister.
func (r *Registrar) Adopt(ctx context.Context, specs []Spec) ([]*Registration, error) {
	owners := map[string]map[string]any{}
	var regs []*Registration
	for _, s := range specs {
		if owners[s.Namespace] == nil {
			lease, err := job.GetLease(ctx, r.Kube, s.Namespace, r.Job)
			if err != nil {
				return nil, err
			}
			if lease == nil {
				continue // nothing without it
			}
			owners[s.Namespace] = job.OwnerReference(lease.GetName(), lease.GetUID())
		}
		reg := &Registration{Spec: s, owner: owners[s.Namespace], answers: map[netip.Addr]bool{}}
		for _, address := range r.maker().addresses() {
			found, err := r.api().get(ctx, EndpointSlices, s.Namespace, r.maker().sliceName(s, address))
			if err != nil {
				return nil, err
			}
			if found != nil { // as far as one can tell: it is closed before it is removed
				reg.condition, reg.addresses = Ready, append(reg.addresses, address)
				reg.answers[address] = true
			}
		}
		regs = append(regs, reg)
	}
	return regs, nil
}

// Deregister takes the services away: first to terminating, then endpoint,
// Service and, if nothing else of the job is there, the Lease. What another step on
// this node shares is left to it, closed. What is not this step's any more stays.
func (r *Registrar) Deregister(ctx context.Context, regs []*Registration) error {
	failed := make([]error, len(regs))
	var group sync.WaitGroup
	for i, reg := range regs { // all at once: the end of a step has little time
		if reg.Shared || reg.lost || reg.owner == nil {
			continue
		}
		group.Go(func() { failed[i] = safely.Do(func() error { return r.deregister(ctx, reg) }) })
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		return err // the Lease stays, so that it is seen that something is left
	}
	for _, namespace := range namespaces(regs) {
		if err := r.api().releaseLease(ctx, namespace, r.Job); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// LeftBehind tells whether Deregister left a service to another step.
func LeftBehind(regs []*Registration) bool {
	return slices.ContainsFunc(regs, func(reg *Registration) bool { return reg.left })
}

func (r *Registrar) deregister(ctx context.Context, reg *Registration) error {
	if r.Wanted != nil && r.Wanted(reg.Spec) {
		r.Log.Infof("%s: left to another step of this job", reg.Object())
		reg.left = true
		return r.NotReady(ctx, reg)
	}
	// Best effort: what is about to be deleted need not be told so.
	if reg.condition == Ready {
		if err := r.Terminating(ctx, reg); err != nil {
			r.Log.Warn(err)
		}
	}
	if err := r.withdraw(ctx, reg); err != nil {
		return err
	}
	return whileConflicts(ctx, func() error { return r.removeService(ctx, reg) })
}

// withdraw deletes this node's endpoint.
func (r *Registrar) withdraw(ctx context.Context, reg *Registration) error {
	if reg.Internal() {
		return nil
	}
	for _, address := range r.maker().addresses() {
		if err := r.removeMine(ctx, EndpointSlices, reg.Namespace, r.maker().sliceName(reg.Spec, address)); err != nil {
			return err
		}
	}
	if !reg.Endpoints {
		return nil
	}
	return r.removeMine(ctx, Endpoints, reg.Namespace, reg.Name)
}

// removeService deletes the Service unless another node of the job, or another task of its
// array, still serves it.
func (r *Registrar) removeService(ctx context.Context, reg *Registration) error {
	found, err := r.api().get(ctx, Services, reg.Namespace, reg.Name)
	if err != nil || found == nil {
		return err
	}
	claim, ours := claimOf(found, r.Job.Cluster)
	mine := sameRun(claim.Job, r.Job) && (claim.Step == r.Step || reg.AllNodes)
	if reg.Array {
		mine = slices.Contains(tasksOf(found, r.Job.Cluster), r.Job.ID)
	}
	if !ours || !mine {
		return nil
	}
	if reg.AllNodes {
		selector := r.Job.Selector() + "," + labels.Set{labelServiceName: reg.Name}.String()
		others, err := r.api().list(ctx, EndpointSlices, reg.Namespace, selector)
		if err != nil || len(others) > 0 {
			return err
		}
	}
	if reg.Array {
		return r.api().leave(ctx, found, r.Job)
	}
	return r.api().remove(ctx, Services, found)
}

// namespaces are those in which something is this step's, in a fixed order.
func namespaces(regs []*Registration) []string {
	var names []string
	for _, reg := range regs {
		if !reg.Shared && reg.owner != nil && !slices.Contains(names, reg.Namespace) {
			names = append(names, reg.Namespace)
		}
	}
	slices.Sort(names)
	return names
}

// OfJob lists the Services of this run of the job, "NAMESPACE/NAME", whichever node and
// step made them, in the namespaces of this step's. It reads what the API server has at
// hand: another node's may be missing for some milliseconds.
func (r *Registrar) OfJob(ctx context.Context, regs []*Registration) ([]string, error) {
	var names []string
	for _, namespace := range namespaces(regs) {
		found, err := r.api().listCached(ctx, Services, namespace, r.Job.Selector())
		if err != nil {
			return nil, err
		}
		for i := range found {
			if job, ours := job.Of(&found[i], r.Job.Cluster); ours && sameRun(job, r.Job) {
				names = append(names, namespace+"/"+found[i].GetName())
			}
		}
	}
	return names, nil
}

// Summary is one line about what a step has registered, for the log.
func Summary(regs []*Registration) string {
	text := ""
	for _, reg := range regs {
		state := reg.condition.String()
		if reg.Shared {
			state = "of another step"
		}
		text += fmt.Sprintf(" %s/%s (%s)", reg.Namespace, reg.Name, state)
	}
	return text
}
