package step

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// deaf are the signals that scancel, a terminal or Slurm may send to everything
// that belongs to a step. The program ends by its protocol, not by a signal: a job
// that gets time after a signal is to be reached until its end. SIGCHLD is not
// among them, since a program without it cannot wait for its children.
var deaf = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGIO,
	syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGPWR,
}

// Harden makes sure that a job can neither read, trace nor signal this process, and that
// the process keeps nothing of slurmstepd open. It runs as root, so the user does not own
// it in the first place.
func Harden() error {
	signal.Ignore(deaf...)
	// slurmstepd's -1000 is inherited: the kernel would kill the job rather than us.
	err := os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	err = errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	err = errors.Join(err, unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC))
	err = errors.Join(err, os.Chdir("/"))
	unix.Umask(0o077)
	os.Clearenv()
	// A node has many cores, and they are the job's.
	runtime.GOMAXPROCS(2)
	if err != nil {
		return fmt.Errorf("harden the process: %w", err)
	}
	return nil
}
