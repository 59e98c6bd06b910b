package reconcile

import (
	"context"
	"fmt"
	"slices"
)

// Cleanup removes all that is kept for one job, which is all that the sources list.
// Without Force the job must be over, by the same evidence as for Run.
func Cleanup(ctx context.Context, o Options) (results []Result, failed []error) {
	listed, failed := list(ctx, o)
	if !o.Force && !o.DryRun {
		asking, cancel := context.WithTimeout(ctx, o.Limit)
		defer cancel()
		verdicts, err := o.Guard.Judge(asking, slices.Concat(listed...))
		if err != nil {
			return nil, append(failed, fmt.Errorf("%w (--force removes it anyway)", err))
		}
		for _, v := range verdicts {
			if !v.Over {
				return nil, append(failed, fmt.Errorf("nothing was touched: %s (--force removes it anyway)", v.Why))
			}
		}
	}
	return o.remove(ctx, listed), failed
}
