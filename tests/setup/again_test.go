package setup

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSetupRunAgainKeepsTheAddressesThatWereGiven(t *testing.T) {
	w := newWorld(t)
	w.write("addresses", "any 10.9.0.0/24\nc2 10.7.0.2\ncloud-7 10.8.0.7\n", 0o644)
	given := map[string]string{"any": "10.9.0.0/24", "c1": "10.1.0.1", "c2": "10.7.0.2", "cloud-7": "10.8.0.7"}
	w.setup("--open", "again-ns", "--node-addresses", w.path("addresses"))
	require.Equal(t, given, w.nodes())

	out := w.setup("--open", "again-ns")
	assert.Contains(t, out, "note      node any: 10.9.0.0/24 of an earlier --node-addresses is kept")
	assert.Contains(t, out, "setup: nothing to change")
	assert.Equal(t, given, w.nodes())

	w.write("slurm.conf", "ClusterName=alps\nSlurmUser=root\nNodeName=c2 NodeAddr=10.1.0.2\n", 0o644)
	w.write("addresses", "any 10.9.0.0/24\n", 0o644)
	out = w.setup("--open", "again-ns", "--node-addresses", w.path("addresses"))
	assert.Contains(t, out, "note      node cloud-7: 10.8.0.7 is dropped: the file of --node-addresses no longer gives it")
	assert.Contains(t, out, "note      node c1: 10.1.0.1 is dropped: slurm.conf no longer has this node")
	assert.Equal(t, map[string]string{"any": "10.9.0.0/24", "c2": "10.1.0.2"}, w.nodes())

	w.setup("--open", "again-ns", "--node-addresses", "/dev/null")
	assert.Equal(t, map[string]string{"c2": "10.1.0.2"}, w.nodes())
}

// The list of a version that did not say which addresses were given.
func TestSetupKeepsTheAddressesThatAnEarlierVersionWasGiven(t *testing.T) {
	w := newWorld(t)
	w.write("addresses", "any 10.9.0.0/24\n", 0o644)
	w.setup("--open", "again-ns", "--node-addresses", w.path("addresses"))
	w.patch(configMaps, "slurm", "slurmk8s-nodes", `{"metadata":{"annotations":{"slurmk8s.io/given-alps":null}}}`)
	w.setup("--open", "again-ns")
	assert.Equal(t, "10.9.0.0/24", w.nodes()["any"])
	w.setup("--open", "again-ns", "--node-addresses", "/dev/null")
	assert.NotContains(t, w.nodes(), "any")
}

func TestSetupRunAgainKeepsTheServerAndTheKindOfCredentials(t *testing.T) {
	w := newWorld(t)
	admin := w.readAny(w.server.Kubeconfig())
	_, after, _ := strings.Cut(admin, "server: ")
	url, _, _ := strings.Cut(after, "\n")
	other := strings.Replace(url, "127.0.0.1", "localhost", 1)
	require.NotEqual(t, url, other)
	w.setup("--server", other)
	require.Contains(t, w.read("slurmk8s.kubeconfig"), "server: "+other)
	for _, args := range [][]string{nil, {"--renew"}} {
		out := w.setup(args...)
		assert.Contains(t, out, "the credentials keep "+other+" of an earlier --server")
		assert.Contains(t, out, "setup: nothing to change")
	}
	w.setup("--server", url)
	assert.Contains(t, w.read("slurmk8s.kubeconfig"), "server: "+url)
	assert.NotContains(t, w.setup(), "earlier --server")
}

func TestTheNameInTheServersCertificateIsCarriedOver(t *testing.T) {
	w := newWorld(t)
	admin := strings.Replace(w.readAny(w.server.Kubeconfig()), "    server:", "    tls-server-name: kubernetes.default.svc\n    proxy-url: http://proxy.example:3128\n    server:", 1)
	w.write("admin", admin, 0o600)
	_, after, _ := strings.Cut(admin, "server: ")
	url, _, _ := strings.Cut(after, "\n")
	status, _, stderr := w.run("setup", "--kubeconfig", w.path("admin"), "--server", url)
	assert.Equal(t, 1, status, "there is no such proxy")
	assert.NotContains(t, stderr, "give --server")

	w.write("admin", strings.Replace(admin, "    proxy-url: http://proxy.example:3128\n", "", 1), 0o600)
	status, _, stderr = w.run("setup", "--kubeconfig", w.path("admin"), "--output", w.path("out"), "--open", "again-ns")
	require.Equal(t, 0, status, stderr)
	for _, file := range []string{"slurmk8s.kubeconfig", "out/nodes/c1/slurmk8s-node.kubeconfig"} {
		assert.Contains(t, w.read(file), "tls-server-name: kubernetes.default.svc", file)
	}
	require.NoError(t, os.Remove(w.path("admin")))
}
