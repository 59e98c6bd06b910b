package step

import (
	"context"
	"math/rand/v2"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
)

// live opens each service while it answers and renews the job's Leases, until ctx
// ends.
func (s *session) live(ctx context.Context) {
	type change struct {
		reg *service.Registration
		answer
	}
	changes := make(chan change)
	p := &prober{session: s}
	for _, reg := range s.regs {
		if !reg.Shared {
			go p.watch(ctx, reg.Spec, func(a answer) {
				select {
				case changes <- change{reg, a}:
				case <-ctx.Done():
				}
			})
		}
	}
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
			if c.late != nil {
				s.registrar.Late(c.reg, c.after, c.late)
				continue
			}
			s.become(ctx, c.reg, c.ready)
		case <-renewal.C:
			next := interval
			if s.registrar != nil {
				limit, cancel := context.WithTimeout(ctx, interval)
				if err := s.registrar.Renew(limit, s.regs, interval); err != nil && ctx.Err() == nil {
					s.log.Warnf("renew: %v", err)
					next = interval / 3
				}
				cancel()
			}
			renewal.Reset(next)
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
// keeps its mark for the epilog.
func (s *session) deregister() error {
	if s.registrar == nil {
		return s.unmark()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit(s.cfg.Services.DeregisterTimeout, s.ended))
	defer cancel()
	begin := time.Now()
	if err := s.registrar.Deregister(ctx, s.regs); err != nil {
		s.log.Errorf("left to the epilog: %v", err)
		return err
	}
	s.log.Infof("deregistered in %d ms", time.Since(begin).Milliseconds())
	return s.unmark()
}

func (s *session) unmark() error {
	if !s.marked {
		return nil
	}
	return s.marks.Remove(s.req.job.ID)
}
