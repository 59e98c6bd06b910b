package node

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAKubeletShowsItselfByItsProcess(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	text, err := os.ReadFile(sleep)
	require.NoError(t, err)
	for _, name := range []string{"kubelet", "kubelite", "k3s-agent", "kubelet-cleanup"} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(program, text, 0o755))
			cmd := exec.Command(program, "60")
			require.NoError(t, cmd.Start()) // the process has its name when Start returns
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			if got := kubeletHere("/proc", nil); name == "kubelet-cleanup" {
				assert.NotContains(t, got, "kubelet-cleanup")
			} else {
				assert.Regexp(t, `^process \d+ \((kubelet|kubelite|k3s-agent)\)$`, got)
			}
		})
	}
}

func TestAKubeletShowsItselfByItsPort(t *testing.T) {
	empty := t.TempDir()
	open, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer open.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	assert.Equal(t, "port "+open.Addr().String(), kubeletHere(empty, []string{closed.Addr().String(), open.Addr().String()}))
	assert.Empty(t, kubeletHere(empty, []string{closed.Addr().String()}))
}
