package reconcile

import (
	"context"
	"fmt"
)

// Cleanup removes all that is kept for one job. Without Force the job must be over, by
// the same evidence as for Run.
func Cleanup(ctx context.Context, o Options, id uint32) (results []Result, failed []error) {
	listed, failed := list(ctx, o)
	var objects []Object
	for _, some := range listed {
		for _, object := range some {
			if object.JobID == id {
				objects = append(objects, object)
			}
		}
	}
	if o.DryRun {
		for _, object := range objects {
			results = append(results, result(object))
		}
		return results, failed
	}
	if !o.Force {
		asking, cancel := context.WithTimeout(ctx, o.Limit)
		defer cancel()
		verdicts, err := o.Guard.Judge(asking, objects)
		if err != nil {
			return nil, append(failed, fmt.Errorf("%w (--force removes it anyway)", err))
		}
		for _, v := range verdicts {
			if !v.Over {
				return nil, append(failed, fmt.Errorf("nothing was touched: %s (--force removes it anyway)", v.Why))
			}
		}
	}
	return Remove(ctx, objects, o.Limit), failed
}
