package doctor

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The absence of a credential is not the absence of a kubelet.
func TestAKubeletWithoutACredentialIsAFailure(t *testing.T) {
	s := newSite(t)
	check := func() Result {
		for _, r := range Run(t.Context(), s.o) {
			if r.Check == "kubelet credential" {
				return r
			}
		}
		t.Fatal("not checked")
		return Result{}
	}
	s.edit("slurmk8s.toml", "reclaim = \"all\"\n", "reclaim = \"all\"\nkubeconfig = \"/etc/kubernetes/kubelet.conf\"\n")
	assert.Equal(t, OK, check().Status)
	sleep, err := os.ReadFile("/bin/sleep")
	require.NoError(t, err)
	s.write("kubelet", string(sleep), 0o755)
	kubelet := exec.Command(s.path("kubelet"), "600")
	require.NoError(t, kubelet.Start())
	defer func() { _ = kubelet.Process.Kill(); _ = kubelet.Wait() }()
	r := check()
	assert.Equal(t, Failed, r.Status)
	assert.Contains(t, r.Found, "a kubelet runs on this host (process")
	assert.Contains(t, r.Do, "nodes.kubeconfig")
}
