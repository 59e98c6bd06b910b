package step

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"slurmk8s.io/slurmk8s/bridge/users"
)

// openFile waits in a process of the user's until the user can open the file. It lasts
// as long as the wait does, so that a hanging file system hangs it and not us.
func (s *session) openFile(ctx context.Context, path string) error {
	groups := s.req.groups
	if groups == nil {
		var err error
		if groups, err = users.Groups(ctx, s.req.job.User, s.req.gid); err != nil {
			return err
		}
	}
	cmd := exec.Command(s.options.Program, "await-file", path)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.req.job.UID, Gid: s.req.gid, Groups: groups}
	} else if uint32(os.Geteuid()) != s.req.job.UID {
		return fmt.Errorf("open %s: not root, and not the user", path)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open %s as user %s: %w", path, s.req.job.User, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("open %s as user %s: %w", path, s.req.job.User, err)
		}
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return fmt.Errorf("user %s cannot open %s", s.req.job.User, path)
	}
}
