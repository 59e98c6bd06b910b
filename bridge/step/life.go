package step

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// change is what became known of a service while it lives.
type change struct {
	reg *service.Registration
	probe.Answer
	free bool // the step that has it is gone
}

// live opens each service while it answers, renews the job's Leases and takes over what
// other steps of the job leave, until ctx ends.
func (s *session) live(ctx context.Context) {
	changes := make(chan change)
	attended := map[*service.Registration]string{}
	s.attend(ctx, changes, attended)
	s.registrar.Announce(s.regs) // now that the job does not wait any more
	interval := s.cfg.Services.RenewInterval.Std()
	// Steps that began together do not renew together.
	renewal := time.NewTimer(interval/2 + rand.N(interval/2))
	defer renewal.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-changes:
			switch {
			case c.free:
				renewal.Reset(0)
			case c.Late != nil:
				s.registrar.Late(c.reg, c.After, c.Late)
				go s.tellUser(ctx, notReady(c))
			default:
				s.become(ctx, c.reg, c.Ready)
			}
		case <-renewal.C:
			next := interval
			limit, cancel := context.WithTimeout(ctx, interval)
			if err := s.registrar.Renew(limit, s.regs, interval); err != nil && ctx.Err() == nil {
				s.log.Warnf("renew: %v", err)
				next = interval / 3
			}
			cancel()
			s.attend(ctx, changes, attended)
			renewal.Reset(next)
		}
	}
}

// notReady is what the user reads in the job's own output.
func notReady(c change) string {
	after := ""
	if c.After > 0 {
		after = fmt.Sprintf(" after %s", c.After)
	}
	return wire.Line(fmt.Sprintf("slurmk8s: %s is not ready%s: %v", c.reg.Object(), after, c.Late))
}

// attend probes each service of this step, and waits once for the end of the step on this
// node that has a shared one; Renew asks again. attended is what it began before.
func (s *session) attend(ctx context.Context, changes chan<- change, attended map[*service.Registration]string) {
	const mine = "mine"
	send := func(c change) {
		select {
		case changes <- c:
		case <-ctx.Done():
		}
	}
	prober := &probe.Prober{
		Address: s.registrar.Address, UID: s.req.job.UID, Timeout: s.cfg.Services.ReadyTimeout.Std(), Interval: s.cfg.Services.ReadyInterval.Std(),
		File: s.openFile, Log: s.log,
	}
	for _, reg := range s.regs {
		switch {
		case !reg.Shared && attended[reg] != mine:
			attended[reg] = mine
			go prober.Watch(ctx, reg.Spec, func(a probe.Answer) { send(change{reg: reg, Answer: a}) })
		case reg.Shared && reg.Holder.Node == s.req.node && attended[reg] != mine && attended[reg] != reg.Holder.Step:
			attended[reg] = reg.Holder.Step
			go func(holder string) {
				if s.records.Await(ctx, s.req.job.ID, holder) == nil {
					send(change{reg: reg, free: true})
				}
			}(reg.Holder.Step)
		}
	}
}

// become opens or closes a service to traffic; it tries until that works or the step
// ends.
func (s *session) become(ctx context.Context, reg *service.Registration, ready bool) {
	change := s.registrar.NotReady
	if ready {
		change = s.registrar.Ready
	}
	var pauses kube.Pauses
	for {
		err := change(ctx, reg)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Warn(err)
		if pauses.Wait(ctx) != nil {
			return
		}
	}
}

// deregister takes everything away within its deadline. The step may have ended
// for any reason, so that it has a context of its own. What cannot be removed
// keeps its record for the epilog.
func (s *session) deregister() error {
	if s.registrar == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit(s.ended))
	defer cancel()
	begin := time.Now()
	if err := s.registrar.Deregister(ctx, s.regs); err != nil {
		s.log.Errorf("left to the epilog: %v", err)
		return err
	}
	s.log.Infof("deregistered in %d ms", time.Since(begin).Milliseconds())
	if service.LeftBehind(s.regs) {
		return nil // the record stays too, for the case that the other step is killed
	}
	return s.records.Remove(ctx, s.req.job.ID)
}
