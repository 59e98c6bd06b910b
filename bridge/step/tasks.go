package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// lookAgain is how long a process of the user's looks for a file with the tasks that it
// was given: others begin meanwhile.
const lookAgain = 10 * time.Second

// openFile waits until the user can open the file where the job's tasks live: they may
// have a /tmp, or a whole container, of their own.
func (s *session) openFile(ctx context.Context, path string) error {
	_, err := s.withTasks(ctx, path, "await-file", path)
	return err
}

// readPort waits until a file of the user's says the port of that name.
func (s *session) readPort(ctx context.Context, p service.Port) (uint16, error) {
	said, err := s.withTasks(ctx, p.File, "read-port", p.File, p.Name)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(said, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%s says no port", p.File)
	}
	return uint16(port), nil
}

// withTasks runs a command about a file as the user where the job's tasks live, and returns
// what it printed.
func (s *session) withTasks(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	if s.options.Stepd != 0 {
		tasks := s.tasks(s.ofJob)
		if len(tasks) == 0 {
			return "", fmt.Errorf("no task of the job runs that could make %s", path)
		}
		args = append(args, tasks...)
	}
	said, err := s.asUser(ctx, args...)
	if err != nil && said == "" {
		err = fmt.Errorf("user %s cannot open %s", s.req.job.User, path)
	} else if err != nil {
		err = errors.New(said)
	}
	return said, err
}

// tellUser writes a line where the step's errors go, by the first task that has it open. It
// waits for a task until ctx ends: what is wrong may be known before the first one begins. A
// task that has only just been made is not the user's program yet and hides what it has open,
// so it is asked again for as long as lookAgain.
func (s *session) tellUser(ctx context.Context, line string) {
	if s.options.Stepd == 0 {
		return
	}
	tasks := func() []string { return s.tasks(func(pid string) bool { return pid == strconv.Itoa(s.options.Stepd) }) }
	for pauses := (kube.Pauses{}); len(tasks()) == 0; {
		if pauses.Wait(ctx) != nil {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	for pauses := (kube.Pauses{}); ; {
		err := s.tell(tasks(), line)
		if err == nil {
			return
		}
		if pauses.Wait(ctx) != nil {
			s.log.Warnf("tell the user in the job's output: %v", err)
			return
		}
	}
}

// tell goes on when the step has ended.
func (s *session) tell(tasks []string, line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookAgain)
	defer cancel()
	_, err := s.asUser(ctx, append([]string{"tell-tasks", line}, tasks...)...)
	return err
}

// asUser runs a command of this program as the job's user, until ctx ends, and returns the first
// line that it printed: what a user may open is what the user's own process can, and a file
// system that hangs does not hang this one. The user may trace the process and let it print
// anything.
func (s *session) asUser(ctx context.Context, args ...string) (string, error) {
	groups := s.req.groups
	if groups == nil {
		var err error
		if groups, err = users.Groups(ctx, s.req.job.User, s.req.gid); err != nil {
			return "", err
		}
	}
	said, says, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer said.Close()
	cmd := exec.Command(s.options.Program, args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.req.job.UID, Gid: s.req.gid, Groups: groups}
	} else if uint32(os.Geteuid()) != s.req.job.UID {
		says.Close()
		return "", errors.New("not root, and not the user")
	}
	cmd.Stdout = says
	err = cmd.Start()
	says.Close()
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return firstLine(said), err
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return "", ctx.Err()
	}
}

// firstLine is what a process that has ended left in a pipe, in which others may not wait.
func firstLine(pipe *os.File) string {
	_ = pipe.SetReadDeadline(time.Now().Add(time.Second))
	text := make([]byte, 512)
	n, _ := pipe.Read(text)
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	return wire.Line(line)
}

// tasks are the processes that some slurmstepds of this node made for the job's user.
func (s *session) tasks(of func(stepd string) bool) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var tasks []string
	stepds := map[string]bool{}
	for _, e := range entries {
		pid := e.Name()
		if _, err := strconv.Atoi(pid); err != nil || ownerOf(pid) != s.req.job.UID {
			continue
		}
		parent := parentOf(pid)
		known, seen := stepds[parent]
		if !seen {
			known = of(parent)
			stepds[parent] = known
		}
		if known {
			tasks = append(tasks, pid)
		}
	}
	return tasks
}

// ofJob tells whether a process is a slurmstepd of the job: this step's, or one of root's
// by the title that Slurm (22.05 to 26.05) gives it, "slurmstepd: [12.0]".
func (s *session) ofJob(pid string) bool {
	if pid == strconv.Itoa(s.options.Stepd) {
		return true
	}
	title, err := os.ReadFile("/proc/" + pid + "/cmdline")
	job := fmt.Sprintf("slurmstepd: [%d", s.req.job.ID)
	return err == nil && ownerOf(pid) == 0 &&
		(strings.HasPrefix(string(title), job+".") || strings.HasPrefix(string(title), job+"+"))
}

// ownerOf is the effective user of a process; root's if it is gone, or hides what it is.
func ownerOf(pid string) uint32 {
	info, err := os.Stat("/proc/" + pid)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// parentOf is "" if the process is gone.
func parentOf(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	// The name before the last parenthesis may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return ""
	}
	return string(fields[1])
}
