package workflow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// A provider that has servers (HPE's NNF) wants the workload manager to choose where
// storage is made. In Proposal it makes a DirectiveBreakdown for each directive that needs
// some, and an empty Servers; it reads the filled Servers when Setup is asked for. A
// provider without them makes no DirectiveBreakdown, and nothing here sends a request.

// cachedList is for Storages, which are large and change seldom.
var cachedList = kube.Selection{Cached: true}

// The provider's objects of the whole system are in this namespace.
const systemNamespace = "default"

const (
	// annotationPlacement tells on a Workflow in Proposal why it stays there: for the job's
	// nodes, or what is not free.
	annotationPlacement = "slurmk8s.io/placement"
	waitsForNodes       = "for-nodes"

	// annotationPlacedFor has the uid of the Workflow that a Servers was filled for.
	annotationPlacedFor = "slurmk8s.io/placed-for"

	// annotationPlacedForJob has the job: "hpc/12/1790000000", with its time of submission.
	// A persistent instance outlives the Workflow that made it, also where its job is run
	// again.
	annotationPlacedForJob = "slurmk8s.io/placed-for-job"

	// annotationFull has the rabbits, separated by commas, on which the provider found no
	// room in Setup, whatever we count.
	annotationFull = "slurmk8s.io/full-rabbits"
)

// placed brings a Workflow out of Proposal as far as its storage is concerned: DWS is done
// with Proposal, and its Servers are filled. nodes are the job's; none: they are not known
// yet. hold: the storage has to be on the rabbits of the job's nodes, so the Workflow stays
// in Proposal until they are known. The error is a *placement.Refusal if there is no room.
//
// Nothing is placed for a Workflow that is past Proposal, since the provider reads Servers
// in Setup. A hook that was killed is run again: Servers that it filled are kept, unless it
// filled only some; then all are placed again.
func (d *Driver) placed(ctx context.Context, o *object, nodes []string) (_ *object, hold bool, err error) {
	if o.Desired != Proposal {
		return o, false, nil
	}
	if o, err = d.await(ctx, o); err != nil || o.Desired != Proposal {
		return o, false, err
	}
	if err = d.checkDestroyed(ctx, o); err != nil || len(o.Breakdowns) == 0 {
		return d.noted(ctx, o, err), false, err
	}
	if len(nodes) == 0 && o.Annotations[annotationPlacement] == waitsForNodes {
		return o, true, nil
	}
	breakdowns, err := d.breakdowns(ctx, o)
	if err != nil {
		return o, false, err
	}
	instances, err := d.instances(ctx, o, breakdowns)
	if err == nil {
		err = d.checkNames(ctx, o, breakdowns)
	}
	if err == nil && len(nodes) == 0 && placement.NeedsNodes(breakdowns) {
		var placed bool
		if placed, err = d.beforeNodes(ctx, o, breakdowns, instances); err == nil && !placed {
			o, err = d.notePlacement(ctx, o, waitsForNodes)
			return o, true, err
		}
		return d.noted(ctx, o, err), false, err
	}
	if err == nil {
		err = d.place(ctx, o, breakdowns, instances, nodes)
	}
	return d.noted(ctx, o, err), false, err
}

// noted keeps what is not free on the Workflow, if that is the error. Best effort.
func (d *Driver) noted(ctx context.Context, o *object, err error) *object {
	var refusal *placement.Refusal
	if !errors.As(err, &refusal) {
		return o
	}
	noted, err := d.notePlacement(ctx, o, refusal.Text)
	if err != nil {
		d.log.Warn(err)
		return o
	}
	return noted
}

// notePlacement keeps why a Workflow stays in Proposal.
func (d *Driver) notePlacement(ctx context.Context, o *object, text string) (*object, error) {
	if o.Annotations[annotationPlacement] == text {
		return o, nil
	}
	return d.merge(ctx, o, map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationPlacement: text}}})
}

// breakdowns reads what the directives ask for.
func (d *Driver) breakdowns(ctx context.Context, o *object) ([]placement.Breakdown, error) {
	var pauses kube.Pauses
	all := make([]placement.Breakdown, len(o.Breakdowns))
	for i := 0; i < len(all); {
		id := o.Breakdowns[i]
		u, err := d.objects("directivebreakdowns", id.Namespace).Get(ctx, id.Name)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return nil, fmt.Errorf("%s names directivebreakdown %s, which does not exist", o, id)
		}
		b := placement.ReadBreakdown(u)
		switch {
		case b.Error != "":
			return nil, &DriverError{"Proposal failed: " + b.Error + " [" + shorten(b.Directive, 200) + "]", o}
		case b.Ready:
			all[i] = b
			i++
		default:
			if err := pauses.Wait(ctx); err != nil {
				return nil, &waitError{fmt.Sprintf("directivebreakdown %s is not ready though %s is", id, o), o, err}
			}
		}
	}
	return all, nil
}

// checkNames refuses the creation of a persistent instance that exists.
func (d *Driver) checkNames(ctx context.Context, o *object, breakdowns []placement.Breakdown) error {
	for _, b := range breakdowns {
		if !b.Persistent {
			continue
		}
		u, err := d.objects("servers", b.Servers.Namespace).Get(ctx, b.Servers.Name)
		if err == nil && u != nil {
			_, err = mine(o, []placement.Breakdown{b}, []placement.Servers{placement.ReadServers(u)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// placementTries is how often the storage of a job is placed while others, whom our lock
// does not hold, place theirs on the same rabbits.
const placementTries = 3

// place fills the Servers of all directives, or none. One hook does that at a time, so that
// what one has promised is seen by the next. Where another workload manager or Slurm cluster
// has promised the same room meanwhile, the promise is taken back.
//
// Servers that are filled are kept if they are still right: a hook that was killed had not
// looked yet whether others placed at the same time, and the nodes may be others now.
//
// With full, the provider reads the Servers already, and has no room on these rabbits,
// whatever we count: Servers on them are changed and never emptied, all others are kept.
func (d *Driver) place(ctx context.Context, o *object, breakdowns []placement.Breakdown, instances []instance, nodes []string, full ...string) error {
	toFill := slices.ContainsFunc(breakdowns, func(b placement.Breakdown) bool { return len(b.Sets) > 0 })
	if !toFill && len(nodes) == 0 {
		return nil
	}
	system, err := d.system(ctx)
	if err != nil {
		return err
	}
	if err := checkNodes(system, instances, nodes); err != nil || !toFill {
		return err
	}
	storages, err := d.objects("storages", systemNamespace).List(ctx, cachedList)
	if err != nil {
		return err
	}
	rabbits := placement.ReadAll(storages, placement.ReadRabbit)

	unlock, err := hostfile.Lock(ctx, filepath.Join(d.cfg.StateDir, "placement.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	for try := 1; ; try++ {
		all, others, err := d.promises(ctx, breakdowns)
		if err != nil {
			return err
		}
		mine, err := mine(o, breakdowns, all)
		if err != nil {
			return err
		}
		if mine.filled() {
			kept := !mine.on(full)
			if len(full) == 0 {
				kept = mine.right(placement.NewTopology(system, rabbits, all, others), breakdowns, nodes)
			}
			if kept {
				return nil
			}
		}
		topology := placement.NewTopology(system, rabbits, all, others, mine.ids()...)
		for _, rabbit := range full {
			topology.Full(rabbit)
		}
		filled, err := placement.Place(breakdowns, topology, nodes)
		if err != nil && len(full) == 0 {
			return errors.Join(err, d.empty(ctx, mine))
		}
		if err != nil {
			return err
		}
		if err := d.fill(ctx, mine, filled); kube.Is(err, kube.Conflict) && try < placementTries {
			continue // the provider has changed them meanwhile
		} else if err != nil {
			return err
		}
		if all, others, err = d.promises(ctx, breakdowns); err != nil {
			return err
		}
		crowded := placement.NewTopology(system, rabbits, all, others).Crowded(filled)
		if crowded == "" {
			d.log.Infof("%s: storage is placed: %v", o, filled)
			return nil
		}
		d.log.Warnf("%s: somebody else has placed storage at the same time: %s", o, crowded)
		if len(full) == 0 {
			if err := d.empty(ctx, mine); err != nil {
				return err
			}
		}
		if try == placementTries {
			return &placement.Refusal{Text: "somebody else places storage at the same time: " + crowded}
		}
		if err := kube.Sleep(ctx, time.Duration(rand.Int64N(int64(time.Second)))); err != nil {
			return err
		}
	}
}

// How NNF says in Setup that a rabbit has less than we count. That there is too little on the
// drives is an error of the state; that the drives have no NVMe namespace left is not: NNF
// goes on trying until another job's storage is gone.
var (
	// "DW Directive 0: WLM error: r1: insufficient capacity available"
	noRoomThere = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:^|: )([^ :]+): insufficient capacity available`)
	})
	// "... Node: r1: unable to allocate NVMe namespaces ... Could not find free namespace"
	noNamespaceThere = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`Node: ([^ :]+): .*Could not find free namespace`)
	})
)

// withoutRoom is the rabbit on which the provider has no room in Setup; "": none.
func (o *object) withoutRoom() string {
	if o.State != Setup || o.Desired != Setup || len(o.Breakdowns) == 0 {
		return ""
	}
	if said := noRoomThere().FindStringSubmatch(o.Message); said != nil && o.Status == statusError {
		return said[1]
	}
	for _, driver := range o.Drivers {
		if said := noNamespaceThere().FindStringSubmatch(driver.Error); said != nil && driver.Watch == Setup {
			return said[1]
		}
	}
	return ""
}

// placedElsewhere reports whether a Setup without room goes on, since its storage was placed
// again without the rabbits that have none: NNF takes changed Servers up at once. Storage of
// the job's nodes has no choice. The error is a *placement.Refusal if no other rabbit has room
// now; then all rabbits are tried again later.
func (d *Driver) placedElsewhere(ctx context.Context, o *object) (again bool, err error) {
	rabbit := o.withoutRoom()
	if rabbit == "" {
		return false, nil
	}
	breakdowns, err := d.breakdowns(ctx, o)
	if err != nil {
		return false, err
	}
	instances, err := d.instances(ctx, o, breakdowns)
	if err != nil {
		return false, err
	}
	if placement.NeedsNodes(breakdowns) {
		if o.Status == statusError {
			return false, nil
		}
		return false, &placement.Refusal{Text: fmt.Sprintf("%s has no NVMe namespace left for [%s]: it can make this storage only when that of another job is gone",
			rabbit, strings.Join(o.Directives, "] [")), Avoid: []string{rabbit}}
	}
	full := strings.FieldsFunc(o.Annotations[annotationFull], func(r rune) bool { return r == ',' })
	if !slices.Contains(full, rabbit) {
		full = append(full, rabbit)
		if err := d.noteFull(ctx, o, strings.Join(full, ",")); err != nil {
			return false, err
		}
	}
	err = d.place(ctx, o, breakdowns, instances, nil, full...)
	if noRoom(err) {
		d.log.Infof("%s: not placed elsewhere: %v", o, err)
		err = errors.Join(err, d.noteFull(ctx, o, nil))
	}
	return err == nil, err
}

// noteFull keeps the rabbits without room, or forgets them.
func (d *Driver) noteFull(ctx context.Context, o *object, rabbits any) error {
	_, err := d.merge(ctx, o, map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationFull: rabbits}}})
	return err
}

// checkNodes refuses nodes of the job that DWS does not know, or that the persistent
// instances are not for: it would wait for them without an end.
func checkNodes(system placement.System, instances []instance, nodes []string) error {
	if len(nodes) == 0 {
		return nil
	}
	topology := placement.NewTopology(system, nil, nil, nil)
	if err := topology.Check(nodes); err != nil {
		return err
	}
	for i := range instances {
		if err := placement.CheckPersistent(instances[i].name, &instances[i].servers, topology, nodes); err != nil {
			return err
		}
	}
	return nil
}

// system reads which rabbit serves which node.
func (d *Driver) system(ctx context.Context) (placement.System, error) {
	if d.once != nil && d.once.system != nil {
		return *d.once.system, nil
	}
	u, err := d.objects("systemconfigurations", systemNamespace).Get(ctx, "default")
	if err != nil {
		return placement.System{}, err
	}
	if u == nil {
		return placement.System{}, errors.New("systemconfiguration default/default does not exist: it has to say which node uses which storage")
	}
	system := placement.ReadSystem(u)
	if d.once != nil {
		d.once.system = &system
	}
	return system, nil
}

// promises reads the Servers of all jobs, and of persistent instances. The breakdowns of
// others are read only where there is a colocation key that their Servers do not show.
func (d *Driver) promises(ctx context.Context, breakdowns []placement.Breakdown) ([]placement.Servers, []placement.Breakdown, error) {
	items, err := d.objects("servers", "").List(ctx, kube.Selection{})
	if err != nil {
		return nil, nil, err
	}
	servers := placement.ReadAll(items, placement.ReadServers)
	if !placement.HaveOtherKeys(breakdowns) {
		return servers, nil, nil
	}
	if items, err = d.objects("directivebreakdowns", "").List(ctx, kube.Selection{}); err != nil {
		return nil, nil, err
	}
	return servers, placement.ReadAll(items, placement.ReadBreakdown), nil
}

// noRoom reports an error that another moment may not give: what is needed is not free, or
// not well.
func noRoom(err error) bool {
	var refusal *placement.Refusal
	return errors.As(err, &refusal) && !refusal.Never
}
