package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// The exit statuses of `slurmk8s hook`, as goffi/slurmk8s.h numbers them.
const (
	CodeOK      = 0
	CodeBusy    = 1
	CodeRefused = 2
	CodeFailed  = 3
)

// maxMessage is where Slurm stops appending to a job's SystemComment.
const maxMessage = 1024

// lateness is what a hook may take beyond its deadline (invariant 4).
const lateness = time.Second

// Command is how a hook is run: as a program of its own, fields on standard
// input, reply on standard output, both KEY=VALUE and NUL after each.
type Command struct {
	Argv   []string
	Env    []string // the whole environment; nil is only a PATH
	Fields map[string]string
	// ForPeople is an administrator's command: it has no reply but text, what is
	// wrong is on standard error, and any exit status but 0 and 125 is a failure.
	ForPeople bool
	// Lines is how many lines such a command may write there: one for each thing that
	// it looks after. 0 is one.
	Lines int
}

// Outcome is how a run of a hook ended.
type Outcome struct {
	Code     int  // exit status, -1 when a signal ended it
	Killed   bool // ended by SIGKILL
	Overran  bool // the runner ended it, long after its deadline
	Leftover bool // a process of its process group outlived it
	Took     time.Duration
	Stdout   []byte
	Stderr   []byte
}

// Reply is the fields of the hook's answer.
func (o *Outcome) Reply() (map[string]string, error) {
	reply := map[string]string{}
	text := string(o.Stdout)
	if text == "" {
		return reply, nil
	}
	if !strings.HasSuffix(text, "\x00") {
		return nil, fmt.Errorf("reply does not end with NUL: %q", clip(text, 120))
	}
	for _, field := range strings.Split(strings.TrimSuffix(text, "\x00"), "\x00") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("reply field without KEY=: %q", clip(field, 120))
		}
		reply[key] = value
	}
	return reply, nil
}

// process is a running hook; Kill may be called from any goroutine, before it
// was started too.
type process struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	done bool
}

// Kill sends SIGKILL to the hook and everything it started in its group; to both,
// because a teardown leaves the group that it leads for a while (hook.shelter).
func (p *process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil && !p.done {
		_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// start starts cmd as the process that Kill kills; wait must follow.
func (p *process) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.done = cmd, false
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return nil
}

func (p *process) wait() error {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	return err
}

// Run runs a hook to its end, or to long after its deadline.
func (p *process) Run(ctx context.Context, c Command, deadline time.Duration) (*Outcome, error) {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	cmd.Stdin = bytes.NewReader(encode(c.Fields))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a leftover child may hold the pipes

	began := time.Now()
	if err := p.start(cmd); err != nil {
		return nil, err
	}
	o := &Outcome{}
	overrun := time.AfterFunc(deadline+lateness+2*time.Second, p.Kill)
	err := p.wait()
	o.Took = time.Since(began)
	o.Overran = !overrun.Stop()
	o.Leftover = syscall.Kill(-cmd.Process.Pid, 0) == nil
	if o.Leftover {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("run %s: %w", c.Argv[0], err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		o.Killed = status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	o.Code = cmd.ProcessState.ExitCode()
	if c.ForPeople && o.Code == 1 {
		o.Code = CodeFailed // 1 is only a hook's BUSY
	}
	o.Stdout, o.Stderr = stdout.Bytes(), stderr.Bytes()
	return o, nil
}

func encode(fields map[string]string) []byte {
	var keys []string
	for k := range fields {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b bytes.Buffer
	for _, k := range keys {
		b.WriteString(k + "=" + fields[k] + "\x00")
	}
	return b.Bytes()
}

// crashes are the traces of a program that died of its own bug.
var crashes = []string{"panic:", "fatal error:", "runtime error:", "goroutine ", "SIGSEGV", "DATA RACE"}

// insane lists what no run of a hook may do, whatever the API server did: hang,
// crash, answer nonsense, write more than one line for a person, show a secret.
func (o *Outcome) insane(c Command, deadline time.Duration, log string) []string {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.Overran || o.Took > deadline+lateness {
		add("took %v, deadline %v", o.Took.Round(10*time.Millisecond), deadline)
	}
	if o.Leftover {
		add("left a process behind")
	}
	for _, text := range []string{string(o.Stdout), string(o.Stderr), log} {
		for _, crash := range crashes {
			if strings.Contains(text, crash) {
				add("crash text %q", clip(text[strings.Index(text, crash):], 200))
				break
			}
		}
		if strings.Contains(text, token) {
			add("shows its token")
		}
	}
	if o.Killed || o.Overran {
		return wrong
	}
	if o.Code < CodeOK || o.Code > CodeFailed {
		add("exit status %d: %s", o.Code, clip(string(o.Stderr), 200))
	}
	if c.ForPeople {
		if n := strings.Count(string(o.Stderr), "\n"); n > max(c.Lines, 1) {
			add("%d lines on standard error: %q", n, clip(string(o.Stderr), 200))
		}
		return wrong
	}
	if len(o.Stderr) > 0 {
		add("wrote to standard error, which is Slurm's: %q", clip(string(o.Stderr), 200))
	}
	reply, err := o.Reply()
	if err != nil {
		return append(wrong, err.Error())
	}
	message := reply["MESSAGE"]
	if o.Code >= CodeRefused && strings.TrimSpace(message) == "" {
		add("exit status %d without a MESSAGE", o.Code)
	}
	if strings.ContainsAny(message, "\n\r") || !utf8.ValidString(message) || len(message) > maxMessage {
		add("MESSAGE is not one line of at most %d bytes: %q", maxMessage, message)
	}
	return wrong
}

// message is what the hook said to a person, for a report.
func (o *Outcome) message(c Command) string {
	if !c.ForPeople {
		if reply, err := o.Reply(); err == nil {
			return reply["MESSAGE"]
		}
	}
	return clip(strings.TrimSpace(string(o.Stdout)+" "+string(o.Stderr)), 300)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}

func readLog(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "" // no log is no crash
	}
	return string(b)
}
