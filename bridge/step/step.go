package step

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Options say how the program runs.
type Options struct {
	// Program is the path of slurmk8s, which opens a user's file as the user.
	Program string
	// Stepd is the slurmstepd of the step; 0: none, and no task is known.
	Stepd int
	// Hardened is Harden's error, for the log.
	Hardened error
}

// Run serves one step: it answers the request to register, keeps the services alive, and
// removes them at the request to deregister or at the end of input. It returns whether
// all of that succeeded.
func Run(ctx context.Context, in io.Reader, out io.Writer, o Options) bool {
	frames := bufio.NewReader(in)
	first, err := wire.ReadFrame(frames)
	if err != nil {
		return errors.Is(err, io.EOF)
	}
	// From here on only one thing can come: the end.
	end := make(chan wire.Fields, 1)
	go func() {
		fields, _ := wire.ReadFrame(frames)
		end <- fields // nil: slurmstepd died
		close(end)
	}()
	s := &session{fields: first, options: o, out: out, end: end}
	defer s.close()
	return s.run(ctx)
}

// session is one run of the program.
type session struct {
	fields  wire.Fields
	options Options
	out     io.Writer
	end     <-chan wire.Fields
	ended   wire.Fields // what end gave

	cfg  *slurmconf.Config
	log  *logrus.Entry
	sink io.Closer

	req       *request
	of        service.Instance
	specs     []service.Spec // with their namespaces, whoever registers them
	records   service.Records
	registrar *service.Registrar
	regs      []*service.Registration
	rules     *policy.Policy // for what is known only when the job runs
	notice    string         // for the user, when the first task runs; "": none
}

func (s *session) close() {
	if s.sink != nil {
		s.sink.Close()
	}
}

func (s *session) run(ctx context.Context) bool {
	live, stop := s.until(ctx)
	defer stop()
	begin := time.Now()
	env, err := s.register(live)
	s.count("step_register", err, begin)
	if err != nil {
		s.logf(logrus.ErrorLevel, "refused or failed: %v", err)
		// At once, since somebody waits who has a deadline; then what is left. If
		// that takes longer than the step has, the epilog does it.
		_ = wire.WriteFrame(s.out, reply(wire.CodeOf(err), err))
		stop()
		_ = s.deregister()
		return false
	}
	s.logf(logrus.InfoLevel, "registered in %d ms:%s", time.Since(begin).Milliseconds(), s.summary())
	answer := reply(wire.OK, nil)
	for name, value := range env {
		answer[wire.KeySetEnv+name] = value
	}
	if s.registrar == nil {
		answer[wire.KeyOver] = "1"
		_ = wire.WriteFrame(s.out, answer)
		return true
	}
	if wire.WriteFrame(s.out, answer) == nil {
		s.live(live)
	}
	stop()
	begin = time.Now()
	err = s.deregister()
	s.count("step_deregister", err, begin)
	if action, given := s.ended[wire.KeyAction]; given && action != wire.ActionDeregister {
		err = errors.Join(err, fmt.Errorf("no such action: %q", action))
	}
	if s.ended != nil { // somebody waits for the answer
		_ = wire.WriteFrame(s.out, reply(wire.CodeOf(err), err))
	}
	return err == nil
}

// until is a context that ends when the step does.
func (s *session) until(ctx context.Context) (context.Context, context.CancelFunc) {
	live, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		select {
		case s.ended = <-s.end:
		case <-live.Done():
		}
		cancel()
		close(done)
	}()
	return live, func() { cancel(); <-done }
}

// count is for the metrics; without a configuration there are none.
func (s *session) count(what string, err error, begin time.Time) {
	if s.cfg != nil {
		metrics.In(s.cfg.Metrics.Textfile, s.cfg.Services.RunDir).Record(what, int(wire.CodeOf(err)), time.Since(begin))
	}
}

func (s *session) logf(level logrus.Level, format string, args ...any) {
	if s.log != nil {
		s.log.Logf(level, format, args...)
	}
}

func reply(code wire.Code, err error) wire.Fields {
	fields := wire.Fields{wire.KeyCode: strconv.Itoa(int(code))}
	if err != nil {
		fields[wire.KeyMessage] = wire.Line(err.Error())
	}
	return fields
}
