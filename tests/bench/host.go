package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is a bbhost: the process that stands for slurmctld and slurmscriptd.
type host struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// outcome is what a hook did; see harness/bbhost.c.
type outcome struct {
	code       int
	begin, end time.Duration // of the monotonic clock
	cpu        time.Duration
	maxRSSKB   int64
	text       string
}

func (o outcome) ms() float64 { return milliseconds(o.end - o.begin) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// monotonic is CLOCK_MONOTONIC, which bbhost reads too.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // Linux has this clock
	}
	return time.Duration(t.Nano())
}

// startHost starts a bbhost that ends with ctx. before is put in front of it, to trace it.
func (s *site) startHost(ctx context.Context, mode string, before ...string) (*host, error) {
	return s.startScript(ctx, "burst_buffer.lua", mode, before...)
}

// startScript does the same with another script.
func (s *site) startScript(ctx context.Context, script, mode string, before ...string) (*host, error) {
	args := append(before, s.build+"/bench/bbhost", s.path(script))
	if mode != "" {
		args = append(args, mode)
	}
	log, err := os.OpenFile(s.path("bbhost.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h := &host{command: exec.CommandContext(ctx, args[0], args[1:]...)}
	h.command.Stderr = log
	h.command.Env = []string{"PATH=/usr/bin:/bin", "LANG=C"}
	if h.in, err = h.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, h.command.Start()
}

// close ends the host; a hook that still runs is killed by it.
func (h *host) close() error {
	if h == nil {
		return nil
	}
	_ = h.in.Close()
	return h.command.Wait()
}

// here runs a hook in the host itself, as slurmctld does.
func (h *host) here(hook string, args []string) (outcome, error) {
	if err := h.send("here", hook, args); err != nil {
		return outcome{}, err
	}
	return h.ended(hook)
}

// fork runs a hook in a child, as slurmscriptd does, and waits for it.
func (h *host) fork(hook string, args []string) (outcome, error) {
	if _, err := h.start(hook, args); err != nil {
		return outcome{}, err
	}
	return h.ended(hook)
}

// start runs a hook in a child and returns its pid; ended must follow.
func (h *host) start(hook string, args []string) (pid int, err error) {
	if err := h.send("fork", hook, args); err != nil {
		return 0, err
	}
	line, err := h.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("bbhost: %w", err)
	}
	if _, err := fmt.Sscanf(line, "started %d", &pid); err != nil {
		return 0, fmt.Errorf("bbhost: %q: %w", line, err)
	}
	return pid, nil
}

func (h *host) send(where, hook string, args []string) error {
	_, err := io.WriteString(h.in, strings.Join(append([]string{where, hook}, args...), "\t")+"\n")
	return err
}

// ended reads a hook's outcome. A hook that did not succeed is an error.
func (h *host) ended(hook string) (outcome, error) {
	line, err := h.out.ReadString('\n')
	if err != nil {
		return outcome{}, fmt.Errorf("bbhost: %w", err)
	}
	var o outcome
	var begin, end int64
	var cpuMicroseconds int64
	if _, err := fmt.Sscanf(line, "ended %d %d %d %d %d", &o.code, &begin, &end, &cpuMicroseconds, &o.maxRSSKB); err != nil {
		return outcome{}, fmt.Errorf("bbhost: %q: %w", line, err)
	}
	o.begin, o.end = time.Duration(begin), time.Duration(end)
	o.cpu = time.Duration(cpuMicroseconds) * time.Microsecond
	if words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 7); len(words) == 7 {
		o.text = words[6]
	}
	if o.code != 0 || o.text != "" {
		return o, fmt.Errorf("%s: code %d: %s", hook, o.code, o.text)
	}
	return o, nil
}
