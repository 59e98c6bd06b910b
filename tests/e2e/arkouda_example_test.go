package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const exporterImage = "bearsrus/prometheus-arkouda-exporter:v2024.04.19"

var (
	serviceMonitors = schema.GroupVersionResource{Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"}
	definitions     = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// haveExporter lets alice use the bundle arkouda-exporter: its image, the kind ServiceMonitor,
// which nothing controls here, and a rule.
func haveExporter(t *testing.T) {
	t.Helper()
	installJobSubmit(t)
	program := filepath.Join(t.TempDir(), "python")
	for _, command := range [][]string{{"go", "build", "-o", program, "./exporter"}, {"../cluster/image.sh", exporterImage, program}} {
		cmd := exec.CommandContext(deadline(t, patience), command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	definition := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition,
		metadata: {name: servicemonitors.monitoring.coreos.com}, spec: {group: monitoring.coreos.com, scope: Namespaced,
		names: {kind: ServiceMonitor, singular: servicemonitor, plural: servicemonitors}, versions: [{name: v1, served: true, storage: true,
		schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}`), &definition.Object))
	_, err := cluster.Kube.Resource(definitions).Create(deadline(t, patience), definition, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, cluster.Kube.Resource(definitions).Delete(deadline(t, patience), definition.GetName(), metav1.DeleteOptions{}))
		})
	}
	const bundles, configuration = "/etc/slurm/slurmk8s.d/bundles", "/etc/slurm/slurmk8s.toml"
	everywhere(t, "mkdir -p -m 755 "+bundles+" && cp -r /opt/slurmk8s-src/packaging/bundles/arkouda-exporter "+bundles)
	everywhere(t, `sed -i.before 's/^bundles = .*/bundles = ["arkouda-exporter"]/' `+configuration)
	t.Cleanup(func() {
		everywhere(t, "mv "+configuration+".before "+configuration+"; rm -r "+bundles+"/arkouda-exporter")
	})
}

// everywhere runs a command on slurmctld's host and on the nodes: sbatch is used on both.
func everywhere(t *testing.T, command string) {
	t.Helper()
	admin(t, "sh", "-c", command)
	for _, n := range cluster.Nodes {
		_, err := cluster.On(deadline(t, patience), n, "sh", "-c", command)
		require.NoError(t, err)
	}
}

// scrontab does what Slurm does with a line of a crontab when it is time: a job with the line's
// options runs the line's command. Debian's Slurm 22.05 has no scrontab.
func scrontab(t *testing.T, text string) *job {
	t.Helper()
	var options []string
	for line := range strings.Lines(text) {
		if option, isOption := strings.CutPrefix(line, "#SCRON "); isOption {
			options = append(options, strings.Fields(option)...)
		}
		if entry := regexp.MustCompile(`^([0-9*]+ ){5}(.*)`).FindStringSubmatch(line); entry != nil {
			return submit(t, script{options: options, env: []string{"PATH=" + usersExamples + "/bin:/usr/bin:/bin"}, body: entry[2]})
		}
	}
	require.Fail(t, "no line of a crontab", text)
	return nil
}

// The crontab submits arkouda.sh, whose server comes with an exporter.
func theServerAndItsExporterAreReached(t *testing.T, file string) {
	haveExporter(t)
	text, err := os.ReadFile(filepath.Join(examplesFolder, "arkouda.sh"))
	require.NoError(t, err)
	result, err := cluster.As(deadline(t, patience), user, string(text), "sh", "-c", "cat >arkouda.sh")
	require.NoError(t, err)
	require.Zero(t, result.Status, result.Stderr)
	t.Cleanup(func() { admin(t, "rm", "/home/"+user+"/arkouda.sh") })
	crontab, err := os.ReadFile(filepath.Join(examplesFolder, file))
	require.NoError(t, err)
	line := scrontab(t, string(crontab))
	line.ends("COMPLETED")
	submitted := regexp.MustCompile(`^Submitted batch job (\d+)\n$`).FindStringSubmatch(line.output())
	require.NotNil(t, submitted, line.output())

	j := adopt(t, parseID(t, submitted[1]))
	require.Equal(t, "10:00:00", j.comes("RUNNING")["TimeLimit"])
	j.serves("arkouda", "arkouda-on-slurm")
	j.serves("arkouda", "arkouda-on-slurm-metrics")
	other := otherThan(t, j.node())
	require.Equal(t, "arkouda", pageFrom(t, other, "http://arkouda-on-slurm.arkouda.svc:5555/"))
	exporter := "arkouda-exporter-" + j.number()
	require.Equal(t, "arkouda_number_of_connections 1", pageFrom(t, other, "http://"+exporter+"."+bundlesNamespace+".svc:5080/metrics"))
	monitor, err := cluster.Kube.Resource(serviceMonitors).Namespace(bundlesNamespace).Get(deadline(t, patience), exporter+"-servicemonitor", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "kube-stack", monitor.GetLabels()["release"])
	j.endsByScancel()
	for _, gvr := range append(bundleResources, service.Services, serviceMonitors) {
		eventually.Equal(t, 0, func() int {
			list, err := cluster.Kube.Resource(gvr).Namespace(bundlesNamespace).
				List(deadline(t, patience), metav1.ListOptions{LabelSelector: slurmjob.LabelJobID + "=" + j.number()})
			require.NoError(t, err)
			return len(list.Items)
		}, gvr.Resource)
	}
}
