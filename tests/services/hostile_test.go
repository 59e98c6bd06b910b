package services

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// alice may use her own names and ports in the test's namespace.
func (w *world) aliceOnly() string {
	return fmt.Sprintf("[[services.allow]]\nusers = ['daemon']\nnamespaces = [%q]\nnames = ['mine-*', 'mine']\nports = ['8000-8999']\nmax_services = 2\n", w.namespace)
}

// A user of the node is daemon (uid 1), whom every Linux knows. Everything here is
// refused with one line, in the log once, and nothing is made.
func TestHostileUsersAreRefused(t *testing.T) {
	w := newWorld(t)
	victim := w.registrar(77)
	_, err := victim.Register(t.Context(), w.specs("mine-taken:8888"))
	require.NoError(t, err)
	before := w.names()
	n := w.newNode(site{rules: w.aliceOnly()})
	n.squeue(`echo "77|RUNNING|root|c1"`)
	secret := n.write("secret", 0o600, "export EXTERNAL_SERVICE_NAME=mine\n")
	link := filepath.Join(n.dir, "link")
	require.NoError(t, os.Symlink(secret, link))
	fifo := filepath.Join(n.dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o644))

	tests := []struct {
		name   string
		fields []string
		want   string
	}{
		{"a user without a rule", []string{"UID=2", "GID=2", "K8S_REGISTER=mine:8888"}, "may not have services"},
		{"a uid without a name", []string{"UID=4000000000", "K8S_REGISTER=mine:8888"}, "has no name on this host"},
		{"another user's namespace", []string{"K8S_REGISTER=name=mine,port=8888,ns=user-bob"}, "namespace user-bob: user daemon may use"},
		{"kube-system by option", []string{"K8S_REGISTER=mine:8888", "K8S_NAMESPACE=kube-system"}, "namespace kube-system: user daemon may use"},
		{"a path for a namespace", []string{"K8S_REGISTER=mine:8888", "K8S_NAMESPACE=../kube-system"}, "--k8s-namespace: namespace"},
		{"a path in a specification", []string{"K8S_REGISTER=name=mine,port=8888,ns=" + w.namespace + "/../kube-system"}, "ns=: namespace"},
		{"another job's name", []string{"K8S_REGISTER=mine-taken:8888"}, "mine-taken belongs to job 77, which is running"},
		{"a name out of policy", []string{"K8S_REGISTER=kubernetes:8888"}, "may use the names mine-*, mine"},
		{"ssh", []string{"K8S_REGISTER=mine:22"}, "node ports 8000-8999, not 22"},
		{"ssh as the target", []string{"K8S_REGISTER=mine:8888:22"}, "node ports 8000-8999, not 22"},
		{"kubelet", []string{"K8S_REGISTER=mine:8888:10250"}, "no job may publish node port 10250"},
		{"the API server", []string{"K8S_REGISTER=mine:8888:6443"}, "no job may publish node port"},
		{"slurmd", []string{"K8S_REGISTER=mine:8888:6818"}, "no job may publish node port"},
		{"too many", []string{"K8S_REGISTER=mine:8001;mine-b:8002;mine-c:8003"}, "may have 2 services, not 3"},
		{"a node port", []string{"K8S_REGISTER=name=mine,port=8888,expose=nodeport"}, "may not use expose=nodeport"},
		{"a selector", []string{"K8S_REGISTER=name=mine,port=8888,type=internal,app=x"}, "may not use type=internal"},
		{"an address", []string{"K8S_REGISTER=name=mine,port=8888,ip=127.0.0.1"}, `unknown field "ip"`},
		{"a label of Kubernetes", []string{"K8S_REGISTER=name=mine,port=8888,label=endpointslice.kubernetes.io/managed-by=x"}, "users may not set labels of"},
		{"our own label", []string{"K8S_REGISTER=name=mine,port=8888,label=slurmk8s.io/job-id=77"}, "users may not set labels of"},
		{"a label out of YAML", []string{"K8S_REGISTER=name=mine,port=8888,label=a=b\nspec: x"}, "has an invalid character"},
		{"a newline", []string{"K8S_REGISTER=mine:8888\nK8S_NAMESPACE=kube-system"}, "has an invalid character"},
		{"a terminal's escape", []string{"K8S_REGISTER=mine:8888\x1b]0;x\x07"}, "has an invalid character"},
		{"10 KB", []string{"K8S_REGISTER=" + strings.Repeat("a", 10<<10)}, "longer than 8 KiB"},
		{"10 KB of an import", []string{"K8S_IMPORT=" + strings.Repeat("a", 10<<10)}, "longer than 8 KiB"},
		{"an import from elsewhere", []string{"K8S_IMPORT=kube-system/kube-dns"}, "namespace kube-system: user daemon may use"},
		{"an import with a path", []string{"K8S_IMPORT=x/../../secrets"}, "--k8s-import"},
		{"a relative probe", []string{"K8S_REGISTER=name=mine,port=8888,ready=file:../x"}, "not an absolute path"},
		{"the variables of Arkouda", []string{"K8S_REGISTER=env", "ENV_NAMESPACE=kube-system", "ENV_EXTERNAL_SERVICE_NAME=mine", "ENV_EXTERNAL_SERVICE_PORT=8888"},
			"namespace kube-system: user daemon may use"},
		{"a script that is root's and private", []string{"K8S_REGISTER=env", "SCRIPT=" + link}, "read the job script"},
		{"a script that never ends", []string{"K8S_REGISTER=env", "SCRIPT=" + fifo}, "is not a file of the job's owner"},
		{"a job that is none", []string{"JOB_ID=0", "K8S_REGISTER=mine:8888"}, "JOB_ID=0 is not a job id"},
		{"a job out of range", []string{"JOB_ID=4294967296", "K8S_REGISTER=mine:8888"}, "is not a number"},
		{"a step that is a path", []string{"STEP_ID=../0", "K8S_REGISTER=mine:8888"}, "is not a step"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := []string{"CONFIG=" + n.config, "JOB_ID=12", "STEP_ID=batch", "UID=1", "GID=1", "NODE=c1", "NODE_RANK=0"}
			s := n.start(append(base, tt.fields...), // and tricks of the environment
				"KUBECONFIG=/tmp/evil", "LD_PRELOAD=/tmp/evil.so", "HTTPS_PROXY=http://127.0.0.1:1", "SSL_CERT_FILE=/dev/null",
				"GODEBUG=netdns=go+2", "SPANK_K8S_REGISTER=x:1", "KUBERNETES_SERVICE_HOST=127.0.0.1")
			answer := s.reply()
			s.gone()
			require.Len(t, answer, 2)
			assert.Regexp(t, `^CODE=[23]$`, answer[0])
			assert.Contains(t, answer[1], tt.want)
			assert.NotRegexp(t, `[[:cntrl:]]`, answer[1])
			assert.LessOrEqual(t, len(answer[1]), 900)
			assert.Equal(t, before, w.names(), "nothing changed")
			assert.False(t, n.marked(12))
		})
	}
	log, err := os.ReadFile(filepath.Join(n.dir, "log"))
	require.NoError(t, err)
	assert.Equal(t, len(tests), strings.Count(string(log), "refused or failed"), "each is in the log once")
}

// What a user's environment says does not steer the program: it registers all the
// same, with the site's credential, at the node's address.
func TestTheEnvironmentSteersNothing(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none", "ENV_K8S_HOST=https://evil:6443", "ENV_KEY_FILE=/etc/shadow",
		"KUBECONFIG=/tmp/evil", "K8S_ADDRESS=10.9.9.9", "USER_NAME=root"),
		"KUBECONFIG=/tmp/evil", "HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev",
		"LD_LIBRARY_PATH=/tmp", "SLURM_CONF=/tmp/evil")
	assert.Contains(t, s.reply(), "CODE=0")
	assert.Contains(t, w.endpoint("a.alps.12.c1"), n.address.String()+" ")
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

func TestManyStepsShareOneLimit(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{rules: w.aliceOnly()})
	start := func(step, spec string) *step {
		return n.start([]string{"CONFIG=" + n.config, "JOB_ID=12", "STEP_ID=" + step, "UID=1", "GID=1", "NODE=c1", "K8S_REGISTER=" + spec})
	}
	first, second := start("0", "name=mine,port=8001,ready=none"), start("1", "name=mine-b,port=8002,ready=none")
	assert.Contains(t, first.reply(), "CODE=0")
	assert.Contains(t, second.reply(), "CODE=0")
	third := start("2", "name=mine-c,port=8003,ready=none")
	assert.Equal(t, []string{"CODE=2", "MESSAGE=a job of user daemon may have 2 services, not 3"}, third.reply())
	third.gone()
	assert.Equal(t, []string{"CODE=0"}, first.end())
	fourth := start("3", "name=mine-c,port=8003,ready=none")
	assert.Contains(t, fourth.reply(), "CODE=0")
	assert.Equal(t, []string{"CODE=0"}, fourth.end())
	assert.Equal(t, []string{"CODE=0"}, second.end())
	assert.Empty(t, w.names())
}

func TestNodesOfAJobShareOneLimit(t *testing.T) {
	w := newWorld(t)
	c1, c2 := w.newNode(site{rules: w.aliceOnly()}), w.newNode(site{rules: w.aliceOnly()})
	start := func(n *node, name, step, spec string, more ...string) *step {
		fields := []string{"CONFIG=" + n.config, "JOB_ID=12", "STEP_ID=" + step, "UID=1", "GID=1", "NODE=" + name, "K8S_REGISTER=" + spec}
		return n.start(append(fields, more...))
	}
	first := start(c1, "c1", "batch", "name=mine,port=8001,ready=none;name=mine-b,port=8002,ready=none", "NODELIST=c[1-2]")
	assert.Contains(t, first.reply(), "CODE=0")
	before := w.names()
	// NODELIST is what srun's user says it is.
	second := start(c2, "c2", "0", "name=mine-c,port=8003,ready=none", "NODELIST=c2")
	assert.Equal(t, []string{"CODE=2", "MESSAGE=a job of user daemon may have 2 services, not 3"}, second.reply())
	second.gone()
	assert.Equal(t, before, w.names(), "what it made is gone again")
	again := start(c2, "c2", "1", "name=mine,port=8001,ready=none;name=mine-b,port=8002,ready=none", "NODELIST=c2")
	assert.Contains(t, again.reply(), "CODE=0", "the same names count once")
	assert.Equal(t, []string{"CODE=0"}, again.end())
	assert.Equal(t, []string{"CODE=0"}, first.end())
	assert.Empty(t, w.names())
}

// Whatever came before it, Kubernetes is never given an address such as these.
func TestAnAddressThatLeadsElsewhereIsNotPublished(t *testing.T) {
	w := newWorld(t)
	for _, address := range []string{"interface:lo", "subnet:127.0.0.0/8", "subnet:169.254.0.0/16", "subnet:203.0.113.0/24", "interface:nope0", "node"} {
		n := w.newNode(site{})
		text, err := os.ReadFile(n.config)
		require.NoError(t, err)
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "address = ") {
				lines[i] = fmt.Sprintf("address = %q", address)
			}
		}
		n.write("slurmk8s.toml", 0o644, strings.Join(lines, "\n"))
		n.write("slurm.conf", 0o644, "ClusterName=alps\nNodeName=c1 NodeAddr=127.0.0.1\n")
		s := n.start(n.fields("K8S_REGISTER=a:8888"))
		answer := s.reply()
		assert.Equal(t, "CODE=3", answer[0], address)
		s.gone()
	}
	assert.Empty(t, w.names())
}

// The check at the prompt runs as the user and asks Kubernetes nothing.
func TestTheCheckAtThePrompt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	w := newWorld(t)
	n := w.newNode(site{rules: w.aliceOnly(), kubeconfig: "/nonexistent"})
	private := n.write("private.toml", 0o600, "")
	require.NoError(t, os.Chmod(n.dir, 0o755))
	parent := filepath.Dir(n.dir)
	require.NoError(t, os.Chmod(parent, 0o755))
	check := func(fields ...string) string {
		cmd := exec.Command(slurmk8s(t), append([]string{"hook", "k8s_check", "CONFIG=" + n.config}, fields...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1}}
		out, _ := cmd.CombinedOutput()
		return fmt.Sprintf("%d %s", cmd.ProcessState.ExitCode(), out)
	}
	assert.Equal(t, "0 ", check("K8S_REGISTER=mine:8888"))
	assert.Equal(t, "0 ", check("K8S_REGISTER=env"), "the script may set the variables")
	assert.Equal(t, "0 ", check("K8S_IMPORT=mine", "K8S_NAMESPACE="+w.namespace))
	assert.Contains(t, check("K8S_REGISTER=mine:0"), `2 MESSAGE=--k8s-register: "mine:0": "0" is not a port from 1 to 65535`)
	assert.Contains(t, check("K8S_REGISTER="), "2 MESSAGE=--k8s-register: empty")
	assert.Contains(t, check("K8S_REGISTER=mine:22"), "2 MESSAGE=service mine: user daemon may use node ports 8000-8999, not 22")
	assert.Contains(t, check("K8S_REGISTER=other:8888"), "2 MESSAGE=service other: user daemon may use the names")
	assert.Contains(t, check("K8S_REGISTER=mine:8888", "K8S_NAMESPACE=A"), "2 MESSAGE=--k8s-namespace")
	assert.Contains(t, check("K8S_IMPORT=kube-system/x"), "2 MESSAGE=namespace kube-system: user daemon may use")
	assert.Contains(t, check("K8S_REGISTER=env", "ENV_EXTERNAL_SERVICE_NAME=Mine"), "2 MESSAGE=")
	assert.Equal(t, "0 ", check("K8S_REGISTER=other:8888", "CONFIG="+private), "what the user cannot read, the node judges by")
	assert.Contains(t, check("K8S_REGISTER=other", "CONFIG="+private), "2 MESSAGE=", "but the syntax")
}
