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

	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Options say what is compared, and how long that may take.
type Options struct {
	Duties []Duty
	Guard  Guard
	Brake  Brake
	// Limit bounds each duty's List, the questions to Slurm, and each duty's removals.
	Limit time.Duration
	// Spread is how long the first question to Slurm is put off.
	Spread time.Duration
	DryRun bool // only report
	Force  bool // without the brake
	Log    *logrus.Entry
}

// Result is what became of one object.
type Result struct {
	Object
	Job string // what is known of the job: "job 12 is over"
	Err error  // why the object is still there; nil: it is gone, or would be
}

// ErrHidden is what a credential may not see. Each host reconciles the rest itself.
var ErrHidden = errors.New("this credential may not see it")

// Run removes what is kept for jobs that are over. The duties are independent of each
// other: what one cannot list, or cannot remove in time, costs the others nothing.
func Run(ctx context.Context, o Options) (results []Result, failed []error) {
	listed, failed := list(ctx, o)
	all := slices.Concat(listed...)
	if len(all) == 0 {
		return nil, failed
	}
	if o.Spread > 0 {
		if err := pause(ctx, o.Spread); err != nil {
			return nil, append(failed, err)
		}
	}
	asking, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	verdicts, err := o.Guard.Judge(asking, all)
	if err != nil {
		return nil, append(failed, err)
	}
	var over []Object
	for i, v := range verdicts {
		switch {
		case v.Over:
			over = append(over, all[i])
		case v.Stuck:
			results = append(results, Result{all[i], fmt.Sprintf("job %d", all[i].JobID), errors.New(v.Why)})
		default:
			o.Log.Debugf("%s is kept: %s", all[i].Name, v.Why)
		}
	}
	if !o.Force {
		if over, err = o.Brake.Hold(all, over, o.DryRun); err != nil {
			failed = append(failed, err)
		}
	}
	if o.DryRun {
		for _, object := range over {
			results = append(results, result(object))
		}
		return results, failed
	}
	return append(results, Remove(ctx, over, o.Limit)...), failed
}

// list asks all duties at once.
func list(ctx context.Context, o Options) (listed [][]Object, failed []error) {
	listed = make([][]Object, len(o.Duties))
	errs := make([]error, len(o.Duties))
	var group sync.WaitGroup
	for i, d := range o.Duties {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, o.Limit)
			defer cancel()
			errs[i] = safely.Do(func() (err error) {
				listed[i], err = d.List(ctx)
				return err
			})
			for j := range listed[i] {
				listed[i][j].duty = i
			}
		})
	}
	group.Wait()
	return listed, slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func result(o Object) Result {
	r := Result{Object: o, Job: fmt.Sprintf("job %d is over", o.JobID)}
	if o.Finished {
		r.Job = fmt.Sprintf("job %d does not run", o.JobID)
	}
	return r
}

// atOnce is how many objects of one duty are removed at the same time.
const atOnce = 64

// Remove removes objects, those of each duty within limit.
func Remove(ctx context.Context, objects []Object, limit time.Duration) []Result {
	results := make([]Result, len(objects))
	duties := map[int][][]int{} // of each duty its chains, in the order of the list
	at := map[string]int{}
	for i, o := range objects {
		results[i] = result(o)
		key := fmt.Sprintf("%d %s", o.duty, o.Chain)
		if place, known := at[key]; known && o.Chain != "" {
			duties[o.duty][place] = append(duties[o.duty][place], i)
			continue
		}
		at[key] = len(duties[o.duty])
		duties[o.duty] = append(duties[o.duty], []int{i})
	}
	var group sync.WaitGroup
	for _, chains := range duties {
		group.Go(func() { removeChains(ctx, results, chains, limit) })
	}
	group.Wait()
	return results
}

// removeChains gives each chain its share of the limit, so that those that hang leave
// time for those that wait for a place.
func removeChains(ctx context.Context, results []Result, chains [][]int, limit time.Duration) {
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
			left := false
			for _, at := range chain {
				r := &results[at]
				if r.Last && left {
					r.Err = errors.New("left with what belongs to it")
					continue
				}
				r.Err = safely.Do(func() error { return r.Remove(ctx) })
				left = left || r.Err != nil
			}
		})
	}
	group.Wait()
}
