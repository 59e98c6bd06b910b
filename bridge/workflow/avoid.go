package workflow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// A job whose storage of nodes cannot be made on the rabbits of the nodes that it got goes back
// into the queue. Slurm would choose the same nodes again: so slurm_bb_pre_run keeps in a file
// which ones to avoid, and the teardown that follows, when the job is pending, excludes them.

// Away is what is kept of a job that went back into the queue because of its nodes, or that was
// given a constraint: what is ours of what Slurm says that the job asks for.
type Away struct {
	Failures int      // how often it did
	Why      string   // the last one
	Pending  []string // nodes that are to be excluded
	Excluded []string // nodes that we have excluded
	Own      string   // the constraint that the job asks for itself
	Asked    []string // constraints that we have set for it: what Slurm has now, or had before
}

const awayPrefix = "away."

func (f Files) away(id uint32) string { return hostfile.OfJob(string(f), awayPrefix, id) }

// Away reads what is kept; nil if there is nothing.
func (f Files) Away(id uint32) (*Away, error) {
	text, err := hostfile.Read(f.away(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what job %d asks for and is to avoid: %w", id, err)
	}
	a := &Away{}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "failures":
			a.Failures, _ = strconv.Atoi(rest)
		case "why":
			a.Why = rest
		case "pending":
			a.Pending = strings.Fields(rest)
		case "excluded":
			a.Excluded = strings.Fields(rest)
		case "own":
			a.Own = rest
		case "asked":
			a.Asked = append(a.Asked, rest)
		}
	}
	return a, nil
}

// ChangeAway changes what is kept, as it is now: a hook and reconcile may do so at once.
func (f Files) ChangeAway(ctx context.Context, id uint32, change func(*Away)) error {
	unlock, err := hostfile.Lock(ctx, filepath.Join(string(f), awayPrefix+"lock"))
	if err != nil {
		return err
	}
	defer unlock()
	a, err := f.Away(id)
	if err != nil {
		return err
	}
	if a == nil {
		a = &Away{}
	}
	change(a)
	text := fmt.Sprintf("failures %d\nwhy %s\npending %s\nexcluded %s\nown %s\n", a.Failures,
		strings.Join(strings.Fields(a.Why), " "), strings.Join(a.Pending, " "), strings.Join(a.Excluded, " "), a.Own)
	for _, constraint := range a.Asked {
		text += "asked " + constraint + "\n"
	}
	if err := hostfile.Write(f.away(id), text, 0o600); err != nil {
		return fmt.Errorf("keep what job %d asks for and is to avoid: %w", id, err)
	}
	return nil
}

// RemoveAway forgets it.
func (f Files) RemoveAway(id uint32) error { return hostfile.Remove(f.away(id)) }

// JobsAway are the jobs of which something is kept.
func (f Files) JobsAway() ([]hostfile.File, error) { return hostfile.Jobs(string(f), awayPrefix) }

// nodeThere is how NNF's errors name a rabbit or a node that fails:
// "internal error: storage resource error: slurm/bb12-0: Node: r3: NnfNodeBlockStorage has not ..."
var nodeThere = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bNode: ([^ :]+): `) })

// blames are the rabbits or nodes that a driver's error is about, in a state in which other
// nodes may do better.
func (d *driver) blames() []string {
	if d.Watch != Setup && d.Watch != PreRun || d.Status == "Completed" {
		return nil
	}
	for _, said := range [][]string{nodeThere().FindStringSubmatch(d.Error), noRoomThere().FindStringSubmatch(d.Message)} {
		if said != nil {
			return said[1:2]
		}
	}
	return nil
}

// Avoid returns the nodes that a job had better not get again after this error of
// slurm_bb_pre_run: those of a rabbit that has no room or fails, or a node that fails itself.
// Best effort; usually there are none.
func (d *Driver) Avoid(ctx context.Context, cause error) []string {
	var names []string
	var refusal *placement.Refusal
	if errors.As(cause, &refusal) {
		names = refusal.Avoid
	}
	if about := aboutOf(cause); about != nil {
		for i := range about.Drivers {
			names = append(names, about.Drivers[i].blames()...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	system, err := d.system(ctx)
	if err != nil {
		d.log.Warnf("the nodes of %s are not known: %v", strings.Join(names, ", "), err)
		return nil
	}
	var nodes []string
	topology := placement.NewTopology(system, nil, nil, nil)
	for _, name := range names {
		if served, isRabbit := system.Rabbits[name]; isRabbit {
			nodes = append(nodes, served...)
		} else if topology.Check([]string{name}) == nil {
			nodes = append(nodes, name)
		}
	}
	translate, err := d.names()
	if err != nil {
		d.log.Warn(err)
		return nil
	}
	nodes = slices.Clone(translate.slurm(nodes))
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// aboutOf is the Workflow that an error is about; nil if it has none.
func aboutOf(err error) *object {
	var failed *DriverError
	var timeout *timeoutError
	var wait *waitError
	switch {
	case errors.As(err, &failed):
		return failed.about
	case errors.As(err, &timeout):
		return timeout.about
	case errors.As(err, &wait):
		return wait.about
	}
	return nil
}

// awayFor is how long a job is kept away from nodes at least.
const awayFor = 10 * time.Minute

// readmit lets waiting jobs have nodes again that they were kept away from for some time, if
// these and their rabbits are well.
func (d *Driver) readmit(ctx context.Context, topology *placement.Topology, files Files) error {
	kept, err := files.JobsAway()
	if err != nil {
		return err
	}
	kept = slices.DeleteFunc(kept, func(f hostfile.File) bool { return time.Since(f.Made) < awayFor })
	if len(kept) == 0 {
		return nil
	}
	ids := make([]uint32, len(kept))
	for i := range kept {
		ids[i] = kept[i].ID
	}
	jobs, err := d.slurm().Lookup(ctx, ids...)
	if err != nil {
		return err
	}
	names, err := d.names()
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		if !jobs[id].Waiting() {
			continue
		}
		away, err := files.Away(id)
		if err != nil || away == nil || len(away.Excluded) == 0 {
			failed = append(failed, err)
			continue
		}
		var well []string
		for _, node := range away.Excluded {
			if topology.Fault(names.dws([]string{node})[0]) == "" {
				well = append(well, node)
			}
		}
		if len(well) == 0 {
			continue
		}
		if err := d.slurm().Readmit(ctx, id, well...); err != nil {
			failed = append(failed, err)
			continue
		}
		d.log.Infof("job %d may have %s again", id, strings.Join(well, ", "))
		failed = append(failed, files.ChangeAway(ctx, id, func(now *Away) {
			now.Excluded = slices.DeleteFunc(now.Excluded, func(node string) bool { return slices.Contains(well, node) })
		}))
	}
	return errors.Join(failed...)
}
