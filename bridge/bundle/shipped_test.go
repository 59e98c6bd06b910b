package bundle

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/job"
)

var update = flag.Bool("update", false, "write the golden files")

const shippedDir = "../../packaging/bundles"

// shipped are the bundles of the packages with the values that arkouda_workflows gives its
// Workflows.
var shipped = []struct{ option, golden string }{
	{"arkouda-exporter,name=arkouda-on-slurm-exporter,version=v2024.04.19,server=arkouda-on-slurm,host=arkouda-metrics.arkouda,port=5556," +
		"interval=15,match=release:kube-stack,launcher=slurm,cpu=2000m,cpu_limit=2000m,memory=2048Mi,memory_limit=2048Mi,ns=arkouda", "arkouda-exporter"},
	{"arkouda-on-kubernetes,name=arkouda-on-k8s,version=v2024.04.19,memory=2048Mi,cpu=2000m,locales=2,run_user=user,run_uid=1005,run_group=usergroup," +
		"run_gid=1006,threads=2,mem_max=1000000000,interval=15,match=release:kube-stack,launcher=kubernetes,pull_policy=IfNotPresent,ssh_secret=arkouda-ssh,ns=arkouda", "arkouda-on-kubernetes"},
	{"argo,template=deploy-prometheus-arkouda-exporter,delete=delete-prometheus-arkouda-exporter,ns=arkouda," +
		"p.exporter-release-version=v2024.04.19,p.exporter-app-name=arkouda-on-slurm-exporter,p.exporter-service-name=arkouda-on-slurm-exporter," +
		"p.exporter-polling-interval=15,p.prometheus-match-label=release:%20kube-stack,p.arkouda-launcher=slurm,p.arkouda-server-name=arkouda-on-slurm," +
		"p.arkouda-metrics-service-host=arkouda-metrics.arkouda,p.arkouda-metrics-service-port=5556", "argo"},
	{"arkouda-cron,name=arkouda,p.arkouda-version=v2024.04.19,d.arkouda-instance-name=arkouda-on-k8s,ns=arkouda", "arkouda-cron"},
	{"jupyter-proxy,path=/user/alice,service=jupyter,ns=jobs", "jupyter-proxy"},
	{"service-monitor,port=metrics,match=release:kube-stack,ns=jobs", "service-monitor"},
}

func expandShipped(t *testing.T, option string) (*Rendered, error) {
	t.Helper()
	requests, err := ParseOption(option)
	require.NoError(t, err)
	b, err := LoadUntrusted(filepath.Join(shippedDir, requests[0].Name))
	require.NoError(t, err)
	return b.Expand(requests[0], alice)
}

func TestShippedBundlesMakeTheObjectsOfTheGoldenFiles(t *testing.T) {
	names, err := Names([]string{shippedDir})
	require.NoError(t, err)
	require.Len(t, shipped, len(names), "each bundle has a golden file")
	for _, c := range shipped {
		t.Run(c.golden, func(t *testing.T) {
			out, err := expandShipped(t, c.option)
			require.NoError(t, err)
			var text bytes.Buffer
			fmt.Fprintf(&text, "# %s\n", c.option)
			for _, phase := range append(out.Phases, out.Delete...) {
				for i, object := range phase.Objects {
					data, err := yaml.Marshal(object.Object)
					require.NoError(t, err)
					fmt.Fprintf(&text, "---\n# phase %s, wait for %s: %s\n%s", phase.Name, phase.Wait, phase.Files[i], data)
				}
			}
			golden := filepath.Join("testdata", c.golden+".yaml")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(golden, text.Bytes(), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), text.String())
		})
	}
}

// typed are Kubernetes's own kinds; what Argo and prometheus-operator have is not in its API.
var typed = map[string]func() any{
	"ConfigMap":  func() any { return &corev1.ConfigMap{} },
	"Service":    func() any { return &corev1.Service{} },
	"Pod":        func() any { return &corev1.Pod{} },
	"Deployment": func() any { return &appsv1.Deployment{} },
	"Ingress":    func() any { return &networkingv1.Ingress{} },
}

func TestShippedObjectsHaveTheFieldsOfTheirKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range shipped {
		out, err := expandShipped(t, c.option)
		require.NoError(t, err)
		for _, phase := range out.Phases {
			for i, object := range phase.Objects {
				into, ours := typed[object.GetKind()]
				if !ours {
					assert.Contains(t, []string{"ServiceMonitor", "Workflow", "CronWorkflow"}, object.GetKind())
					continue
				}
				seen[object.GetKind()] = true
				data, err := json.Marshal(object.Object)
				require.NoError(t, err)
				assert.NoError(t, yaml.UnmarshalStrict(data, into()), "%s: %s", c.golden, phase.Files[i])
			}
		}
	}
	assert.Len(t, seen, len(typed))
}

// named finds the object of a kind and a name.
func (r *Rendered) named(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, phase := range append(r.Phases, r.Delete...) {
		for _, object := range phase.Objects {
			if object.GetKind() == kind && object.GetName() == name {
				return object
			}
		}
	}
	require.Fail(t, "no "+kind+" "+name)
	return nil
}

// container is one of a pod's, by its name.
func container(t *testing.T, object *unstructured.Unstructured, name string, pod ...string) map[string]any {
	t.Helper()
	for _, list := range []string{"containers", "initContainers"} {
		containers, _, err := unstructured.NestedSlice(object.Object, append(pod, list)...)
		require.NoError(t, err)
		for _, c := range containers {
			if c.(map[string]any)["name"] == name {
				return c.(map[string]any)
			}
		}
	}
	require.Fail(t, "no container "+name)
	return nil
}

func environment(container map[string]any) map[string]any {
	env := map[string]any{}
	for _, v := range container["env"].([]any) {
		variable := v.(map[string]any)
		env[variable["name"].(string)] = variable["value"]
	}
	return env
}

// What arkouda_workflows gets wrong, and these do not.
func TestTheExporterIsFoundAndHasItsNames(t *testing.T) {
	out, err := expandShipped(t, shipped[0].option)
	require.NoError(t, err)
	const name = "arkouda-on-slurm-exporter"
	env := environment(container(t, out.named(t, "Deployment", name), "arkouda-metrics-exporter", "spec", "template", "spec"))
	for _, pair := range [][2]string{
		{"EXPORT_PORT", "METRICS_SCRAPE_PORT"}, {"POLLING_INTERVAL_SECONDS", "METRICS_POLLING_INTERVAL"}, {"ARKOUDA_SERVER_NAME", "ARKOUDA_METRICS_SERVER_NAME"},
	} {
		assert.NotEmpty(t, env[pair[0]])
		assert.Equal(t, env[pair[0]], env[pair[1]], "the manifests set the first, the exporter reads the second")
	}
	service, monitor := out.named(t, "Service", name), out.named(t, "ServiceMonitor", name+"-servicemonitor")
	targets := field(t, monitor, "spec", "targetLabels").([]any)
	require.Len(t, targets, 2)
	for _, label := range targets {
		assert.Equal(t, monitor.GetLabels()[label.(string)], service.GetLabels()[label.(string)], "Prometheus reads %s from the Service", label)
		assert.NotEmpty(t, service.GetLabels()[label.(string)])
	}
	for key, value := range field(t, monitor, "spec", "selector", "matchLabels").(map[string]any) {
		assert.Equal(t, value, service.GetLabels()[key])
	}
	assert.Equal(t, "kube-stack", monitor.GetLabels()["release"])
	assert.Equal(t, map[string]string{"ARKOUDA_EXPORTER": name + ".arkouda.svc:5080", "SLURMK8S_BUNDLE_ARKOUDA_EXPORTER_NAMESPACE": "arkouda"}, out.Env)
}

func TestArkoudaOnKubernetesNeedsNoTokenAndNoRole(t *testing.T) {
	out, err := expandShipped(t, shipped[1].option)
	require.NoError(t, err)
	var phases []string
	for _, phase := range out.Phases {
		phases = append(phases, phase.Name)
		assert.Equal(t, WaitReady, phase.Wait)
		for _, object := range phase.Objects {
			assert.NotContains(t, []string{"ServiceAccount", "Role", "RoleBinding", "Secret"}, object.GetKind())
		}
	}
	assert.Equal(t, []string{"base", "locales", "server", "metrics"}, phases)

	locales, server := out.named(t, "Deployment", "arkouda-on-k8s-locale"), out.named(t, "Pod", "arkouda-on-k8s-server")
	assert.Equal(t, int64(2), field(t, locales, "spec", "replicas"))
	assert.Equal(t, false, field(t, locales, "spec", "template", "spec", "automountServiceAccountToken"))
	assert.Equal(t, false, field(t, server, "spec", "automountServiceAccountToken"))
	env := environment(container(t, server, "arkouda-udp-server", "spec"))
	assert.Equal(t, "3", env["NUMLOCALES"])
	assert.Equal(t, "arkouda-on-k8s-locale-headless", env["LOCALES"])
	for _, name := range []string{"arkouda-on-k8s", "arkouda-on-k8s-metrics", "arkouda-on-k8s-server-headless"} {
		assert.Equal(t, map[string]any{"app": "arkouda-on-k8s-server"}, field(t, out.named(t, "Service", name), "spec", "selector"))
	}
	for _, part := range []string{"locale", "server"} {
		script := field(t, out.named(t, "ConfigMap", "arkouda-on-k8s-"+part+"-launch-script"), "data", "script").(string)
		assert.NotContains(t, script, "1005", "no parameter is in a script")
		assert.NotContains(t, script, "INTEGRATION", "the server registers nothing itself")
	}

	out, err = expandShipped(t, shipped[1].option+",metrics=false")
	require.NoError(t, err)
	assert.Len(t, out.Phases, 3)
}

func TestTheArgoBundleSetsNothingThatArgoForbids(t *testing.T) {
	out, err := expandShipped(t, shipped[2].option)
	require.NoError(t, err)
	for _, name := range []string{"argo-42", "argo-42-delete"} {
		workflow := out.named(t, "Workflow", name)
		spec := field(t, workflow, "spec").(map[string]any)
		for key := range spec { // with templateReferencing: Strict
			assert.Contains(t, []string{"workflowTemplateRef", "arguments", "activeDeadlineSeconds", "podGC"}, key)
		}
		parameters := field(t, workflow, "spec", "arguments", "parameters").([]any)
		assert.Len(t, parameters, 9)
		assert.Contains(t, parameters, map[string]any{"name": "prometheus-match-label", "value": "release: kube-stack"})
		for key := range workflow.GetLabels() {
			assert.NotContains(t, key, "completed", "a controller skips such a Workflow")
		}
	}
	assert.Equal(t, int64(1800), field(t, out.named(t, "Workflow", "argo-42"), "spec", "activeDeadlineSeconds"))
	require.Len(t, out.Delete, 1)

	out, err = expandShipped(t, "argo,template=deploy,ns=arkouda")
	require.NoError(t, err)
	assert.Empty(t, out.Delete)
	_, err = expandShipped(t, "argo,template=deploy,ns=arkouda,p.x=a:%20b")
	assert.ErrorContains(t, err, `p.x="a: b": must match`)
	_, err = expandShipped(t, "argo,template=deploy,ns=arkouda,p.x={{a}}")
	assert.Error(t, err)
}

func TestAUserHasNoOthersPath(t *testing.T) {
	for path, ok := range map[string]bool{"/user/alice": true, "/user/alice/lab": true, "/user/bob": false, "/": false, "/user/alice/../bob": false, "/user/alice/": false} {
		_, err := expandShipped(t, "jupyter-proxy,ns=jobs,path="+path)
		assert.Equal(t, ok, err == nil, "%s: %v", path, err)
	}
	out, err := expandShipped(t, "jupyter-proxy,ns=jobs")
	require.NoError(t, err)
	assert.Equal(t, "/user/alice", out.Env["JUPYTER_PROXY_PATH"])
}

func TestShippedBundlesAskForTheirParametersAndHelp(t *testing.T) {
	for option, want := range map[string]string{
		"arkouda-exporter,ns=a":                               "bundle arkouda-exporter: server= is missing",
		"arkouda-exporter,ns=a,server=s,host=h,interval=5":    "bundle arkouda-exporter: interval=5: at least 10",
		"arkouda-exporter,ns=a,server=s,host=h,intervall=20":  `bundle arkouda-exporter: no parameter "intervall": did you mean interval? (slurmk8s bundle show arkouda-exporter)`,
		"arkouda-exporter,ns=a,server=s,host=169.254.169.254": "bundle arkouda-exporter: host=169.254.169.254: must not be a loopback, link-local or multicast address",
		"arkouda-on-kubernetes,ns=a,locales=65":               "bundle arkouda-on-kubernetes: locales=65: at most 64",
		"arkouda-on-kubernetes,ns=a,ssh_secret=other":         "bundle arkouda-on-kubernetes: ssh_secret=other: must match one of arkouda-*",
		"arkouda-on-kubernetes,ns=a,run_uid=0":                "bundle arkouda-on-kubernetes: run_uid=0: at least 1000",
		"arkouda-on-kubernetes,ns=a,timeout=1h":               "bundle arkouda-on-kubernetes: timeout=1h: at most 15m",
		"argo,ns=a":                                           "bundle argo: template= is missing",
	} {
		_, err := expandShipped(t, option)
		var refused *job.Refused
		require.ErrorAs(t, err, &refused, option)
		assert.Equal(t, want, err.Error())
	}
	names, err := Names([]string{shippedDir})
	require.NoError(t, err)
	for _, name := range names {
		b, err := LoadUntrusted(filepath.Join(shippedDir, name))
		require.NoError(t, err)
		assert.NotEmpty(t, b.Summary)
		for _, p := range b.Params {
			assert.NotEmpty(t, p.Help, "%s: %s", name, p.Name)
			assert.False(t, strings.HasSuffix(p.Help, "."), "%s: %s", name, p.Name)
		}
	}
}

// What arkouda_workflows has, but for a start that is missed: that is made up for.
func TestTheClockRunsArkoudaInTheDayOfNewYork(t *testing.T) {
	b, err := LoadUntrusted(filepath.Join(shippedDir, "arkouda-cron"))
	require.NoError(t, err)
	out, err := b.Expand(Request{Name: "arkouda-cron", Instance: "arkouda-cron", Namespace: "arkouda"}, Facts{Job: job.Job{Cluster: "c1"}})
	require.NoError(t, err)
	for which, schedule := range map[string]string{"deploy": "0 7 * * *", "delete": "0 17 * * *"} {
		assert.Equal(t, map[string]any{
			"schedules": []any{schedule}, "timezone": "America/New_York", "startingDeadlineSeconds": int64(300), "concurrencyPolicy": "Replace",
			"successfulJobsHistoryLimit": int64(4), "failedJobsHistoryLimit": int64(4), "suspend": false,
			"workflowSpec": map[string]any{
				"serviceAccountName": "arkouda-workflows-service-account", "podGC": map[string]any{"strategy": "OnWorkflowSuccess"},
				"workflowTemplateRef": map[string]any{"name": which + "-arkouda-on-kubernetes"},
				"arguments":           map[string]any{"parameters": []any{}},
			},
		}, field(t, out.named(t, "CronWorkflow", "arkouda-cron-"+which), "spec"))
	}
}
