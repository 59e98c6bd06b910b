package service

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Registrar makes the services of one step of a job on one node, and takes them
// away. Every method may be interrupted at any instant and called again.
type Registrar struct {
	Kube *kube.Client
	// As is the same API server with the user of the job impersonated; nil: nobody is.
	// It makes, takes over and restores the Service and makes and restores this node's
	// endpoint, so that RBAC judges that user about what is published. All else is Kube's:
	// reads; the Lease, which is the bridge's own book; and what must work also when the
	// user has lost the right meanwhile: ready and not ready, terminating, every delete.
	As      *kube.Client
	Job     job.Job
	Step    string // "batch", "interactive" or a number
	Node    string // in Slurm's words
	Address netip.Addr
	// Second is an address of the other family, for Services that have both; not valid: none.
	Second        netip.Addr
	secondAllowed bool // that admission takes it
	// Array is the array that the job is a task of, and Task its index there. Array is 0 if
	// the job is in none, or if no service asks for it and Slurm did not tell.
	Array, Task uint32
	// LeaseDuration is how long the job counts as alive without renewal; zero: the
	// Lease does not run out.
	LeaseDuration time.Duration
	// Alive tells whether the run of a job that has a name, and the step of it,
	// still lives. An error means that nobody knows: the name is left to it.
	Alive func(context.Context, Claim) (bool, error)
	// Holder is the step of the job on this node that has registered the very same service
	// and lives; "" if there is none. Nobody else is then asked about it; nil: there never is.
	Holder func(Spec) string
	// Wanted tells whether another step of the job on this node shares a service, and so
	// takes it over when this step ends; nil: none does.
	Wanted func(Spec) bool
	Events *kube.Events // nil: nothing is told
	Log    *logrus.Entry
}

// Registration is a service of this step.
type Registration struct {
	Spec
	// Shared: another step of the job has the very same service, and nothing of it
	// is this step's to change until that step is gone. Renew then takes it over.
	Shared bool
	// Holder is that other step; without a Step it is not known.
	Holder Claim

	condition Condition
	answers   map[netip.Addr]bool // of addresses: it answers there
	owner     map[string]any      // the ownerReference to the job's Lease
	lost      bool                // somebody else has the name by now
	left      bool                // to a step that shares it
	uid       types.UID           // of the Service
	addresses []netip.Addr        // of this node, that the Service can lead to
	leftBy    uint32              // the job whose Service it was before; 0: none
}

func (r *Registrar) api() api { return api{kube: r.Kube, log: r.Log} }

// users is api for what RBAC is to judge the user about.
func (r *Registrar) users() api { return api{kube: r.Kube, log: r.Log, as: r.As} }

func (r *Registrar) maker() maker {
	return maker{r.Job, r.Step, r.Node, r.Address, r.Second, r.Array, r.Task}
}

func (r *Registrar) keeper() *job.Keeper {
	return &job.Keeper{Kube: r.Kube, Job: r.Job, Duration: r.LeaseDuration, Log: r.Log}
}

// Register makes the services, none of them ready yet. All names are judged before
// anything is written. On an error what was made so far is returned, for
// Deregister.
func (r *Registrar) Register(ctx context.Context, specs []Spec) ([]*Registration, error) {
	plans := make([]plan, len(specs))
	for i, s := range specs {
		if step := r.holder(s); step != "" {
			plans[i] = plan{shared: true, here: true, holder: Claim{Job: r.Job, Step: step, Node: r.Node, Renewed: true}}
			continue
		}
		p, err := r.judge(ctx, s)
		if err != nil {
			return nil, err
		}
		plans[i] = p
		if p.shared && !s.AllNodes {
			continue
		}
		if err := r.mayHeadless(ctx, s); err != nil {
			return nil, noNamespace(err, s.Namespace)
		}
	}
	var made []*Registration
	owners := map[string]map[string]any{}
	for i, s := range specs {
		reg := &Registration{Spec: s}
		made = append(made, reg)
		if plans[i].shared && (plans[i].here || !s.AllNodes) {
			reg.share(plans[i].holder)
			continue
		}
		if owners[s.Namespace] == nil {
			// If its answer is lost, the Lease may be there: Deregister looks for it.
			reg.owner = job.OwnerReference(r.Job.LeaseName(), "")
			owner, err := r.keeper().Apply(ctx, s.Namespace)
			if err != nil {
				return made, noNamespace(err, s.Namespace)
			}
			owners[s.Namespace] = owner
		}
		reg.owner = owners[s.Namespace]
		if err := r.make(ctx, reg, plans[i]); err != nil {
			return made, noNamespace(err, s.Namespace)
		}
	}
	return made, nil
}

func (r *Registrar) holder(s Spec) string {
	if r.Holder == nil {
		return ""
	}
	return r.Holder(s)
}

// Postpone is Register for services that another step of the job has registered, on a node
// that is not known, while Kubernetes cannot be asked which one. Renew asks.
func (r *Registrar) Postpone(specs []Spec) []*Registration {
	regs := make([]*Registration, len(specs))
	for i, s := range specs {
		regs[i] = &Registration{Spec: s}
		regs[i].share(Claim{})
	}
	return regs
}

// noNamespace says so when it is the namespace that was not found: one can write
// into nothing else that is not there.
func noNamespace(err error, namespace string) error {
	if kube.Is(err, kube.NotFound) {
		return fmt.Errorf("namespace %q does not exist: %w", namespace, err)
	}
	return err
}

// make brings one service to what it should be, whatever is there.
func (r *Registrar) make(ctx context.Context, reg *Registration, p plan) error {
	if err := r.mayBoth(ctx, reg.Spec); err != nil {
		return err
	}
	pauses := contended()
	for {
		err := r.claim(ctx, reg, p)
		if err == nil {
			break
		}
		// Somebody was faster, or what was there is on its way out: look again.
		if !kube.Is(err, kube.Exists) && !kube.Is(err, kube.Conflict) {
			return err
		}
		if pauses.Wait(ctx) != nil {
			return err
		}
		if p, err = r.judge(ctx, reg.Spec); err != nil {
			return err
		}
		if p.shared && !reg.AllNodes {
			reg.share(p.holder)
			return nil
		}
	}
	if p.found != nil && !p.shared && !reg.Endpoints {
		// Of a job that is over: the address of a node that may be another's now. Who
		// took the Service over may have been killed before this.
		if err := r.removeStale(ctx, Endpoints, reg.Namespace, reg.Name); err != nil {
			return err
		}
	}
	if reg.Internal() {
		return nil
	}
	if err := r.clear(ctx, reg); err != nil || reg.Shared {
		return err
	}
	return r.publish(ctx, r.users(), reg)
}

// claim gets the Service. It is created, not applied: an apply cannot say "only if
// there is none", and of two jobs that want one name at once both would win.
func (r *Registrar) claim(ctx context.Context, reg *Registration, p plan) error {
	wanted := r.maker().service(reg.Spec, reg.owner)
	if p.found == nil {
		made, err := r.users().create(ctx, Services, wanted)
		return r.claimed(reg, made, 0, r.maker().byFamily(reg.Spec, err))
	}
	if p.found.GetDeletionTimestamp() != nil {
		return &kube.RequestError{What: "create " + reg.Object(), Tries: 1, Err: deleting(reg.Object())}
	}
	if (p.mine || p.shared) && ownedBy(p.found, reg.owner) {
		return r.claimed(reg, p.found, 0, nil)
	}
	if p.shared {
		wanted.SetAnnotations(p.found.GetAnnotations()) // the other step's, with the new owner
	}
	if p.shared && reg.Array {
		made, err := r.users().update(ctx, Services, r.join(p.found, wanted), "joined")
		return r.claimed(reg, made, 0, err)
	}
	leftBy := uint32(0)
	if !p.mine && !p.shared {
		leftBy = p.holder.ID
		r.Log.Infof("%s: job %d left it behind: taking it over", reg.Object(), leftBy)
	}
	if kindOf(p.found) == kindOf(wanted) && sameFamilies(p.found, wanted) {
		made, err := r.users().update(ctx, Services, adopt(p.found, wanted), "taken over")
		return r.claimed(reg, made, leftBy, err)
	}
	if err := r.api().remove(ctx, Services, p.found); err != nil {
		return err
	}
	made, err := r.users().create(ctx, Services, wanted)
	return r.claimed(reg, made, leftBy, r.maker().byFamily(reg.Spec, err))
}

// share leaves the service to another step of the job.
func (reg *Registration) share(holder Claim) { reg.Shared, reg.Holder = true, holder }

// claimed notes which Service it is, and whose it was, if there was no error.
func (r *Registrar) claimed(reg *Registration, u *unstructured.Unstructured, leftBy uint32, err error) error {
	if err != nil {
		return err
	}
	reg.uid, reg.leftBy, reg.addresses = u.GetUID(), leftBy, r.maker().published(u)
	if len(reg.addresses) == 0 && !reg.Internal() {
		return r.maker().otherFamily(reg.Spec, u)
	}
	return nil
}

// ownedBy tells whether the object belongs to the Lease that is there now.
func ownedBy(u *unstructured.Unstructured, owner map[string]any) bool {
	for _, reference := range u.GetOwnerReferences() {
		if string(reference.UID) == owner["uid"] {
			return true
		}
	}
	return false
}

// adopt makes the found Service the wanted one; what Kubernetes assigned, as the
// cluster IP and a load balancer's address, stays.
func adopt(found, wanted *unstructured.Unstructured) *unstructured.Unstructured {
	u := found.DeepCopy()
	u.SetLabels(wanted.GetLabels())
	notes := u.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	for _, s := range specsOf(notes[AnnotationSpec]) { // the earlier job's own annotations
		for key := range s.Annotations {
			delete(notes, key)
		}
	}
	for key, value := range wanted.GetAnnotations() {
		notes[key] = value
	}
	u.SetAnnotations(notes)
	u.SetOwnerReferences(wanted.GetOwnerReferences())
	nodePorts := map[string]any{}
	number := func(port map[string]any) string { return fmt.Sprint(port["port"], port["protocol"]) }
	before, _, _ := unstructured.NestedSlice(found.Object, "spec", "ports")
	for _, p := range before {
		if port, ok := p.(map[string]any); ok && port["nodePort"] != nil {
			nodePorts[number(port)] = port["nodePort"]
		}
	}
	ports, _, _ := unstructured.NestedSlice(wanted.Object, "spec", "ports")
	for _, p := range ports {
		port := p.(map[string]any)
		if assigned := nodePorts[number(port)]; assigned != nil {
			port["nodePort"] = assigned
		}
	}
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	spec["ports"] = ports
	if selector, ok, _ := unstructured.NestedMap(wanted.Object, "spec", "selector"); ok {
		spec["selector"] = selector
	}
	u.Object["spec"] = spec
	return u
}

// clear removes the endpoints that earlier jobs and runs left under the name, and finds
// out whether another step of this job publishes this node already.
func (r *Registrar) clear(ctx context.Context, reg *Registration) error {
	selector := job.ClusterSelector(r.Job.Cluster) + "," + labels.Set{labelServiceName: reg.Name}.String()
	slices, err := r.api().listCached(ctx, EndpointSlices, reg.Namespace, selector)
	if err != nil {
		return err
	}
	for i := range slices {
		claim, ours := claimOf(&slices[i], r.Job.Cluster)
		// One node serves, unless all do: another one's is of a run whose node died.
		mine := reg.AllNodes || slices[i].GetLabels()[LabelNode] == nodeLabel(r.Node)
		ofAnotherTask := reg.Array && claim.Array == r.Array && claim.ID != r.Job.ID && claim.UID == r.Job.UID
		if !ours || ofAnotherTask || mine && sameRun(claim.Job, r.Job) {
			continue
		}
		if err := r.api().remove(ctx, EndpointSlices, &slices[i]); err != nil && !kube.Is(err, kube.Conflict) {
			return err
		}
	}
	if !reg.AllNodes {
		return nil
	}
	found, err := r.api().get(ctx, EndpointSlices, reg.Namespace, r.maker().sliceName(reg.Spec, reg.addresses[0]))
	if err != nil || found == nil {
		return err
	}
	claim, ours := claimOf(found, r.Job.Cluster)
	if ours && sameRun(claim.Job, r.Job) && claim.Step != r.Step {
		claim.Node, claim.Renewed = r.Node, true
		alive, err := r.Alive(ctx, claim)
		if err == nil && alive {
			reg.share(claim)
		}
		return err
	}
	return nil
}

// publish writes this node's endpoints in their present condition.
func (r *Registrar) publish(ctx context.Context, a api, reg *Registration) error {
	m := r.maker()
	for _, address := range reg.addresses {
		condition := reg.conditionAt(address)
		if _, err := a.apply(ctx, EndpointSlices, m.slice(reg.Spec, address, reg.owner, condition), r.Job.Cluster); err != nil {
			return err
		}
		r.Log.Infof("%s: %s at %s", reg.Object(), condition, address)
	}
	if reg.Endpoints {
		first := reg.addresses[0]
		if _, err := a.apply(ctx, Endpoints, m.endpoints(reg.Spec, first, reg.owner, reg.conditionAt(first)), r.Job.Cluster); err != nil {
			return err
		}
	}
	return nil
}
