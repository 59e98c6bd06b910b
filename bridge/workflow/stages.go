package workflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Env has the variables that DWS has set for the job so far.
type Env map[string]string

// Setup creates the job's Workflow if it is absent and brings it to Setup
// (slurm_bb_setup). A Workflow that an earlier run of the job, or an earlier job
// of the same id, left behind is torn down first. The Workflow stays in Proposal where its
// storage has to be on the rabbits of the job's nodes, and while there is no room for it; it
// stays in Setup where the provider has less room than was counted, until another place has.
func (d *Driver) Setup(ctx context.Context, job *Job, directives []string) (Env, error) {
	d, end := d.withOneWatch()
	defer end()
	o, err := d.ensure(ctx, job, directives)
	if err != nil {
		return nil, err
	}
	o, hold, err := d.placed(ctx, o, nil)
	waits := o
	if err == nil && !hold {
		o, err = d.advance(ctx, o, Setup)
	}
	if noRoom(err) {
		d.log.Infof("%s waits for room: %v", waits, err)
		return waits.variables(), nil
	}
	if err != nil {
		return nil, err
	}
	d.keep(job, o)
	return o.variables(), nil
}

// ensure returns the job's Workflow. It creates it before it looks for one: there is one only
// after a requeue, a kill, or a create whose answer was lost, or where submission makes it.
// Quota and admission judge before the server finds that the name is taken, so a refusal is
// believed only if there is none.
func (d *Driver) ensure(ctx context.Context, job *Job, directives []string) (*object, error) {
	d.forget(job)
	var pauses kube.Pauses
	for look := d.cfg.Workflows.Submit == slurmconf.SubmitCreate; ; look = true {
		if look {
			if o, err := d.usable(ctx, job, directives); err != nil || o != nil {
				return o, err
			}
		}
		o, err := d.create(ctx, job, directives)
		taken := kube.Is(err, kube.Exists) || kube.Is(err, kube.Conflict)
		if !taken && (look || !refused(err)) {
			return o, err
		}
		if look { // it was not there a moment ago
			if err := pauses.Wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// refused reports that quota, admission or our rights forbid a create.
func refused(err error) bool {
	var judged *job.Refused
	return errors.As(err, &judged) || kube.Is(err, kube.Denied)
}

// usable returns the Workflow of the job's name if it is of this run of the job. One that an
// earlier run left is torn down; nil: there is none.
func (d *Driver) usable(ctx context.Context, job *Job, directives []string) (*object, error) {
	o, err := d.get(ctx, job.Name())
	switch {
	case err != nil || o == nil:
		return nil, err
	case !d.ours(o):
		return nil, d.foreign(o)
	case !o.Deleting && o.Desired.index() >= 0 && o.Desired.before(DataIn) &&
		o.worst() != statusError && madeFor(o, job, directives):
		return o, nil
	}
	if o.held() {
		return nil, fmt.Errorf("%s has data of an earlier run that is not copied yet: \"slurmk8s cleanup --force %d\" gives it up", o, job.ID)
	}
	d.log.Infof("%s is left from an earlier run (in %s): tearing it down first", o, o.Desired)
	if _, err := d.dispose(ctx, o, true); err != nil {
		return nil, fmt.Errorf("%s is left from an earlier run and cannot be removed: %w", o, err)
	}
	return nil, nil
}

// madeFor reports whether a Workflow is of this run of this job, by all that
// Slurm tells about it.
func madeFor(o *object, of *Job, directives []string) bool {
	told := of.Annotations()
	same := func(annotation string) bool {
		value, had := told[annotation], o.Annotations[annotation]
		return value == nil || had == "" || had == value
	}
	return o.OwnerUID == int64(of.UID) && slices.Equal(o.Directives, directives) &&
		same(job.AnnotationRestart) && same(job.AnnotationSubmitTime)
}

// Check asks DWS's admission about the directives in a dry run (slurm_bb_job_process).
func (d *Driver) Check(ctx context.Context, job *Job, directives []string) error {
	err := judged(d.workflows.Check(ctx, d.wanted(job, directives)), directives)
	if kube.Is(err, kube.Exists) {
		return nil // admission comes before the name is looked at
	}
	return err
}

// Create makes the Workflow at submission. Slurm calls no hook for a job that is
// cancelled while it is pending; reconcile then removes the Workflow.
func (d *Driver) Create(ctx context.Context, job *Job, directives []string) error {
	_, err := d.ensure(ctx, job, directives)
	return err
}

func (d *Driver) create(ctx context.Context, job *Job, directives []string) (*object, error) {
	u, err := d.workflows.Create(ctx, d.wanted(job, directives))
	if err != nil {
		return nil, judged(err, directives)
	}
	return parse(u), nil
}

// judged is the error of a create, in words for the user if DWS refused the directives.
func judged(err error, directives []string) error {
	var request *kube.RequestError
	if errors.As(err, &request) && kube.Classify(err) == kube.Refusal {
		return &job.Refused{Text: refusal(kube.Reason(request.Err), directives)}
	}
	return err
}

// Request asks for a state and returns at once (slurm_bb_data_in and
// slurm_bb_data_out where Slurm polls).
func (d *Driver) Request(ctx context.Context, job *Job, target State) error {
	o, hold, err := d.begin(ctx, job, target)
	if err == nil && !hold {
		_, err = d.request(ctx, o, target, false)
	}
	if noRoom(err) {
		return nil // Poll says so
	}
	return err
}

// begin is goOn, or where that knows nothing, findPlaced.
func (d *Driver) begin(ctx context.Context, job *Job, target State) (_ *object, hold bool, err error) {
	if o, err := d.goOn(ctx, job, target); err != nil || o != nil {
		return o, false, err
	}
	return d.findPlaced(ctx, job)
}

// findPlaced is find and placed, for the hooks that do not know the job's nodes.
func (d *Driver) findPlaced(ctx context.Context, job *Job) (*object, bool, error) {
	o, err := d.find(ctx, job.Name())
	if err != nil {
		return nil, false, err
	}
	return d.placed(ctx, o, nil)
}

// Await brings the job's Workflow to a state and waits until DWS is done with it, before
// that for room if there is none for its storage.
func (d *Driver) Await(ctx context.Context, job *Job, target State) (Env, error) {
	var pauses kube.Pauses
	for {
		o, hold, err := d.begin(ctx, job, target)
		if err == nil && !hold {
			o, err = d.advance(ctx, o, target)
		}
		switch {
		case err == nil:
			d.keep(job, o)
			return o.variables(), nil
		case !noRoom(err) || pauses.Wait(ctx) != nil:
			return nil, d.hold(ctx, err)
		}
	}
}

// Poll is Await for at most the configured busy wait, once the Workflow could be
// read (slurm_bb_test_data_in, slurm_bb_test_data_out).
func (d *Driver) Poll(ctx context.Context, job *Job, target State) (Env, error) {
	o, hold, err := d.findPlaced(ctx, job)
	if err == nil && !hold {
		o, err = d.request(ctx, o, target, false)
	}
	if err == nil && o.Desired == target {
		short, cancel := context.WithTimeout(ctx, d.cfg.Workflows.BusyWait.Std())
		defer cancel()
		o, err = d.await(short, o)
	}
	if noRoom(err) {
		d.log.Info(err)
		return nil, ErrBusy
	}
	if errors.Is(err, context.DeadlineExceeded) { // the busy wait, not the state's time
		return nil, err
	}
	if err != nil {
		return nil, d.hold(ctx, err)
	}
	d.keep(job, o)
	return o.variables(), nil
}

// PreRun tells DWS the job's nodes and makes the storage ready on them
// (slurm_bb_pre_run). Storage that waited for the nodes is placed, set up and filled now.
func (d *Driver) PreRun(ctx context.Context, job *Job) (Env, error) {
	d = d.readingOnce()
	o, err := d.find(ctx, job.Name())
	if err != nil {
		return nil, err
	}
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	nodes := names.dws(job.Nodes)
	if o.Desired.before(PreRun) && len(nodes) == 0 {
		return nil, fmt.Errorf("%s: Slurm does not say which nodes the job has", o)
	}
	if o.Desired == Proposal {
		o, _, err = d.placed(ctx, o, nodes)
	} else if o.Desired.before(PreRun) && len(o.Breakdowns) > 0 {
		err = d.checkPlaced(ctx, o, nodes)
	}
	if err == nil {
		o, err = d.advance(ctx, o, DataIn)
	}
	if err == nil && o.Desired.before(PreRun) {
		err = d.fillComputes(ctx, o, nodes)
	}
	if err == nil {
		err = d.grantToken(ctx, o, job)
	}
	if err == nil {
		d.ofNodes = d.rabbitsOf(job.Nodes, nodes)
		o, err = d.advance(ctx, o, PreRun)
	}
	if err != nil {
		return nil, err
	}
	d.keep(job, o)
	return o.variables(), nil
}

// PostRun takes the token away from the job's nodes, and the storage (slurm_bb_post_run). That the
// right stays a while longer is no reason to keep the job's data from being copied.
func (d *Driver) PostRun(ctx context.Context, job *Job) error {
	if d.cfg.Workflows.Token == slurmconf.TokenJob {
		asking, cancel := context.WithTimeout(ctx, 2*d.cfg.Kubernetes.RequestTimeout.Std())
		o, err := d.find(asking, job.Name())
		if err == nil {
			err = d.revokeToken(asking, o)
		}
		cancel()
		if err != nil {
			d.log.Warnf("the job's nodes may read its token until the teardown: %v", err)
		}
	}
	_, err := d.Await(ctx, job, PostRun)
	return err
}

// checkPlaced refuses nodes that a provider with servers does not know, and nodes for which
// the storage was not made: a hook that was killed may have set it up for others. The
// provider would wait without an end.
func (d *Driver) checkPlaced(ctx context.Context, o *object, nodes []string) error {
	system, err := d.system(ctx)
	if err != nil {
		return err
	}
	topology := placement.NewTopology(system, nil, nil, nil)
	if err := topology.Check(nodes); err != nil {
		return err
	}
	breakdowns, err := d.breakdowns(ctx, o)
	if err != nil {
		return err
	}
	for i := range breakdowns {
		b := &breakdowns[i]
		if len(b.Sets) == 0 || !placement.NeedsNodes(breakdowns[i:i+1]) {
			continue
		}
		u, err := d.objects("servers", b.Servers.Namespace).Get(ctx, b.Servers.Name)
		if err != nil {
			return err
		}
		if u == nil || u.GetAnnotations()[annotationPlacedFor] != string(o.UID) {
			continue // an instance that an earlier run made
		}
		if servers := placement.ReadServers(u); !topology.Fits(b, &servers, nodes) {
			return &placement.Refusal{Text: fmt.Sprintf("the storage was made for other nodes, on %s [%s]",
				strings.Join(slices.Sorted(maps.Keys(servers.Rabbits())), ", "), b.Directive)}
		}
	}
	return nil
}

// fillComputes names the allocated nodes in the Computes object that DWS made
// beside the Workflow. DWS mounts storage on those and no others.
func (d *Driver) fillComputes(ctx context.Context, o *object, nodes []string) error {
	if o.ComputesName == "" {
		return fmt.Errorf("%s has no Computes to list the job's nodes in: DWS would make the storage ready on no node", o)
	}
	body, err := computesOf(nodes, "")
	if err != nil {
		return err
	}
	if len(o.Breakdowns) > 0 { // the job runs on them, so they live
		if err := d.enable(ctx, nodes); err != nil {
			d.log.Warnf("whether a node is Disabled in SystemStatus is not known: %v", err)
		}
	}
	var pauses kube.Pauses
	for {
		_, err := d.computes.Patch(ctx, o.ComputesName, body)
		if !kube.Is(err, kube.Conflict) || pauses.Wait(ctx) != nil {
			return err
		}
	}
}
