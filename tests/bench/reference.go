package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// startReference runs reference.sh in a process group that ends with ctx; before is put in
// front of it, to trace it. What is returned waits for its end.
func (b *bench) startReference(ctx context.Context, j *job, before []string, args ...string) (func() (outcome, error), error) {
	directives, err := json.Marshal(j.directives)
	if err != nil {
		return nil, err
	}
	words := append(append([]string{}, before...), "/bin/sh", b.reference)
	words = append(words, args...)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Env = []string{
		"PATH=/usr/bin:/bin", "LANG=C", "HOME=" + b.path("home"), "TMPDIR=" + b.path("tmp"),
		"KUBECTL=" + b.kubectl, "KUBECONFIG=" + b.server.Kubeconfig(), "NAMESPACE=" + namespace,
		"API_VERSION=" + dwssim.Group + "/" + b.sim.Version, "DIRECTIVES=" + string(directives),
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	complaints := &strings.Builder{}
	command.Stderr = complaints
	o := outcome{begin: monotonic()}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return func() (outcome, error) {
		err := command.Wait()
		o.end = monotonic()
		if err != nil {
			return o, fmt.Errorf("reference.sh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
		}
		o.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
		if used, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
			o.maxRSSKB = used.Maxrss
		}
		return o, nil
	}, nil
}

// runReference runs reference.sh to its end. The outcome's times hold after an error too.
func (b *bench) runReference(ctx context.Context, j *job, before []string, args ...string) (outcome, error) {
	wait, err := b.startReference(ctx, j, before, args...)
	if err != nil {
		return outcome{}, err
	}
	return wait()
}
