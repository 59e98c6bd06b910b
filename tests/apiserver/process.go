package apiserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child that never outlives this program.
type process struct {
	name    string
	logPath string
	// handle is a pidfd in Go: a signal can never reach another process that got the pid.
	handle *os.Process
	// exited is closed when the child has been waited for; waitErr is valid from then on.
	exited  chan struct{}
	waitErr error
}

// startProcess runs path with its output appended to <dir>/<name>.log.
func startProcess(dir, name, path string, args []string) (*process, error) {
	p := &process{name: name, logPath: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	started := make(chan error)
	go func() {
		// Linux sends Pdeathsig when the thread that made the child ends, not the process: this
		// thread stays as long as the child does.
		runtime.LockOSThread()
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		cmd.Stdout, cmd.Stderr = log, log
		// No proxy, no GODEBUG: what the caller has set must not change what is tested.
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + dir}
		// A group of its own: ctrl-C at a prompt ends this program, which ends the children.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", name, err)
			return
		}
		p.handle = cmd.Process
		started <- nil
		p.waitErr = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends to the child, and to nothing else if the child is gone.
func (p *process) signal(signal syscall.Signal) error {
	if err := p.handle.Signal(signal); err != nil {
		return fmt.Errorf("send %v to %s (pid %d): %w", signal, p.name, p.handle.Pid, err)
	}
	return nil
}

// awaitStop returns when SIGSTOP has stopped all threads of the child. It takes nothing away
// from who waits for its end.
func (p *process) awaitStop() error {
	var info unix.Siginfo
	var err error = unix.EINTR
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, p.handle.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil)
	}
	if err != nil {
		return fmt.Errorf("stop %s (pid %d): %w", p.name, p.handle.Pid, err)
	}
	return nil
}

// kill ends the child and waits until it is gone. It is no error if it was gone before.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.signal(syscall.SIGKILL)
	<-p.exited
}

// running says whether the child has not ended.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// failure is an error about a child that ended by itself, with the end of its log.
func (p *process) failure() error {
	return fmt.Errorf("%s ended early: %v; the end of its log:\n%s", p.name, p.waitErr, p.logTail())
}

// logTail returns the last lines of the child's output.
func (p *process) logTail() string {
	const lines = 15
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
