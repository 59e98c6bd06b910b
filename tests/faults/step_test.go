package faults

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stepProgram is a `slurmk8s step` that runs, as slurmstepd sees it.
type stepProgram struct {
	p       *process
	c       *Job
	in      io.WriteCloser
	replies *bufio.Reader
	stderr  bytes.Buffer
	began   time.Time
	logFrom int // where its log begins: another program may have written before
}

// startStep starts the program as the process that a fault kills, and asks it to
// register.
func startStep(program string, c *Job, p *process, fields map[string]string) (*stepProgram, error) {
	s := &stepProgram{p: p, c: c, logFrom: len(readLog(c.LogFile()))}
	cmd := exec.Command(program, "step")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stderr = &s.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.start(cmd); err != nil {
		return nil, err
	}
	s.in, s.replies, s.began = in, bufio.NewReader(out), time.Now()
	return s, s.send(fields)
}

// send writes one request.
func (s *stepProgram) send(fields map[string]string) error {
	_, err := s.in.Write(append(encode(fields), 0))
	return err
}

// reply reads one answer; its time is since the given one. A program that is late
// is killed.
func (s *stepProgram) reply(since time.Time, deadline time.Duration) *Outcome {
	overrun := time.AfterFunc(time.Until(since.Add(deadline+lateness+2*time.Second)), s.p.Kill)
	o := &Outcome{}
	for {
		text, err := s.replies.ReadString(0)
		if err != nil {
			o.Took, o.Overran = time.Since(since), !overrun.Stop()
			s.gone(o, lateness)
			return o
		}
		if text == "\x00" {
			break
		}
		o.Stdout = append(o.Stdout, text...)
	}
	o.Took, o.Overran = time.Since(since), !overrun.Stop()
	o.Code = -1
	if reply, err := o.Reply(); err == nil {
		if code, err := strconv.Atoi(reply["CODE"]); err == nil {
			o.Code = code
		}
	}
	return o
}

// gone waits for the end that the program comes to by itself; one that does not is
// killed, and has overrun. An answer that was given stays what it is.
func (s *stepProgram) gone(o *Outcome, within time.Duration) {
	overrun := time.AfterFunc(within+lateness, s.p.Kill)
	_ = s.p.wait()
	o.Overran = o.Overran || !overrun.Stop()
	o.Stderr = s.stderr.Bytes()
	if len(o.Stdout) > 0 {
		return
	}
	o.Code = -1
	if status, ok := s.p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		o.Killed = status.Signaled() && status.Signal() == syscall.SIGKILL
	}
}

// kill is what a step's program gets when its slurmstepd dies: proctrack's SIGKILL.
func (s *stepProgram) kill() {
	s.p.Kill()
	_ = s.p.wait()
}

// watch returns what done returns, and before that when the program ends, by a
// fault or by itself; then the Outcome says how.
func (s *stepProgram) watch(ctx context.Context, done func(context.Context) error) (*Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		_, _ = s.replies.ReadByte() // it says nothing: this is its end
		close(ended)
		cancel()
	}()
	err := done(ctx)
	o := &Outcome{}
	select {
	case <-ended:
		s.gone(o, lateness)
	default:
		s.kill()
		<-ended
	}
	return o, err
}

// logged waits until the program's log holds a text so many times.
func (s *stepProgram) logged(ctx context.Context, text string, times int) error {
	for {
		log := readLog(s.c.LogFile())[s.logFrom:]
		if strings.Count(log, text) >= times {
			return nil
		}
		select {
		case <-ctx.Done():
			lines := strings.Split(strings.TrimSpace(log), "\n")
			return fmt.Errorf("not %q in time; the log ends with %s", text, clip(lines[len(lines)-1], 300))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
