package faults

import (
	"context"
	"sync"
	"time"
)

const (
	// beat is how often the machine's pulse is taken.
	beat = 300 * time.Millisecond
	// breathless is how late a beat may be before deadlines prove nothing: a hook
	// makes up to twenty requests, each as late as the beat's.
	breathless = 200 * time.Millisecond
	// calmWait bounds how long a cell waits for the machine to get its breath.
	calmWait = 15 * time.Second
)

// pulse tells whether the machine was up to the test. Deadlines are measured on
// the clock, and on a machine that is overrun by something else a sound hook
// misses them; so does an API server that is starved, without any planned fault.
type pulse struct {
	mu      sync.Mutex
	skipped []time.Time // when a beat was late
	begun   time.Time   // the beat under way, zero if none
	last    time.Duration
}

// take takes the pulse until ctx ends. probe is an undisturbed request to the
// real API server.
func (p *pulse) take(ctx context.Context, probe func(context.Context) error) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for ctx.Err() == nil {
		p.set(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if probe != nil {
			if err := probe(ctx); err != nil && ctx.Err() == nil {
				p.note()
			}
		}
		p.mu.Lock()
		p.last = time.Since(p.begun)
		late := p.last > beat+breathless
		p.mu.Unlock()
		if late {
			p.note()
		}
	}
}

func (p *pulse) set(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = t
}

func (p *pulse) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipped = append(p.skipped, time.Now())
}

// weak tells whether a beat was late that touched the time since then, or is.
func (p *pulse) weak(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun.IsZero() && time.Since(p.begun) > beat+breathless {
		return true
	}
	n := len(p.skipped)
	return n > 0 && p.skipped[n-1].After(since.Add(-beat))
}

// calm waits, a while at most, until a beat was in time by a good margin: more
// work for a machine that is out of breath would only void more cells.
func (p *pulse) calm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, calmWait)
	defer cancel()
	tick := time.NewTicker(beat / 4)
	defer tick.Stop()
	for !p.easy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *pulse) easy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	const margin = beat + breathless/2
	return p.last < margin && (p.begun.IsZero() || time.Since(p.begun) < margin)
}
