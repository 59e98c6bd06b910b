package step

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/probe"
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

// prober finds out when services answer, where pods would ask: at the address that
// is published, not at loopback.
type prober struct{ *session }

// answer is what became known of a service.
type answer struct {
	ready bool
	late  error         // why it did not answer in its time; nil: ready counts
	after time.Duration // that time
}

// watch tells when a service begins to answer, when it no longer does, and that it takes
// too long, until ctx ends.
func (p *prober) watch(ctx context.Context, s service.Spec, tell func(answer)) {
	interval := p.cfg.Services.ReadyInterval.Std()
	for p.await(ctx, s, tell) {
		tell(answer{ready: true})
		if interval == 0 || s.Ready.Kind != service.ReadyTCP && s.Ready.Kind != service.ReadyHTTP {
			return // a file says that the service has begun, and need not stay
		}
		if !p.untilSilent(ctx, s, interval) {
			return
		}
		tell(answer{})
	}
}

// untilSilent returns true when the service does not answer any more, false when ctx
// ends before.
func (p *prober) untilSilent(ctx context.Context, s service.Spec, interval time.Duration) bool {
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(interval):
		}
		err := p.probe(ctx, s)
		if err == nil {
			failed = 0
			continue
		}
		if failed++; failed == failures && ctx.Err() == nil {
			p.log.Warnf("%s: does not answer any more, %d times: %v", s.Object(), failed, err)
			return true
		}
	}
}

// await returns true when the service answers, false when ctx ends before. It tells once
// that it takes too long.
func (p *prober) await(ctx context.Context, s service.Spec, tell func(answer)) bool {
	timeout := s.ReadyTimeout
	if timeout == 0 {
		timeout = p.cfg.Services.ReadyTimeout.Std()
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
				p.log.Warnf("%s: not ready after %s, still asked now and then: %v", s.Object(), timeout, err)
				tell(answer{late: err, after: timeout})
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

func (p *prober) probe(ctx context.Context, s service.Spec) error {
	at := func(port service.Port) netip.AddrPort { return netip.AddrPortFrom(p.registrar.Address, port.Target) }
	switch s.Ready.Kind {
	case service.ReadyNone:
		return nil
	case service.ReadyFile:
		return p.file(ctx, s.Ready.Path)
	case service.ReadyHTTP:
		return probe.HTTP(ctx, at(s.Ports[0]), s.Ready.Path)
	}
	for _, port := range s.Ports { // an endpoint is ready as a whole
		if err := probe.TCP(ctx, at(port)); err != nil {
			return err
		}
	}
	return nil
}

// file waits in a process of the user's until the user can open the file. It lasts
// as long as the wait does, so that a hanging file system hangs it and not us.
func (p *prober) file(ctx context.Context, path string) error {
	groups := p.req.groups
	if groups == nil {
		var err error
		if groups, err = policy.Groups(ctx, p.req.job.User, p.req.gid); err != nil {
			return err
		}
	}
	cmd := exec.Command(p.options.Program, "await-file", path)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.req.job.UID, Gid: p.req.gid, Groups: groups}
	} else if uint32(os.Geteuid()) != p.req.job.UID {
		return fmt.Errorf("open %s: not root, and not the user", path)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open %s as user %s: %w", path, p.req.job.User, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("open %s as user %s: %w", path, p.req.job.User, err)
		}
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return fmt.Errorf("user %s cannot open %s", p.req.job.User, path)
	}
}

// AwaitFile returns when the file can be opened. It runs as the user.
func AwaitFile(ctx context.Context, path string) error {
	for pause := firstPause; ; pause = min(pause*3/2, longPause) {
		err := probe.File(path)
		if err == nil {
			return nil
		}
		if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
