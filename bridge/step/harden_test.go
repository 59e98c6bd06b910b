package step

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A process may read one of its own uid: the program must be closed to that too. The test
// runs itself as another user, hardened or not.
func TestAHardenedProcessIsClosedToItsOwnUser(t *testing.T) {
	if how := os.Getenv("SLURMK8S_TEST_HARDEN"); how != "" {
		if how == "hardened" {
			if err := Harden(); err != nil {
				fmt.Println(err)
				os.Exit(3)
			}
		}
		fmt.Println("ready:", len(os.Environ()))
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	const uid = 65534
	binary := programForAll(t)
	for how, readable := range map[string]bool{"as it is": true, "hardened": false} {
		t.Run(how, func(t *testing.T) {
			as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			cmd := exec.Command(binary, "-test.run=^TestAHardenedProcessIsClosedToItsOwnUser$")
			cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{"SLURMK8S_TEST_HARDEN=" + how, "SECRET=x"}, "/", as
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			defer func() { in.Close(); _ = cmd.Wait() }()
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			if !readable {
				assert.Equal(t, "ready: 0\n", line, "its environment is gone")
			}
			for _, script := range []string{"cat %senviron >/dev/null", "ls %sfd/ >/dev/null", "head -c1 %smem; test $? = 0 || head -c1 %[1]smaps", "cat %sauxv >/dev/null"} {
				look := exec.Command("/bin/sh", "-c", fmt.Sprintf(script, fmt.Sprintf("/proc/%d/", cmd.Process.Pid)))
				look.SysProcAttr = as
				said, err := look.CombinedOutput()
				assert.Equal(t, readable, err == nil, "%s: %s", script, said)
			}
		})
	}
}

// programForAll is this test's program where any user may run it.
func programForAll(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	dir, err := os.MkdirTemp("", "slurmk8s-step-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "slurmk8s")
	text, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, text, 0o755))
	return program
}
