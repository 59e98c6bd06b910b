package hook

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// cancelAfterwards ends a job that can never run, once this hook is over: Slurm
// kills the hooks of a job that is cancelled, so one that cancels its own job
// would leave Slurm without its answer and with a buffer that it thinks lives.
//
// The process is a session of its own, because Slurm kills the process group of
// a hook that ended, and holds none of Slurm's descriptors, because Slurm waits
// until the last writer of the answer's pipe is gone.
func (c *call) cancelAfterwards() error {
	program := c.request[wire.KeyProgram]
	if program == "" {
		return fmt.Errorf("the hook was called without %s", wire.KeyProgram)
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	cmd := exec.Command(program, "cancel-job",
		"--after-pid", strconv.Itoa(os.Getpid()), "--config", c.configPath,
		strconv.FormatUint(uint64(c.job.ID), 10))
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.log.Infof("a driver failed before the job could run: cancelling the job after this hook")
	return cmd.Process.Release()
}
