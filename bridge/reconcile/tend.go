package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Tend does what duties have to do from time to time besides what Run removes, whose errors
// are known: a duty that Kubernetes told nothing of waits for the next run. Each has the limit
// for itself.
func Tend(ctx context.Context, duties []duty.Duty, h duty.Host, limit time.Duration, known []error) (failed []error) {
	for _, d := range duties {
		unlisted := func(err error) bool {
			var e *listError
			return errors.As(err, &e) && e.of == d && !errors.Is(err, duty.ErrHidden)
		}
		tended, ok := d.(duty.Tended)
		if !ok || slices.ContainsFunc(known, unlisted) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		if err := safely.Do(func() error { return tended.Tend(limited, h) }); err != nil {
			failed = append(failed, err)
		}
		cancel()
	}
	return failed
}
