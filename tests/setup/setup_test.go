package setup

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/setup"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestSetupMakesAllThatIsNeeded(t *testing.T) {
	w := newWorld(t, "[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\"rule-ns\", \"user-{user}\"]")
	out := w.setup("--open", "flag-ns", "--output", w.path("out"))
	defer w.unbind("slurmk8s-reconcile") // other tests' rights end at their namespaces
	for _, line := range []string{
		"node c1 may publish 10.1.0.1", "configmap slurm/slurmk8s-nodes", "created   rolebinding flag-ns/slurmk8s-node",
		"created   namespace rule-ns", "has a pattern as namespace", "created   clusterrolebinding slurmk8s-reconcile",
		"BurstBufferType=burst_buffer/lua", "Directive=DW", "Flags=TeardownFailure", "optional ",
	} {
		assert.Contains(t, out, line)
	}
	assert.Equal(t, map[string]string{"c1": "10.1.0.1", "c2": "10.1.0.2"}, w.nodes())
	for _, namespace := range []string{"flag-ns", "rule-ns"} {
		assert.Equal(t, "open", w.get(namespaces, "", namespace).GetLabels()["slurmk8s.io/services"])
	}
	for _, file := range []string{"slurmk8s.kubeconfig", "state/controller.token", "out/nodes/c1/slurmk8s-node.kubeconfig"} {
		info, err := os.Lstat(w.path(file))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode(), file)
		assert.EqualValues(t, os.Getuid(), info.Sys().(*syscall.Stat_t).Uid, file)
	}

	// The credentials are whose they should be, for as long as was asked.
	node, err := kube.ReadCredential(w.path("out/nodes/c2/slurmk8s-node.kubeconfig"))
	require.NoError(t, err)
	assert.Equal(t, "slurmk8s:node:c2", node.User)
	assert.InDelta(t, (90 * 24 * time.Hour).Hours(), node.NotAfter.Sub(node.NotBefore).Hours(), 2)
	controller, err := kube.ReadCredential(w.path("slurmk8s.kubeconfig"))
	require.NoError(t, err)
	assert.Equal(t, "system:serviceaccount:slurm:slurmk8s-controller", controller.User)

	// And they may do what they are for.
	assert.Equal(t, []string{"slurmk8s:node:c2", "slurmk8s:nodes"}, w.whoAmI("out/nodes/c2/slurmk8s-node.kubeconfig"))
	assert.Contains(t, w.whoAmI("slurmk8s.kubeconfig"), "system:serviceaccount:slurm:slurmk8s-controller")

	// What was changed is in the log, and no secret is in it or was printed.
	assert.Contains(t, w.read("log"), "audit: apply clusterroles slurmk8s-node")
	assert.Contains(t, w.read("log"), "audit: create serviceaccounts/token slurm/slurmk8s-controller")
	for _, secret := range []string{strings.TrimSpace(w.read("state/controller.token")), between(w.read("out/nodes/c1/slurmk8s-node.kubeconfig"), "client-key-data: ", "\n")} {
		require.Greater(t, len(secret), 100)
		assert.NotContains(t, out+w.read("log"), secret)
		assert.NotContains(t, out+w.read("log"), secret[len(secret)-40:])
	}

	list, err := w.admin.Resource(requests).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items, "signing requests are removed")
}

func TestSetupRunTwiceChangesNothingAndSaysSo(t *testing.T) {
	w := newWorld(t)
	args := []string{"--open", "twice-ns", "--output", w.path("out"), "--write-slurm-conf"}
	w.setup(args...)
	before := map[string]string{}
	for _, file := range []string{"slurm.conf", "burst_buffer.conf", "slurmk8s.kubeconfig", "state/controller.token", "out/nodes/c1/slurmk8s-node.kubeconfig"} {
		before[file] = w.read(file)
	}
	out := w.setup(args...)
	assert.Contains(t, out, "setup: nothing to change")
	assert.NotContains(t, out, "created ")
	assert.NotContains(t, out, "changed   ")
	for file, text := range before {
		assert.Equal(t, text, w.read(file), file)
	}
}

func TestADryRunPrintsTheManifestsAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.setup() // the account's namespace is there, its services are not
	status, stdout, stderr := w.run("setup", "--dry-run", "--kubeconfig", w.server.Kubeconfig(), "--open", "dry-ns", "--output", w.path("out"))
	require.Equal(t, 0, status)
	assert.Contains(t, stderr, "created   namespace dry-ns")
	assert.Contains(t, stderr, "unchanged serviceaccount slurm/slurmk8s-controller")
	assert.Contains(t, stderr, "dry run, nothing was changed")
	assert.Contains(t, stdout, "kind: ValidatingAdmissionPolicy\n")
	assert.Contains(t, stdout, "namespace: dry-ns")
	assert.NotContains(t, stdout, "slurm-jobs")
	_, err := w.admin.Resource(namespaces).Get(t.Context(), "dry-ns", metav1.GetOptions{})
	assert.Error(t, err)
	assert.NoDirExists(t, w.path("out"))

	// Without a cluster it prints the same.
	status, again, _ := w.run("setup", "--dry-run", "--open", "dry-ns")
	assert.Equal(t, 0, status)
	assert.Equal(t, stdout, again)
}

func TestWhatAnAdministratorChangedIsKept(t *testing.T) {
	w := newWorld(t)
	w.setup("--open", "kept-ns")
	defer w.setup("--open", "kept-ns", "--overwrite")
	w.patch(roles, "", "slurmk8s-node-ports", `{"rules":[]}`)
	w.patch(configMaps, "slurm", "slurmk8s-nodes", `{"data":{"any":"10.9.0.0/16"}}`)

	status, _, stderr := w.run("setup", "--kubeconfig", w.server.Kubeconfig(), "--open", "kept-ns")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "clusterrole slurmk8s-node-ports")
	assert.Contains(t, stderr, "--overwrite")
	assert.Contains(t, stderr, "admin-by-hand", "who changed it")

	status, _, stderr = w.run("setup", "--kubeconfig", w.server.Kubeconfig(), "--open", "kept-ns", "--dry-run")
	assert.Equal(t, 0, status)
	assert.Contains(t, stderr, "setup would stop here: apply clusterrole slurmk8s-node-ports")

	out := w.setup("--open", "kept-ns", "--overwrite")
	assert.Contains(t, out, "changed   clusterrole slurmk8s-node-ports")
	assert.Equal(t, "10.9.0.0/16", w.nodes()["any"], "a key of the list that is not ours")
	w.patch(configMaps, "slurm", "slurmk8s-nodes", `{"data":{"any":null}}`)
}

func TestANodeThatLeftSlurmLeavesTheList(t *testing.T) {
	w := newWorld(t)
	w.setup("--open", "left-ns")
	w.write("slurm.conf", "ClusterName=alps\nNodeName=c1 NodeAddr=10.1.0.1\n", 0o644)
	w.setup("--open", "left-ns")
	assert.Equal(t, map[string]string{"c1": "10.1.0.1"}, w.nodes())
}

func TestTwoSlurmClustersShareTheListOfNodes(t *testing.T) {
	one, two := newWorld(t), newWorld(t)
	two.write("slurm.conf", "ClusterName=rhine\nNodeName=r1 NodeAddr=10.2.0.1\n", 0o644)
	one.setup("--open", "one-ns")
	two.setup("--open", "two-ns")
	one.setup("--open", "one-ns")
	assert.Equal(t, map[string]string{"c1": "10.1.0.1", "c2": "10.1.0.2", "r1": "10.2.0.1"}, one.nodes())
	two.write("slurm.conf", "ClusterName=rhine\nNodeName=c1 NodeAddr=10.2.0.1\n", 0o644)
	status, _, stderr := two.run("setup", "--kubeconfig", two.server.Kubeconfig(), "--open", "two-ns")
	assert.Equal(t, 1, status, "two nodes of one name would share a credential's rights")
	assert.Contains(t, stderr, "slurmk8s-setup-alps")
	two.patch(configMaps, "slurm", "slurmk8s-nodes", `{"data":{"r1":null}}`)
}

func TestAddressesThatNoPodReachesAreLeftOut(t *testing.T) {
	w := newWorld(t)
	w.write("slurm.conf", "ClusterName=alps\nNodeName=c1 NodeAddr=127.0.0.1\nNodeName=c2 NodeAddr=10.1.0.2\nNodeName=c3 NodeAddr=no-such-host.invalid\n", 0o644)
	w.write("addresses", "c2 10.7.0.2,fd00::2 # InfiniBand\n", 0o644)
	out := w.setup("--open", "addr-ns", "--node-addresses", w.path("addresses"))
	assert.Contains(t, out, "node c1: not added to ConfigMap slurm/slurmk8s-nodes: 127.0.0.1 resolves only to 127.0.0.1 here")
	assert.Contains(t, out, "node c3: not added to ConfigMap slurm/slurmk8s-nodes: no-such-host.invalid cannot be resolved here")
	assert.Equal(t, map[string]string{"c2": "10.7.0.2,fd00::2"}, w.nodes())
	w.setup("--node-addresses", "/dev/null")
}

func TestCredentialsAreRenewedWhenTheyAreDue(t *testing.T) {
	w := newWorld(t)
	w.setup("--open", "renew-ns", "--output", w.path("out"), "--days", "1")
	cert, token := w.read("out/nodes/c1/slurmk8s-node.kubeconfig"), w.read("state/controller.token")

	out := w.setup("--renew", "--output", w.path("out"))
	assert.Contains(t, out, "nothing to change")

	// The account was made again: its tokens are revoked.
	accounts := w.admin.Resource(gvr("", "v1", "serviceaccounts")).Namespace("slurm")
	require.NoError(t, accounts.Delete(t.Context(), "slurmk8s-controller", metav1.DeleteOptions{}))
	w.setup("--open", "renew-ns", "--output", w.path("out"))
	assert.NotEqual(t, token, w.read("state/controller.token"))
	assert.Equal(t, cert, w.read("out/nodes/c1/slurmk8s-node.kubeconfig"))

	// Another API server's address is another credential.
	w.setup("--open", "renew-ns", "--output", w.path("out"), "--server", "https://other:6443")
	assert.NotEqual(t, cert, w.read("out/nodes/c1/slurmk8s-node.kubeconfig"))
	assert.Contains(t, w.read("slurmk8s.kubeconfig"), "https://other:6443")
}

// With bundles.kubeconfig, bundles have a credential of their own, which renews itself.
func TestBundlesHaveACredentialOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.configure("[bundles]", "kubeconfig = \""+w.path("bundles.kubeconfig")+"\"", "[[bundles.allow]]", "users = [\"*\"]", "bundles = [\"*\"]", "namespaces = [\"own-bundles\"]")
	out := w.setup()
	assert.Contains(t, out, "created   "+w.path("bundles.kubeconfig"))
	assert.Contains(t, w.whoAmI("bundles.kubeconfig"), "system:serviceaccount:slurm:slurmk8s-bundles")
	assert.Contains(t, w.whoAmI("slurmk8s.kubeconfig"), "system:serviceaccount:slurm:slurmk8s-controller")
	assert.Contains(t, w.setup(), "setup: nothing to change")

	w.write("state/bundles.token", w.agedToken(w.read("state/bundles.token")), 0o600)
	status, stdout, stderr := w.run("setup", "--renew")
	assert.Equal(t, 0, status, stderr)
	assert.Contains(t, stdout, "the token for bundles was renewed and is valid until")
	assert.Contains(t, w.whoAmI("bundles.kubeconfig"), "system:serviceaccount:slurm:slurmk8s-bundles")
	w.write("state/bundles.token", w.agedToken(w.read("state/bundles.token")), 0o600)
	_, _, _ = w.run("reconcile")
	assert.InDelta(t, 100, time.Until(kube.ReadToken(w.read("state/bundles.token")).NotAfter).Hours(), 1)
}

// TestTheControllerRenewsItsOwnToken shows that the shipped right suffices, and that
// the account gets no token of another one.
func TestTheControllerRenewsItsOwnToken(t *testing.T) {
	w := newWorld(t)
	w.setup()
	before := w.read("state/controller.token")
	status, stdout, _ := w.run("setup", "--renew")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "nothing to renew")

	w.write("state/controller.token", w.agedToken(before), 0o600)
	status, stdout, _ = w.run("setup", "--renew")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "was renewed and is valid until")
	renewed := kube.ReadToken(w.read("state/controller.token"))
	assert.InDelta(t, 100, time.Until(renewed.NotAfter).Hours(), 1, "it lasts as long as the one before it")

	w.write("state/controller.token", w.agedToken(before)+"x", 0o600)
	status, _, stderr := w.run("setup", "--renew")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "renew the controller's token")
	assert.Contains(t, stderr, "--kubeconfig FILE")

	// Reconcile does it in passing, whatever else it has to say.
	w.write("state/controller.token", w.agedToken(before), 0o600)
	_, _, _ = w.run("reconcile")
	assert.InDelta(t, 100, time.Until(kube.ReadToken(w.read("state/controller.token")).NotAfter).Hours(), 1)
	w.write("state/controller.token", before, 0o600)

	client := w.as("slurmk8s.kubeconfig")
	ask := func(account string) error {
		_, err := client.Resource(gvr("", "v1", "serviceaccounts")).Namespace("slurm").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": account}, "spec": map[string]any{},
		}}, metav1.CreateOptions{}, "token")
		return err
	}
	eventually.True(t, "the account may ask for its token", func() bool { return ask("slurmk8s-controller") == nil })
	assert.ErrorContains(t, ask("slurmk8s-node"), "forbidden")
}

func TestTokensOfNodesAreBoundToThem(t *testing.T) {
	w := newWorld(t)
	status, _, stderr := w.run("setup", "--kubeconfig", w.server.Kubeconfig(), "--open", "token-ns", "--output", w.path("out"),
		"--nodes", "tok1", "--node-credential", "token")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "node tok1:")
	assert.Contains(t, stderr, "--node-credential=certificate")

	_, err := w.admin.Resource(gvr("", "v1", "nodes")).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "tok1"}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.setup("--open", "token-ns", "--output", w.path("out"), "--nodes", "tok1", "--node-credential", "token")
	assert.Contains(t, w.whoAmI("out/nodes/tok1/slurmk8s-node.kubeconfig"), "system:serviceaccount:slurm:slurmk8s-node")
	assert.NoDirExists(t, w.path("out/nodes/c1"))
	assert.Contains(t, w.setup("--open", "token-ns", "--output", w.path("out"), "--nodes", "tok1"), "setup: nothing to change", "the kind is kept")
}

// TestAClusterThatSignsNothingIsNamedOnce, and not after a wait for each node.
func TestAClusterThatSignsNothingIsNamedOnce(t *testing.T) {
	w := newWorld(t)
	w.write("slurm.conf", "ClusterName=alps\nSlurmUser=root\nNodeName=n[1-100] NodeAddr=10.3.0.[1-100]\n", 0o644)
	cfg, err := slurmconf.Load(w.path("slurmk8s.toml"))
	require.NoError(t, err)
	admin, err := setup.NewAdministrator(kube.Options{Kubeconfig: w.server.Kubeconfig(), RequestTimeout: 5 * time.Second})
	require.NoError(t, err)
	signing.Store(false)
	defer signing.Store(true)
	began := time.Now()
	err = setup.Run(t.Context(), setup.Options{
		Config: cfg, Admin: admin, Lifetime: time.Hour, Output: w.path("out"), SigningLimit: time.Second, Out: t.Output(),
	})
	assert.ErrorContains(t, err, "it was not signed within 1s")
	assert.ErrorContains(t, err, "--node-credential=token")
	assert.NotContains(t, err.Error(), "\n")
	assert.Less(t, time.Since(began), 90*time.Second, "a second for each of 100 nodes")
}

func TestLinesOfSlurmAreAddedOnlyWhereTheyLack(t *testing.T) {
	w := newWorld(t)
	w.write("burst_buffer.conf", "Directive=DW\nFlags=PrivateData", 0o640)
	out := w.setup()
	assert.Contains(t, out, "run setup with --write-slurm-conf")
	assert.NotContains(t, w.read("slurm.conf"), "BurstBuffer")

	out = w.setup("--write-slurm-conf")
	assert.True(t, strings.HasSuffix(w.read("slurm.conf"), "\n# Added by slurmk8s setup.\nBurstBufferType=burst_buffer/lua\n"), w.read("slurm.conf"))
	assert.Contains(t, out, "restart slurmctld")
	assert.Contains(t, out, "add TeardownFailure to Flags=PrivateData")
	assert.Equal(t, "Directive=DW\nFlags=PrivateData", w.read("burst_buffer.conf"), "what is there is not edited")

	w.configure("[nodes]\nreclaim = \"all\"")
	assert.Regexp(t, `add "optional \S+/slurmk8s_nodes_spank.so nodes=on" once the plugin is installed`, w.setup())
	assert.Regexp(t, `add "optional \S+/slurmk8s_nodes_spank.so nodes=on workflows=on" once`, w.setup("--open", "lines-ns"))
	w.write("plugstack.conf", "required /x/slurmk8s_spank.so\n", 0o644)
	assert.Contains(t, w.setup(), `unchanged line "required /x/slurmk8s_spank.so" of `, "a line of ours is the administrator's")
	w.write("plugstack.conf", "include plugstack.d/*.conf\n", 0o644)
	require.NoError(t, os.Mkdir(filepath.Join(w.dir, "plugstack.d"), 0o755))
	w.write("plugstack.d/k8s.conf", "required /x/slurmk8s_spank.so\n", 0o644)
	assert.Regexp(t, `unchanged line "required /x/slurmk8s_spank.so" of \S+/plugstack.d/k8s.conf`, w.setup(), "the file that has the line")

	w.write("slurm.conf", "ClusterName=alps\nBurstBufferType=burst_buffer/datawarp\n", 0o644)
	out = w.setup("--write-slurm-conf")
	assert.Contains(t, out, "BurstBufferType is burst_buffer/datawarp")
	assert.NotContains(t, w.read("slurm.conf"), "burst_buffer/lua")
}

func TestRightsFollowTheConfiguration(t *testing.T) {
	w := newWorld(t, "[workflows]\nnamespace = \"storage\"")
	out := w.setup("--open", "follow-ns", "--take-nodes")
	for _, object := range []string{
		"namespace storage", "role storage/slurmk8s-controller", "rolebinding storage/slurmk8s-controller",
		"role storage/slurmk8s-node-workflows", "role storage/slurmk8s-storage-workflows", "clusterrole slurmk8s-storage", "role slurm/slurmk8s-controller-token", "clusterrolebinding slurmk8s-node-reclaim",
	} {
		assert.Regexp(t, `(?m)^(created|unchanged) +`+object+`$`, out)
	}
	assert.NotContains(t, out, "role slurm/slurmk8s-controller\n")
	assert.Contains(t, w.read("slurmk8s.kubeconfig"), "namespace: storage")
	w.unbind("slurmk8s-node-reclaim")
}

func TestMistakesOfTheAdministratorAreNamed(t *testing.T) {
	w := newWorld(t)
	admin := []string{"--kubeconfig", w.server.Kubeconfig()}
	stranger, err := w.server.UserKubeconfig("stranger")
	require.NoError(t, err)
	w.write("insecure", strings.Replace(w.readAny(stranger), "    server:", "    insecure-skip-tls-verify: true\n    server:", 1), 0o600)
	w.write("proxied", strings.Replace(w.readAny(w.server.Kubeconfig()), "    server:", "    proxy-url: http://proxy.example:3128\n    server:", 1), 0o600)
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no kubeconfig, and $KUBECONFIG is not read", nil, 64, "--kubeconfig FILE is required"},
		{"kubeconfig that is not there", []string{"--kubeconfig", "/nonexistent"}, 1, "/nonexistent"},
		{"no rights", []string{"--kubeconfig", stranger}, 1, `"stranger" cannot`},
		{"TLS verification off", []string{"--kubeconfig", w.path("insecure")}, 1, "insecure-skip-tls-verify is not allowed"},
		{"namespace of the system", append(admin, "--open", "kube-system"), 1, "use a namespace that is made for jobs"},
		{"namespace that is none", append(admin, "--open", "../x"), 1, `open namespace "../x"`},
		{"node that is none", append(admin, "--output", w.path("out"), "--nodes", ".."), 1, `".." cannot be the name of a node`},
		{"days", append(admin, "--days", "0"), 64, "1 to 3650"},
		{"remote without output", append(admin, "--remote"), 64, "--remote needs --output"},
		{"server without TLS", append(admin, "--server", "http://x"), 64, "not a URL such as https://"},
		{"an administrator's proxy", []string{"--kubeconfig", w.path("proxied")}, 1, "has proxy-url, and slurmk8s uses no proxy: give --server URL"},
		{"unknown flag", []string{"--opne", "x"}, 64, "-opne"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, stderr := w.run("setup", c.args...)
			assert.Equal(t, c.status, status)
			assert.Contains(t, stderr, c.says)
			assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line")
		})
	}
}

func TestARemoteControllersCredentialIsStaged(t *testing.T) {
	w := newWorld(t)
	out := w.setup("--remote", "--output", w.path("out"))
	assert.Contains(t, out, "install -o")
	assert.NoFileExists(t, w.path("slurmk8s.kubeconfig"))
	assert.Contains(t, w.read("out/controller/slurmk8s.kubeconfig"), "tokenFile: "+w.path("state/controller.token"))
	assert.FileExists(t, w.path("out/controller/controller.token"))
}

func (w *world) unbind(name string) {
	w.t.Helper()
	err := w.admin.Resource(gvr("rbac.authorization.k8s.io", "v1", "clusterrolebindings")).Delete(w.t.Context(), name, metav1.DeleteOptions{})
	require.NoError(w.t, err)
}

// nodes is the list of nodes.
func (w *world) nodes() map[string]string {
	w.t.Helper()
	data, _, err := unstructured.NestedStringMap(w.get(configMaps, "slurm", "slurmk8s-nodes").Object, "data")
	require.NoError(w.t, err)
	return data
}

func (w *world) patch(resource any, namespace, name, patch string) {
	w.t.Helper()
	r := roles
	if resource == configMaps {
		r = configMaps
	}
	_, err := w.admin.Resource(r).Namespace(namespace).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "admin-by-hand"})
	require.NoError(w.t, err)
}

func (w *world) readAny(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(w.t, err)
	return string(text)
}

func (w *world) as(kubeconfig string) dynamic.Interface {
	w.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", w.path(kubeconfig))
	require.NoError(w.t, err)
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	require.NoError(w.t, err)
	return client
}

// whoAmI is user and groups of a credential, as the API server sees them.
func (w *world) whoAmI(kubeconfig string) []string {
	w.t.Helper()
	answer, err := w.as(kubeconfig).Resource(gvr("authentication.k8s.io", "v1", "selfsubjectreviews")).Create(w.t.Context(),
		&unstructured.Unstructured{Object: map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	user, _, _ := unstructured.NestedString(answer.Object, "status", "userInfo", "username")
	groups, _, _ := unstructured.NestedStringSlice(answer.Object, "status", "userInfo", "groups")
	who := []string{user}
	for _, g := range groups {
		if g != "system:authenticated" {
			who = append(who, g)
		}
	}
	return who
}
