package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"slurmk8s.io/slurmk8s/bridge/safely"
)

// TakeAll makes all nodes of a job ready from one host, as PrologSlurmctld does for a site
// without credentials on its nodes. All nodes are closed before the first pod is evicted,
// so that no pod moves to another node of the job. The error is that of the first node
// that failed. The nodes are then still held; GiveBackAll restores them.
func (b *Driver) TakeAll(ctx context.Context, slurmNodes []string, h Claim, terms Terms) (Outcome, error) {
	closing, cancel := context.WithTimeout(ctx, b.Cfg.APITimeout.Std())
	defer cancel()
	names := make([]string, len(slurmNodes)) // "": Kubernetes does not know it
	err := b.each(closing, len(slurmNodes), func(ctx context.Context, i int) error {
		name, err := b.Name(ctx, slurmNodes[i])
		if err != nil || name == "" {
			return err
		}
		known, err := b.Claim(ctx, name, h)
		if known {
			names[i] = name
		}
		return onNode(name, err)
	})
	if err != nil {
		return Outcome{}, err
	}
	if h.Mode != Reclaim {
		return Outcome{}, nil
	}
	closed := time.Now()
	var mutex sync.Mutex
	var total Outcome
	// All nodes at once: each mostly waits, and the requests are bounded as a whole.
	err = b.all(ctx, len(names), len(names), func(ctx context.Context, i int) error {
		if names[i] == "" {
			return nil
		}
		outcome, err := b.Empty(ctx, names[i], h, terms, closed)
		var stuck *StuckError
		if errors.As(err, &stuck) {
			stuck.Node = slurmNodes[i]
		}
		mutex.Lock()
		defer mutex.Unlock()
		total.Evicted += outcome.Evicted
		total.Kept += outcome.Kept
		total.Ignored += outcome.Ignored
		return onNode(names[i], err)
	})
	return total, err
}

// GiveBackAll gives back those of a job's nodes that this run of it, or an earlier one,
// holds. A node that fails does not stop the others.
func (b *Driver) GiveBackAll(ctx context.Context, slurmNodes []string, job, restarts uint32) error {
	var mutex sync.Mutex
	var failed []error
	_ = b.each(ctx, len(slurmNodes), func(ctx context.Context, i int) error {
		name, err := b.Name(ctx, slurmNodes[i])
		if err == nil && name != "" {
			err = b.Release(ctx, name, RunOf(job, restarts))
		}
		if err != nil {
			mutex.Lock()
			defer mutex.Unlock()
			failed = append(failed, onNode(slurmNodes[i], err))
		}
		return nil
	})
	return errors.Join(failed...)
}

// onNode names the node of an error.
func onNode(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("node %s: %w", name, err)
}

// each calls f for 0 to n-1, nodes.parallel at once.
func (b *Driver) each(ctx context.Context, n int, f func(context.Context, int) error) error {
	return b.all(ctx, n, max(b.Cfg.Parallel, 1), f)
}

// all calls f for 0 to n-1, some at once. The first error ends the others and is
// returned.
func (b *Driver) all(ctx context.Context, n, atOnce int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, max(atOnce, 1))
	var group sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if err := safely.Do(func() error { return f(ctx, i) }); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
