package faults

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/job"
)

const (
	// isReady is what the log says of a service that is; another may be not ready.
	isReady = ": ready at"
	// wasTold is what the log says of an Event that was answered, or in vain. They are
	// told beside the work. That they come is no part of any word that is kept, but each
	// is waited for, so that requests have the same numbers in each run.
	wasTold = "audit: create events"
	// tellTime is longer than the bridge takes for one.
	tellTime = 1200 * time.Millisecond
	// unaskedLimit is how long a step program tries to take away what it has made when
	// nobody told it a deadline for that.
	unaskedLimit = 15 * time.Second
	// preparation bounds what comes before the faults.
	preparation = 20 * time.Second
	// look is how often the API server is asked what became of a job: many ask.
	look = 400 * time.Millisecond
)

// action is one thing that happens in a step, played by slurmstepd.
type action struct {
	ctx   context.Context
	w     *world
	s     serviceSituation
	c     *Job
	p     *process
	begin func()
	told  int // Events of the preparation
}

func (a *action) milliseconds() string { return strconv.FormatInt(a.s.deadline.Milliseconds(), 10) }

func (a *action) start() (*stepProgram, error) {
	return startStep(a.w.program, a.c, a.p, map[string]string{
		"CONFIG": a.c.Path("c1.toml"), "JOB_ID": strconv.Itoa(a.c.JobID), "STEP_ID": a.s.step, "UID": "0", "GID": "0",
		"NODE": "c1", "NODELIST": "c[1-2]", "NODE_RANK": "0", "RESTART_COUNT": "0", "ARRAY_JOB_ID": strconv.Itoa(a.c.JobID), "ARRAY_TASK_ID": "0",
		"K8S_REGISTER": specOf(a.c, a.s.spec), "DEADLINE_MS": a.milliseconds(),
	})
}

// live starts a step program and returns when each of its services is as far as the
// log says; what then happens is disturbed.
func (a *action) live(log string) (*stepProgram, error) {
	s, err := a.start()
	if err != nil {
		return nil, err
	}
	o := s.reply(s.began, preparation)
	if o.Killed || o.Code != CodeOK {
		return nil, fmt.Errorf("preparation: the step program answered %q", o.Stdout)
	}
	ctx, cancel := context.WithTimeout(a.ctx, preparation)
	defer cancel()
	services := strings.Count(a.s.spec, ";") + 1
	a.told = services // Registered
	if log == isReady {
		a.told *= 2
	}
	err = s.logged(ctx, log, services)
	if err == nil {
		err = s.logged(ctx, wasTold, a.told)
	}
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("preparation: %w", err)
	}
	return s, nil
}

// tell gives the Events of this moment the time to come, if they do.
func (a *action) tell(ctx context.Context, s *stepProgram) error {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	_ = s.logged(ctx, wasTold, a.told+a.s.tells)
	return nil
}

// register is from the start of the program to its answer, and what it tells after it.
// Then slurmstepd dies, or the program, which takes away what it has made.
func register(a *action) (*Outcome, error) {
	a.begin()
	s, err := a.start()
	if err != nil {
		return nil, err
	}
	o := s.reply(s.began, a.s.deadline)
	switch {
	case o.Killed:
	case o.Code == CodeOK:
		after, err := s.watch(a.ctx, func(ctx context.Context) error { return a.tell(ctx, s) })
		o.Killed = after.Killed
		return o, err
	default:
		s.gone(o, unaskedLimit)
	}
	return o, nil
}

// becomeReady is from the moment that the job's port answers.
func becomeReady(a *action) (*Outcome, error) {
	s, err := a.live("registered in")
	if err != nil {
		return nil, err
	}
	a.begin()
	port, err := net.Listen("tcp", net.JoinHostPort(a.w.address.String(), strconv.Itoa(portOf(a.c))))
	if err != nil {
		s.kill()
		return nil, err
	}
	defer port.Close()
	return a.await(s, func(ctx context.Context) error { return s.logged(ctx, isReady, 1) })
}

// renew is from a service that is ready to its Lease's renewal.
func renew(a *action) (*Outcome, error) {
	s, err := a.live(isReady)
	if err != nil {
		return nil, err
	}
	lease := func(ctx context.Context) (string, error) {
		o, err := a.w.client.Resource(job.Leases).Namespace(a.c.Namespace).
			Get(ctx, fmt.Sprintf("slurm-%s-%d", a.c.Cluster, a.c.JobID), metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return o.GetResourceVersion(), nil
	}
	before, err := lease(a.ctx)
	if err != nil {
		s.kill()
		return nil, err
	}
	a.begin()
	return a.await(s, until(func(ctx context.Context) (bool, error) {
		now, err := lease(ctx)
		return err == nil && now != before, err
	}))
}

// restore is the renewal that finds everything removed.
func restore(a *action) (*Outcome, error) {
	s, err := a.live(isReady)
	if err != nil {
		return nil, err
	}
	own, _, err := a.w.objects(a.ctx, a.c.Site)
	if err == nil {
		err = a.w.remove(a.ctx, a.c.Site, own)
	}
	if err != nil {
		s.kill()
		return nil, err
	}
	a.begin()
	return a.await(s, until(func(ctx context.Context) (bool, error) {
		now, _, err := a.w.objects(ctx, a.c.Site)
		return err == nil && len(now) == len(own), err
	}))
}

// until waits for a condition of the API server's objects.
func until(holds func(context.Context) (bool, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			yes, err := holds(ctx)
			if yes {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("not seen in time (%w)", err)
			case <-time.After(look):
			}
		}
	}
}

// await makes an Outcome of what a program does unasked: done, or not in time.
func (a *action) await(s *stepProgram, done func(context.Context) error) (*Outcome, error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.s.deadline)
	defer cancel()
	began := time.Now()
	o, err := s.watch(ctx, func(ctx context.Context) error {
		if err := done(ctx); err != nil {
			return err
		}
		return a.tell(ctx, s)
	})
	o.Took = min(time.Since(began), a.s.deadline)
	if err != nil && !o.Killed && o.Code == CodeOK {
		o.Code, o.Stdout = CodeFailed, []byte("MESSAGE="+strings.ReplaceAll(err.Error(), "\n", " ")+"\x00")
	}
	return o, nil
}

// deregister is the end of a step whose services are ready.
func deregister(a *action) (*Outcome, error) {
	s, err := a.live(isReady)
	if err != nil {
		return nil, err
	}
	a.begin()
	began := time.Now()
	if err := s.send(map[string]string{"ACTION": "deregister", "DEADLINE_MS": a.milliseconds()}); err != nil {
		s.kill()
		return nil, err
	}
	o := s.reply(began, a.s.deadline)
	if !o.Killed && !o.Overran {
		s.gone(o, lateness)
	}
	return o, nil
}

// afterKill is a hook that comes after a step program was killed. What an epilog
// could not do is a message; one that fails would drain its node.
func afterKill(a *action) (*Outcome, error) {
	s, err := a.live(isReady)
	if err != nil {
		return nil, err
	}
	s.kill()
	a.begin()
	command := a.s.hook(a.w, a.c)
	o, err := a.p.Run(a.ctx, command, a.s.deadline)
	if err != nil || command.ForPeople || o.Killed {
		return o, err
	}
	switch {
	case o.Code != CodeOK:
		o.Code = -1
	case len(o.Stdout) > 0:
		o.Code = CodeFailed
	}
	return o, nil
}
