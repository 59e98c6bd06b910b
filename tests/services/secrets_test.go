package services

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// as runs a shell of another user: what it says, and whether it succeeded.
func as(t *testing.T, uid uint32, script string) (string, bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// The step program holds the node's credential. What a job's user finds of it below
// /proc is how it was called, and it takes no signal of theirs.
func TestAUserLearnsNothingOfTheStepProgram(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("UID=1", "GID=1", "K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	said, did := as(t, 1, "cat "+proc+"cmdline")
	require.True(t, did, "nothing can be read at all, the test shows nothing: %s", said)
	assert.Equal(t, slurmk8s(t)+"\x00step\x00", said, "no argument holds a secret, nor where one is")
	for _, script := range []string{
		"cat " + proc + "environ", "ls " + proc + "fd/", "head -c1 " + proc + "mem", "head -c1 " + proc + "maps", "cat " + proc + "auxv",
		"cat " + proc + "stack", "readlink " + proc + "exe", "readlink " + proc + "cwd", "cat " + proc + "io",
		fmt.Sprintf("kill -KILL %d", s.cmd.Process.Pid), fmt.Sprintf("kill -STOP %d", s.cmd.Process.Pid),
	} {
		said, did := as(t, 1, script)
		assert.False(t, did, "%s: %s", script, said)
	}
	assert.Equal(t, []string{"CODE=0"}, s.end(), "it lives")
	assert.Empty(t, w.names())
}

// A crash, however it is brought about, writes no memory to a file, and nothing at all
// where the user would see it.
func TestACrashOfTheStepProgramLeavesNoCore(t *testing.T) {
	limit := unix.Rlimit{}
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	if os.Geteuid() == 0 {
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_CORE, &unlimited))
		t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) })
	}
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"), "GOTRACEBACK=crash")
	assert.Contains(t, s.reply(), "CODE=0")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGSEGV))
	_ = s.cmd.Wait()
	status := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	assert.False(t, status.Exited() && status.ExitStatus() == 0, "it crashed")
	assert.False(t, status.CoreDump())

	// Without the hardening there would be one: else the test shows nothing.
	other := exec.Command(slurmk8s(t), "hook", "-0", "slurm_bb_setup") // reads its input
	other.Env, other.Dir = []string{"GOTRACEBACK=crash"}, t.TempDir()
	in, err := other.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	require.NoError(t, other.Start())
	require.NoError(t, other.Process.Signal(syscall.SIGSEGV))
	_ = other.Wait()
	if os.Geteuid() == 0 && !other.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Log("this host dumps no core of any process: only the limit is shown, by TestTheProcessIsNotTheJobs")
	}
	n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1")
	assert.Empty(t, w.names())
}

// No log, no reply, no file of the node holds the credential.
func TestTheCredentialIsInNoLogAndNoReply(t *testing.T) {
	w := newWorld(t)
	kubeconfig, err := os.ReadFile(w.server.Kubeconfig())
	require.NoError(t, err)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	reply := strings.Join(s.reply(), "\n")
	assert.Equal(t, []string{"CODE=0"}, s.end())
	secret := ""
	for line := range strings.Lines(string(kubeconfig)) {
		for _, key := range []string{"client-key-data: ", "token: "} {
			if _, value, ok := strings.Cut(line, key); ok {
				secret = strings.TrimSpace(value)
			}
		}
	}
	require.Greater(t, len(secret), 20, "no secret found in the kubeconfig: the test shows nothing")
	assert.NotContains(t, reply, secret)
	require.NoError(t, filepath.WalkDir(n.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		assert.False(t, bytes.Contains(text, []byte(secret[:20])), path)
		return err
	}))
}
