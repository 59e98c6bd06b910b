// Package probe finds out whether a service answers, for a step of a job and for
// registrations outside Slurm alike.
package probe

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
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
	Late  error         // why it did not answer in its time; nil: Ready counts
	After time.Duration // that time
}

// Watch reports when a service starts to answer, when it stops, and when it takes too
// long, until ctx ends.
func (p *Prober) Watch(ctx context.Context, s service.Spec, tell func(Answer)) {
	for p.Await(ctx, s, tell) {
		tell(Answer{Ready: true})
		if p.Interval == 0 || s.Ready.Kind == service.ReadyFile || s.Ready.Kind == service.ReadyNone {
			return // a file says that the service has begun, and need not stay
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
		err := p.probe(ctx, s)
		if err == nil {
			failed = 0
			continue
		}
		if failed++; failed == failures && ctx.Err() == nil {
			p.Log.Warnf("%s: no longer answers, failed %d times: %v", s.Object(), failed, err)
			return true
		}
	}
}

// Await returns true when the service answers, false when ctx ends first. If it takes too
// long, Await reports that once and continues.
func (p *Prober) Await(ctx context.Context, s service.Spec, tell func(Answer)) bool {
	timeout := s.ReadyTimeout
	if timeout == 0 {
		timeout = p.Timeout
	}
	late := time.Now().Add(timeout)
	warned := false
	for pause := firstPause; ; pause = min(pause*3/2, longPause) {
		asking, cancel := ctx, context.CancelFunc(func() {})
		if s.Ready.Kind == service.ReadyFile && !warned { // which else is asked for ever, by one process
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

func (p *Prober) probe(ctx context.Context, s service.Spec) error {
	at := func(port service.Port) netip.AddrPort { return netip.AddrPortFrom(p.Address, port.Target) }
	switch s.Ready.Kind {
	case service.ReadyNone:
		return nil
	case service.ReadyFile:
		return p.File(ctx, s.Ready.Path)
	case service.ReadyHTTP, service.ReadyHTTPS:
		return askHTTP(ctx, s.Ready.Kind, at(s.Probed()[0]), s.Ready.Path)
	}
	for _, port := range s.Probed() {
		if err := askTCP(ctx, at(port)); err != nil {
			return err
		}
	}
	return nil
}

// AwaitFile returns when the file can be opened. Call it as the owner of the file.
func AwaitFile(ctx context.Context, path string) error {
	for pause := firstPause; ; pause = min(pause*3/2, longPause) {
		err := openFile(path)
		if err == nil {
			return nil
		}
		if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
