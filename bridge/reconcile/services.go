package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/anchor"
	"slurmk8s.io/slurmk8s/bridge/mark"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// ServiceOptions say where services are looked for.
type ServiceOptions struct {
	Sweeper    *service.Sweeper
	Slurm      slurm.Commands
	Namespaces []string // "" is all
	DryRun     bool     // only report
	Log        *logrus.Entry
}

// Services removes the services of jobs that hold no nodes any more: slurmd or the
// node died, so that no epilog ran, or the API server was down during it. When
// Slurm does not answer, nothing is touched.
func Services(ctx context.Context, o ServiceOptions) ([]Result, error) {
	// First the objects, then the jobs: a job runs before its first object is made.
	var all []service.Left
	for _, namespace := range o.Namespaces {
		some, err := o.Sweeper.List(ctx, namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	running, err := o.Slurm.RunningJobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
	}
	over := map[uint32][]int{} // of each job its results, in the order of removal
	var left []service.Left
	var results []Result
	for _, l := range all {
		if !running[l.ID] {
			over[l.ID] = append(over[l.ID], len(results))
			left = append(left, l)
			results = append(results, Result{Object: l.Object(), JobID: l.ID})
		}
	}
	if o.DryRun {
		return results, nil
	}
	const atOnce = 16
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, of := range over {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			for _, i := range of {
				// A Lease that goes before the rest would leave nothing to find it by.
				if results[i].Err = o.Sweeper.Remove(ctx, left[i]); results[i].Err != nil {
					for _, rest := range of {
						if rest > i {
							results[rest].Err = errors.New("left with the object before it")
						}
					}
					return
				}
			}
		})
	}
	group.Wait()
	return results, nil
}

// Marks does on a node what the epilogs of its jobs could not.
func Marks(ctx context.Context, o ServiceOptions, marks mark.Dir, node string) ([]Result, error) {
	jobs, err := marks.Jobs()
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	running, err := o.Slurm.RunningJobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
	}
	var results []Result
	for _, id := range jobs {
		if running[id] {
			continue
		}
		result := Result{Object: "services that were made on node " + node, JobID: id}
		if !o.DryRun {
			result.Err = sweep(ctx, o, marks, id, node)
		}
		results = append(results, result)
	}
	return results, nil
}

func sweep(ctx context.Context, o ServiceOptions, marks mark.Dir, id uint32, node string) error {
	namespaces, err := marks.Namespaces(id)
	if err != nil || len(namespaces) == 0 {
		namespaces = o.Namespaces
	}
	// Whatever run of the job made it: the job does not run.
	job := anchor.Job{Cluster: o.Sweeper.Cluster, ID: id, Restarts: math.MaxUint32}
	for _, namespace := range namespaces {
		if err := o.Sweeper.Job(ctx, namespace, job, node); err != nil {
			return err
		}
	}
	return marks.Forget(id)
}
