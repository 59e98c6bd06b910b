package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
)

// hostileOptions are what a user may not have. Options are without "--k8s-".
var hostileOptions = []struct{ name, option, value, says string }{
	{"another user's namespace", "register", "name=x,port=8888,ns=bob", "service x: namespace bob: user alice may use slurm-jobs, arkouda"},
	{"kube-system", "register", "name=x,port=8888,ns=kube-system", "namespace kube-system: user alice may use"},
	{"a path for a namespace", "register", "name=x,port=8888,ns=../kube-system", `ns=: namespace "../kube-system"`},
	{"a path for a name", "register", "../kube-system/x:8888", `name "../kube-system/x"`},
	{"ssh", "register", "x:8888:22", "user alice may use node ports"},
	{"kubelet", "register", "x:8888:10250", "no job may publish node port 10250"},
	{"the API server", "register", "x:8888:6443", "no job may publish node port 6443"},
	{"slurmd", "register", "x:8888:6818", "no job may publish node port 6818"},
	{"a port out of range", "register", "x:65536", "is not a port"},
	{"a node port", "register", "name=x,port=8888,expose=nodeport", "may not use expose=nodeport"},
	{"a selector", "register", "name=x,port=8888,type=internal,app=web", "may not use type=internal"},
	{"an address", "register", "name=x,port=8888,ip=192.0.2.1", `unknown field "ip"`},
	{"a job's label", "register", "name=x,port=8888,label=slurmk8s.io/job-id=1", "users may not set labels of"},
	{"a label of Kubernetes", "register", "name=x,port=8888,label=service.kubernetes.io/headless=x", "users may not set labels of"},
	{"a label that goes on", "register", "name=x,port=8888,label=a=b\nspec: {}", "has a control character in it"},
	{"a newline", "register", "x:8888\ny:22", "has a control character in it"},
	{"10 KB", "register", strings.Repeat("x", 10<<10), "is too long"},
	{"a relative file", "register", "name=x,port=8888,ready=file:../../etc/shadow", "is not an absolute path"},
	{"too many", "register", "a:8001;b:8002;c:8003;d:8004;e:8005;f:8006;g:8007;h:8008;i:8009", "may have 8 services, not 9"},
	{"an import from elsewhere", "import", "kube-system/kube-dns", "namespace kube-system: user alice may use"},
	{"an import with a path", "import", "slurm-jobs/../../secrets", "--k8s-import"},
}

func TestHostileOptionsAreRefusedAtThePrompt(t *testing.T) {
	leaveOutIfShort(t)
	for _, c := range hostileOptions {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			result, err := sbatch(deadline(t, patience), t, script{options: []string{"--k8s-" + c.option + "=" + c.value}})
			require.NoError(t, err)
			require.NotZero(t, result.Status, "sbatch took it: %s", result.Stdout)
			require.Contains(t, result.Stderr, c.says)
		})
	}
}

// The prompt is the user's own process. What Slurm hands to the nodes can be written by hand, and
// the node judges it again: each step fails with a line of its own, and nothing is made.
func TestHostileOptionsThatAreForgedAreRefusedOnTheNode(t *testing.T) {
	parallel(t)
	var body strings.Builder
	for i, c := range hostileOptions {
		fmt.Fprintf(&body, "echo case %d; env '_SLURM_SPANK_OPTION_slurmk8s_k8s_%s=%s' srun echo RAN 2>&1\n", i, c.option, c.value)
	}
	j := submit(t, script{body: body.String() + "exit 0"})
	j.ends("COMPLETED")
	output := j.output()
	require.NotContains(t, output, "RAN", "a task ran")
	said := regexp.MustCompile(`(?m)^case \d+$`).Split(output, -1)[1:]
	require.Len(t, said, len(hostileOptions))
	toProgram := 0
	for i, c := range hostileOptions {
		require.Contains(t, said[i], c.says, c.name)
		require.Equal(t, 1, strings.Count(said[i], "slurmk8s: "), "%s: one line: %s", c.name, said[i])
		if !strings.Contains(c.says, "control character") && !strings.Contains(c.says, "too long") { // slurmstepd refuses these itself
			toProgram++
		}
	}
	log := j.nodeLog(deadline(t, patience))
	require.Equal(t, toProgram, strings.Count(log, "refused or failed"), "each is in the log once:\n%s", log)
	j.unregistered()
}

// Whatever a user's environment says, the site's credential is used and the node's own address is
// published. The program that does it is not the user's to read, to signal or to trace.
func TestAUsersEnvironmentAndProcessesSteerNothing(t *testing.T) {
	parallel(t)
	name, port := unique("steered"), freePort()
	j := submit(t, script{
		options: []string{fmt.Sprintf("--k8s-register=%s:%d", name, port)},
		env: []string{"KUBECONFIG=/home/alice/evil", "HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "SSL_CERT_FILE=/dev/null",
			"GODEBUG=x509usefallbackroots=1", "GOTRACEBACK=crash", "LD_PRELOAD=/home/alice/evil.so", "KUBERNETES_SERVICE_HOST=127.0.0.1",
			"SLURMD_NODENAME=evil", "K8S_HOST=https://evil:6443", "SPANK_K8S_REGISTER=x:22", "SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_namespace=bob"},
		body: "unset LD_PRELOAD\n" + `pid=$(pgrep -n -f '[s]lurmk8s step')
echo "program $pid"
kill -KILL "$pid" && echo KILLED
cat "/proc/$pid/environ" && echo READ
ls "/proc/$pid/fd" && echo LISTED
head -c1 "/proc/$pid/mem" && echo TRACED
` + serving(port) + untilTold,
	})
	j.serves(jobsNamespace, name)
	output := j.output()
	require.Regexp(t, `program \d+`, output)
	require.NotRegexp(t, "KILLED|READ|LISTED|TRACED", output)
	node, err := cluster.Node(j.node())
	require.NoError(t, err)
	environment, err := cluster.On(deadline(t, patience), node, "bash", "-c", "read -r pid _ </run/slurmk8s/job."+j.number()+` && tr '\0' '\n' <"/proc/$pid/environ" | sort`)
	require.NoError(t, err)
	require.Equal(t, "LANG=C\nPATH=/usr/bin:/bin\n", environment, "of the step program")
	j.tell()
	j.ends("COMPLETED")
	j.unregistered()
}

// Who has a node's credential publishes that node's address in the open namespaces, and nothing else.
func TestAStolenCredentialPublishesItsNodeAndNothingElse(t *testing.T) {
	parallel(t)
	thief, victim := cluster.Nodes[0], cluster.Nodes[1]
	credential, err := cluster.On(deadline(t, patience), thief, "cat", "/etc/slurm/slurmk8s-node.kubeconfig")
	require.NoError(t, err)
	stolen, err := cluster.With([]byte(credential))
	require.NoError(t, err)
	publish := func(namespace, name, address string) error {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata": map[string]any{"name": unique(name), "namespace": namespace, "labels": map[string]any{
				slurmjob.LabelManagedBy: slurmjob.ManagedBy, slurmjob.LabelCluster: "test", slurmjob.LabelJobID: forgotten, "kubernetes.io/service-name": "x"}},
			"addressType": "IPv4",
			"endpoints":   []any{map[string]any{"addresses": []any{address}}},
		}}
		_, err := stolen.Resource(service.EndpointSlices).Namespace(namespace).Create(deadline(t, patience), u, metav1.CreateOptions{})
		t.Cleanup(func() {
			_ = cluster.Kube.Resource(service.EndpointSlices).Namespace(namespace).Delete(deadline(t, patience), u.GetName(), metav1.DeleteOptions{})
		})
		return err
	}
	require.NoError(t, publish(jobsNamespace, "own", addressOf(t, thief.Name)))
	err = publish(jobsNamespace, "victim", addressOf(t, victim.Name))
	require.True(t, isDenied(err), "another node's address: %v", err)
	require.Contains(t, err.Error(), `node "`+thief.Name+`" may not publish`)
	err = publish(jobsNamespace, "api-server", addressOf(t, cluster.ControlPlane))
	require.True(t, isDenied(err), "the API server's address: %v", err)
	err = publish("default", "closed", addressOf(t, thief.Name))
	require.True(t, isDenied(err), "a namespace that is not open: %v", err)

	for resource, namespace := range map[string]string{"secrets": "slurm", "pods": jobsNamespace, "configmaps": "slurm"} {
		_, err := stolen.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace(namespace).List(deadline(t, patience), metav1.ListOptions{})
		require.True(t, isDenied(err), "list %s: %v", resource, err)
	}
}

func isDenied(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }
