package step

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// change is what became known of a service while it lives.
type change struct {
	reg *service.Registration
	at  netip.Addr // which of its addresses answers, or does not
	probe.Answer
	free  bool           // the step that has it is gone
	ports map[int]uint16 // that files said, by their place in the service
}

// live opens each service while it answers, renews the job's Leases and takes over what
// other steps of the job leave, until ctx ends.
func (s *session) live(ctx context.Context) {
	changes := make(chan change)
	attended := map[endpoint]string{}
	s.attend(ctx, changes, attended)
	s.registrar.Announce(s.regs) // now that the job does not wait any more
	if s.notice != "" {
		go s.tellUser(ctx, s.notice)
	}
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
			case c.ports != nil:
				s.take(c)
				s.attend(ctx, changes, attended)
			case c.Late != nil:
				s.registrar.Late(c.reg, c.After, c.Late)
				go s.tellUser(ctx, notReady(c))
			default:
				s.answers(ctx, c)
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

// endpoint is one address of a service, or without one the service.
type endpoint struct {
	reg *service.Registration
	at  netip.Addr
}

// attend probes each service of this step at each of its addresses, and waits once for the
// end of the step on this node that has a shared one; Renew asks again. attended is what it
// began before.
func (s *session) attend(ctx context.Context, changes chan<- change, attended map[endpoint]string) {
	const mine, unknown = "mine", "unknown"
	send := func(c change) {
		select {
		case changes <- c:
		case <-ctx.Done():
		}
	}
	for _, reg := range s.regs {
		was := attended[endpoint{reg: reg}]
		switch {
		case !reg.Shared && len(reg.Unknown()) > 0:
			if was == unknown {
				continue
			}
			attended[endpoint{reg: reg}] = unknown
			spec := reg.Spec
			go s.findPorts(ctx, spec, func(c change) {
				c.reg = reg
				send(c)
			})
		case !reg.Shared:
			attended[endpoint{reg: reg}] = mine
			for i, at := range s.registrar.Addresses(reg) {
				if attended[endpoint{reg, at}] == mine {
					continue
				}
				attended[endpoint{reg, at}] = mine
				second := i > 0
				go s.prober(at, second).Watch(ctx, reg.Spec, func(a probe.Answer) {
					if !second || a.Late == nil { // the service is ready without it: the log says why it is not
						send(change{reg: reg, at: at, Answer: a})
					}
				})
			}
		case reg.Holder.Node == s.req.node && was != reg.Holder.Step:
			attended[endpoint{reg: reg}] = reg.Holder.Step
			go func(holder string) {
				if s.records.Await(ctx, s.req.job.ID, holder) == nil {
					send(change{reg: reg, free: true})
				}
			}(reg.Holder.Step)
		}
	}
}

// findPorts tells the ports that files say once all say one that the user may have, and after the
// service's time to be ready why one does not.
func (s *session) findPorts(ctx context.Context, spec service.Spec, tell func(change)) {
	timeout := cmp.Or(spec.ReadyTimeout, s.cfg.Services.ReadyTimeout.Std())
	late := time.Now().Add(timeout)
	found := map[int]uint16{}
	var pauses kube.Pauses
	for warned := false; ; {
		var missing error
		for _, i := range spec.Unknown() {
			port, err := s.readPort(ctx, spec.Ports[i])
			if err == nil && !s.rules.MayUse(spec, port) {
				err = fmt.Errorf("%s says port %d, which you may not use", spec.Ports[i].File, port)
			}
			missing = cmp.Or(missing, err)
			found[i] = port
		}
		if missing == nil {
			tell(change{ports: found})
			return
		}
		if !warned && time.Now().After(late) {
			warned = true
			s.log.Warnf("%s: not ready after %s: %v", spec.Object(), timeout, missing)
			tell(change{Answer: probe.Answer{Late: missing, After: timeout}})
		}
		if pauses.Wait(ctx) != nil {
			return
		}
	}
}

// take gives a service the ports that files said.
func (s *session) take(c change) {
	c.reg.Ports = slices.Clone(c.reg.Ports)
	for i, port := range c.ports {
		c.reg.Ports[i].Target = port
		s.log.Infof("%s: %s says port %d", c.reg.Object(), c.reg.Ports[i].File, port)
	}
}

func (s *session) prober(at netip.Addr, second bool) *probe.Prober {
	return &probe.Prober{
		Address: at, Second: second, UID: s.req.job.UID,
		Timeout: s.cfg.Services.ReadyTimeout.Std(), Interval: s.cfg.Services.ReadyInterval.Std(),
		File: s.openFile, Log: s.log.WithField("address", at.String()),
	}
}

// answers opens or closes an address of a service to traffic; it tries until that works or
// the step ends.
func (s *session) answers(ctx context.Context, c change) {
	var pauses kube.Pauses
	for {
		err := s.registrar.Answers(ctx, c.reg, c.at, c.Ready)
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
