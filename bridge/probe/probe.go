// Package probe finds out whether the job answers for a service, and not somebody else on
// its node; for a step of a job and for registrations outside Slurm alike.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/service"
)

// How often a service is asked whether it answers: soon at first, since a job
// waits for it, and rarely once it has taken longer than it was to.
const (
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	latePause  = 5 * time.Second
)

// failures is how often in a row a service that was ready must not answer to be so no
// longer: Kubernetes's own default for pods.
const failures = 3

// Prober finds out when services answer, at the address that is published to pods and
// not at loopback.
type Prober struct {
	Address netip.Addr
	// Second: another address decides whether the service is ready, and this one only
	// whether it is published too. So nobody waits for a file, and with ready=none or
	// ready=file the user must listen on every port: many servers listen on IPv4 alone.
	Second bool
	// UID is the user whose sockets count: another one's never make a service ready.
	UID uint32
	// Timeout is ready-timeout where a service names none.
	Timeout time.Duration
	// Interval is how often a service is asked that was ready; 0: never again.
	Interval time.Duration
	// File returns when the user can open a file, or ctx ends.
	File func(ctx context.Context, path string) error
	Log  *logrus.Entry
}

// Answer is the result of probing a service.
type Answer struct {
	Ready bool
	Late  error         // why it does not answer; nil: Ready counts
	After time.Duration // the time that it had; 0: it is a *TakenError, told at once
}

// Watch reports when a service starts to answer, when it stops, and when it takes too
// long, until ctx ends.
func (p *Prober) Watch(ctx context.Context, s service.Spec, tell func(Answer)) {
	for p.Await(ctx, s, tell) {
		tell(Answer{Ready: true})
		if p.Interval == 0 {
			return
		}
		if !p.untilSilent(ctx, s) {
			return
		}
		tell(Answer{})
	}
}

// untilSilent returns true when the service does not answer any more, false when ctx
// ends before.
func (p *Prober) untilSilent(ctx context.Context, s service.Spec) bool {
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(p.Interval):
		}
		err := p.probeAgain(ctx, s)
		if err == nil {
			failed = 0
			continue
		}
		failed++
		var taken *TakenError
		if (failed == failures || errors.As(err, &taken)) && ctx.Err() == nil {
			p.Log.Warnf("%s: no longer answers, failed %d times: %v", s.Object(), failed, err)
			return true
		}
	}
}

// Await returns true when the service answers, false when ctx ends first. If it takes too
// long, Await reports that once and continues; so too, without delay, if another user has
// its port.
func (p *Prober) Await(ctx context.Context, s service.Spec, tell func(Answer)) bool {
	timeout := s.ReadyTimeout
	if timeout == 0 {
		timeout = p.Timeout
	}
	late := time.Now().Add(timeout)
	warned, warnedOfTaken := false, false
	for pause := firstPause; ; pause = min(pause*3/2, longPause) {
		asking, cancel := ctx, context.CancelFunc(func() {})
		if s.Ready.Kind == service.ReadyFile && !warned { // which else is waited for past that time
			asking, cancel = context.WithDeadline(ctx, late)
		}
		err := p.probe(asking, s)
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if taken := (*TakenError)(nil); errors.As(err, &taken) && !warnedOfTaken {
			p.Log.Warnf("%s: not ready: %v", s.Object(), err)
			tell(Answer{Late: err})
			warnedOfTaken = true
		}
		if time.Now().After(late) {
			if !warned {
				p.Log.Warnf("%s: not ready after %s, probed less often from now on: %v", s.Object(), timeout, err)
				tell(Answer{Late: err, After: timeout})
				warned = true
			}
			pause = latePause
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// probe asks as the user wishes. Whoever may answer at a port, nobody else may have it.
func (p *Prober) probe(ctx context.Context, s service.Spec) error {
	if s.Internal() {
		return nil
	}
	for _, port := range s.Ports {
		if err := p.taken(port); err != nil {
			return err
		}
	}
	switch s.Ready.Kind {
	case service.ReadyNone, service.ReadyFile:
		if p.Second {
			return p.listensOnAll(s.Ports)
		}
		if s.Ready.Kind == service.ReadyNone {
			return nil
		}
		return p.File(ctx, s.Ready.Path)
	}
	for _, port := range s.Probed() {
		if err := p.listens(port); err != nil {
			return err
		}
		at := netip.AddrPortFrom(p.Address, port.Target)
		var err error
		if s.Ready.Kind == service.ReadyTCP {
			err = askTCP(ctx, at)
		} else {
			err = askHTTP(ctx, s.Ready.Kind, at, s.Ready.Path)
		}
		if err != nil {
			return fmt.Errorf("port %d: %w", port.Target, err)
		}
	}
	return nil
}

func (p *Prober) listensOnAll(ports []service.Port) error {
	for _, port := range ports {
		if err := p.listens(port); err != nil {
			return err
		}
	}
	return nil
}

// probeAgain asks a service that was ready. A file says that it has begun, and need not
// stay.
func (p *Prober) probeAgain(ctx context.Context, s service.Spec) error {
	if s.Ready.Kind == service.ReadyFile {
		s.Ready.Kind = service.ReadyNone
	}
	return p.probe(ctx, s)
}
