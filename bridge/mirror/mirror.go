package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/safely"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Annotation leaves a Node out if it is "off": nothing is done, and nothing undone.
const Annotation = "slurmk8s.io/mirror"

// Options say which nodes are compared, and how far a run may go.
type Options struct {
	Nodes *node.Driver // with the credential of this host
	Slurm slurm.Commands
	// Node is the only one to look at, by its name in Slurm; "": all. Only a controller's
	// credential can see all.
	Node string
	// MinAge is how long slurmctld must have been up before anything is opened: what it
	// says of a node may be older than its last order.
	MinAge time.Duration
	DryRun bool // only report
	Force  bool // without the brake
	Undo   bool // take back all that was done, as if nothing were to be mirrored
}

// Result is what became of one change.
type Result struct {
	Node string // as Slurm calls it
	Action
	Err error // why it was not made; nil: it was, or would be
}

// machine is a node as both sides have it.
type machine struct {
	slurm slurm.NodeRecord
	kube  *unstructured.Unstructured // nil: Kubernetes has none any more
}

// change is an action on a machine.
type change struct {
	Action
	machine
}

// Run makes one side of each node say what the other says. An error tells what was not looked
// at, or held back; what is not known of both sides is left as it is. Two runs at once do no harm:
// each change names the version of the Node that was read, or is checked right before.
func Run(ctx context.Context, o Options) ([]Result, error) {
	machines, err := o.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("mirror: no node was touched: %w", err)
	}
	policy, now := policyOf(o.Nodes.Cfg), time.Now()
	if o.Undo {
		policy.toKubernetes, policy.toSlurm = false, false
	}
	var changes []change
	for _, m := range machines {
		if m.kube == nil {
			changes = append(changes, change{Action{Undrain, "no longer"}, m})
			continue
		}
		k := kubeNode{Closure: o.Nodes.Closure(m.kube), ills: policy.illsOf(m.kube, now), off: m.kube.GetAnnotations()[Annotation] == "off"}
		for _, action := range policy.decide(m.slurm, k) {
			changes = append(changes, change{action, m})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.slurm.Name, b.slurm.Name), cmp.Compare(a.Verb, b.Verb))
	})
	changes, held := o.brake(ctx, changes, len(machines))
	changes, doubt := o.trust(ctx, changes)
	return o.make(ctx, changes), errors.Join(held, doubt)
}

func policyOf(cfg *slurmconf.NodeSettings) policy {
	return policy{
		toKubernetes: cfg.Mirror == slurmconf.MirrorToKubernetes || cfg.Mirror == slurmconf.MirrorBoth,
		toSlurm:      cfg.Mirror == slurmconf.MirrorToSlurm || cfg.Mirror == slurmconf.MirrorBoth,
		after:        cfg.MirrorAfter.Std(),
		conditions:   cfg.MirrorConditions,
		stopsKubelet: cfg.Kubelet == slurmconf.KubeletStop,
	}
}

// read asks both sides. A machine that only one of them knows is left out, apart from a drain
// of ours that is to be taken back.
func (o Options) read(ctx context.Context) (machines []machine, err error) {
	if o.Node != "" {
		kube, err := o.Nodes.Of(ctx, o.Node)
		if err != nil || kube == nil {
			return nil, err
		}
		states, err := o.Slurm.NodeRecords(ctx, o.Node)
		return []machine{{states[o.Node], kube}}, err
	}
	nodes, err := o.Nodes.All(ctx)
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	states, err := o.Slurm.NodeRecords(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range states {
		names = append(names, name)
	}
	pairs, odd, err := o.Nodes.Pair(names, nodes)
	for _, text := range odd {
		o.Nodes.Log.Warnf("mirror: %s: left alone", text)
	}
	for name, state := range states {
		kube := pairs[name]
		switch {
		case kube != nil:
		case err != nil || len(odd) > 0 || !state.Drain() || !isOurs(state.Reason):
			continue
		case !o.Undo:
			// Whoever deleted the Node may be about to take the machine away.
			o.Nodes.Log.Infof("mirror: Kubernetes has no node for %s any more: it stays drained, an administrator may undrain it", name)
			continue
		}
		machines = append(machines, machine{state, kube})
	}
	return machines, err
}

// trust drops what can no longer be done: to Slurm's nodes that changed since they were read, so
// that nobody's order is replaced or undone, and whatever opens a node for a slurmctld that has
// only begun.
func (o Options) trust(ctx context.Context, changes []change) (trusted []change, doubt error) {
	var names []string
	opens := false
	for _, c := range changes {
		if c.Verb == Drain || c.Verb == Undrain {
			names = append(names, c.slurm.Name)
		}
		opens = opens || c.Verb == Open || c.Verb == Undrain
	}
	if opens {
		controller, err := o.Slurm.Controller(ctx)
		if err != nil || time.Since(controller.Started) < o.MinAge {
			changes = slices.DeleteFunc(changes, func(c change) bool { return c.Verb == Open || c.Verb == Undrain })
			names = slices.DeleteFunc(names, func(name string) bool {
				return !slices.ContainsFunc(changes, func(c change) bool { return c.Verb == Drain && c.slurm.Name == name })
			})
		}
		if err != nil {
			doubt = fmt.Errorf("mirror: no node was opened: %w", err)
		}
	}
	if len(names) == 0 || o.DryRun {
		return changes, doubt
	}
	states, err := o.Slurm.NodeRecords(ctx, names...)
	return slices.DeleteFunc(changes, func(c change) bool {
		now := states[c.slurm.Name]
		return c.Verb == Drain && (err != nil || now.Drain() || now.Down()) ||
			c.Verb == Undrain && (err != nil || !now.Drain() || !isOurs(now.Reason))
	}), errors.Join(doubt, err)
}

// inOneUpdate bounds how many nodes one scontrol names.
const inOneUpdate = 500

// make makes the changes: in Slurm one command for all nodes with the same reason, in
// Kubernetes a request for each Node.
func (o Options) make(ctx context.Context, changes []change) []Result {
	results := make([]Result, len(changes))
	bySlurm := map[Action][]int{}
	places := make(chan struct{}, max(o.Nodes.Cfg.Parallel, 1))
	var group sync.WaitGroup
	for i, c := range changes {
		results[i] = Result{Node: c.slurm.Name, Action: c.Action}
		switch {
		case o.DryRun:
		case c.Verb == Drain || c.Verb == Undrain:
			bySlurm[c.Action] = append(bySlurm[c.Action], i)
		default:
			places <- struct{}{}
			group.Go(func() {
				defer func() { <-places }()
				results[i].Err = safely.Do(func() error { return o.inKubernetes(ctx, c) })
			})
		}
	}
	for action, all := range bySlurm {
		for some := range slices.Chunk(all, inOneUpdate) {
			var names []string
			for _, i := range some {
				names = append(names, results[i].Node)
			}
			err := o.inSlurm(ctx, action, names)
			for _, i := range some {
				results[i].Err = err
			}
		}
	}
	group.Wait()
	return results
}

func (o Options) inKubernetes(ctx context.Context, c change) error {
	ctx, cancel := context.WithTimeout(ctx, o.Nodes.Cfg.APITimeout.Std())
	defer cancel()
	if c.Verb == Open {
		return o.Nodes.Undrain(ctx, c.kube)
	}
	return o.Nodes.Drain(ctx, c.kube, c.Why)
}

func (o Options) inSlurm(ctx context.Context, a Action, names []string) error {
	if a.Verb == Undrain {
		return o.Slurm.Undrain(ctx, names)
	}
	if err := o.Slurm.Drain(ctx, names, reasonFor(a.Why)); err != nil || o.Node == "" || o.Force {
		return err
	}
	return o.againstOthers(ctx)
}
