// Package reconcile repairs what a lost hook left behind: it compares what is kept
// for jobs in Kubernetes, and on this host, with the jobs that Slurm knows.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Options say what is compared, and how long that may take.
type Options struct {
	Sources []Source
	Guard   Guard
	Brake   Brake
	// Limit bounds each source's list, the questions to Slurm, and the removals of each.
	Limit time.Duration
	// Spread is how long the first question to Slurm is put off.
	Spread time.Duration
	DryRun bool // only report
	Force  bool // without the brake
	Log    *logrus.Entry
}

// Source lists what a duty keeps for jobs: on all nodes, or on this one.
type Source func(context.Context) ([]duty.Object, error)

// Result is what became of one object.
type Result struct {
	duty.Object
	Job string // what is known of the job: "job 12 is over"
	Err error  // why the object is still there; nil: it is gone, or would be
}

// Failed reports whether the object should be gone and is not.
func (r Result) Failed() bool { return r.Err != nil && !errors.Is(r.Err, duty.ErrChanged) }

// Run removes what is kept for jobs that are over. The sources are independent of each
// other: what one cannot list, or cannot remove in time, costs the others nothing.
func Run(ctx context.Context, o Options) (results []Result, failed []error) {
	listed, failed := list(ctx, o)
	all := slices.Concat(listed...)
	if len(all) == 0 {
		return nil, failed
	}
	if o.Spread > 0 {
		if err := kube.Sleep(ctx, o.Spread); err != nil {
			return nil, append(failed, err)
		}
	}
	asking, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	verdicts, err := o.Guard.Judge(asking, all)
	if err != nil {
		return nil, append(failed, err)
	}
	over := jobsOf(undecided(all, verdicts))
	if !o.Force {
		if over, err = o.Brake.Hold(jobsOf(all), over, o.DryRun); err != nil {
			failed = append(failed, err)
		}
	}
	at := 0
	for i, objects := range listed {
		var going []duty.Object
		for _, object := range objects {
			switch v := verdicts[at]; {
			case v.Over && slices.Contains(over, object.JobID):
				going = append(going, object)
			case v.Stuck:
				results = append(results, Result{object, fmt.Sprintf("job %d", object.JobID), errors.New(v.Why)})
			default:
				o.Log.Debugf("%s is kept: %s", object.Name, v.Why)
			}
			at++
		}
		listed[i] = going
	}
	return append(results, o.remove(ctx, listed)...), failed
}

// list asks all sources at once.
func list(ctx context.Context, o Options) (listed [][]duty.Object, failed []error) {
	listed = make([][]duty.Object, len(o.Sources))
	errs := make([]error, len(o.Sources))
	var group sync.WaitGroup
	for i, source := range o.Sources {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, o.Limit)
			defer cancel()
			errs[i] = safely.Do(func() (err error) {
				listed[i], err = source(ctx)
				return err
			})
		})
	}
	group.Wait()
	return listed, slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func result(o duty.Object) Result {
	r := Result{Object: o, Job: fmt.Sprintf("job %d is over", o.JobID)}
	if o.Finished {
		r.Job = fmt.Sprintf("job %d does not run", o.JobID)
	}
	return r
}

// remove removes objects, those of each source within the limit.
func (o Options) remove(ctx context.Context, listed [][]duty.Object) []Result {
	results := make([][]Result, len(listed))
	var group sync.WaitGroup
	for i, objects := range listed {
		for _, object := range objects {
			results[i] = append(results[i], result(object))
		}
		if !o.DryRun {
			group.Go(func() { removeAll(ctx, results[i], o.Limit) })
		}
	}
	group.Wait()
	return slices.Concat(results...)
}

// atOnce is how many objects of one source are removed at the same time.
const atOnce = 64

// removeAll gives each chain of objects its share of the limit, so that those that hang
// leave time for those that wait for a place.
func removeAll(ctx context.Context, results []Result, limit time.Duration) {
	var chains [][]int // in the order of the list
	known := map[string]int{}
	for i, r := range results {
		if at, there := known[r.Chain]; there && r.Chain != "" {
			chains[at] = append(chains[at], i)
			continue
		}
		known[r.Chain] = len(chains)
		chains = append(chains, []int{i})
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	end, _ := ctx.Deadline()
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, chain := range chains {
		places <- struct{}{}
		rounds := (len(chains) - i + atOnce - 1) / atOnce
		share := time.Until(end) / time.Duration(rounds)
		group.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, share)
			defer cancel()
			var left error
			for _, at := range chain {
				r := &results[at]
				switch {
				case r.Last && errors.Is(left, duty.ErrChanged):
					r.Err = duty.ErrChanged
					continue
				case r.Last && left != nil:
					r.Err = errors.New("left with what belongs to it")
					continue
				}
				r.Err = safely.Do(func() error { return r.Remove(ctx) })
				left = errors.Join(left, r.Err)
			}
		})
	}
	group.Wait()
}
