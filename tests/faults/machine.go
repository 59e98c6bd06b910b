package faults

import (
	"context"
	"sync"
	"time"
)

const (
	// interval is how often the machine is measured.
	interval = 300 * time.Millisecond
	// tolerance is how late a measurement may be before deadlines prove nothing: a hook
	// makes up to twenty requests, each as late as that.
	tolerance = 200 * time.Millisecond
	// idleWait bounds how long a run waits until the machine has time for it.
	idleWait = time.Minute
)

// machine tells whether the machine that runs the tests was fast enough to prove
// anything. Deadlines are measured on the clock, and a sound hook misses them on a
// machine that is busy with something else; so does an API server, without any fault.
type machine struct {
	mu    sync.Mutex
	late  time.Time     // when a measurement was late, or failed
	begun time.Time     // the measurement under way, zero if none
	last  time.Duration // what the last one took
}

// watch measures until ctx ends. probe is an undisturbed request to the real API server;
// it may be nil.
func (m *machine) watch(ctx context.Context, probe func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		m.begin()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var err error
		if probe != nil {
			err = probe(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		m.end(err)
	}
}

func (m *machine) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = time.Now()
}

func (m *machine) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = time.Since(m.begun)
	if err != nil || m.last > interval+tolerance {
		m.late = time.Now()
	}
}

// overloaded tells whether a measurement since then was late, or the one under way is.
func (m *machine) overloaded(since time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.late.After(since.Add(-interval)) || !m.begun.IsZero() && time.Since(m.begun) > interval+tolerance
}

// awaitIdle waits, a while at most, until a measurement was in time by a good margin:
// more work for a machine that is overloaded would only prove less.
func (m *machine) awaitIdle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	tick := time.NewTicker(interval / 4)
	defer tick.Stop()
	for !m.idle() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *machine) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	const margin = interval + tolerance/2
	return m.last < margin && (m.begun.IsZero() || time.Since(m.begun) < margin)
}
