package bundles

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// site is a Slurm controller with bundles. There is no DWS.
type site struct {
	*world
	dir string
}

// newSite is one where everybody may have every bundle in the world's namespace.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{world: newWorld(t), dir: t.TempDir()}
	require.NoError(t, os.Chmod(s.dir, 0o755))
	require.NoError(t, os.Mkdir(s.path("state"), 0o700))
	s.write("slurm.conf", "ClusterName="+cluster+"\n")
	s.write("burst_buffer.conf", "Directive=K8S\n")
	s.program("squeue", `case "$*" in *%U*) echo '12|1000|alice|physics|batch';; *) cat `+s.path("jobs")+`;; esac`)
	s.program("scontrol", "echo BOOT_TIME = 1000; echo NEXT_JOB_ID = 10000")
	s.program("program", `echo "$@" >>`+s.path("cancelled"))
	s.jobs("12|PENDING|alice|")
	s.write("slurmk8s.toml", fmt.Sprintf(`
slurm_conf = %q
slurm_bin_dir = %q
state_dir = %q
[kubernetes]
kubeconfig = %q
[log]
level = "debug"
file = %q
[workflows]
busy_wait = "200ms"
[bundles]
dirs = [%q]
[[bundles.allow]]
users = ["alice"]
bundles = ["*"]
namespaces = [%q, "kube-system"]
`, s.path("slurm.conf"), s.dir, s.path("state"), s.server.Kubeconfig(), s.path("log"), s.path("bundles"), s.namespace))
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(s.path("log"))
			t.Logf("the log of the hooks:\n%s", log)
		}
	})
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	require.NoError(s.t, os.WriteFile(s.path(name), []byte(text), 0o644))
}

func (s *site) program(name, text string) {
	s.t.Helper()
	s.write(name, "#!/bin/sh\n"+text+"\n")
	require.NoError(s.t, os.Chmod(s.path(name), 0o755))
}

// jobs is what squeue prints.
func (s *site) jobs(lines ...string) { s.write("jobs", strings.Join(lines, "\n")+"\n") }

// bundle writes one with a single phase of one file.
func (s *site) bundle(name, manifest, objects string) {
	s.write("bundles/"+name+"/bundle.toml", "summary = \"a test\"\n"+manifest+"\n[[phase]]\nname = \"all\"\nfiles = [\"objects.yaml\"]\n")
	s.write("bundles/"+name+"/objects.yaml", objects)
}

// run is a hook of job 12 of alice as burst_buffer.lua calls it, with the lines that the
// job's script has. It returns the hook's code and message.
func (s *site) run(name string, script []string, more ...string) string {
	s.t.Helper()
	code, reply := hook.Run(s.t.Context(), name, s.fields(script, more...))
	return strings.TrimSpace(fmt.Sprint(int(code), " ", reply[wire.KeyMessage]))
}

func (s *site) fields(script []string, more ...string) wire.Fields {
	s.write("script", "#!/bin/sh\n"+strings.Join(script, "\n")+"\ntrue\n")
	f := wire.Fields{
		wire.KeyConfig: s.path("slurmk8s.toml"), wire.KeyStateDir: s.path("state"), wire.KeyProgram: s.path("program"),
		wire.KeyJobID: "12", wire.KeyUID: "1000", wire.KeyGID: "1000", wire.KeyUser: "alice", wire.KeyScript: s.path("script"),
		wire.KeySubmitTime: "1700000000", wire.KeyRestart: "0",
	}
	for _, field := range more {
		key, value, _ := strings.Cut(field, "=")
		f[key] = value
	}
	return f
}

func (s *site) file(name string) string {
	text, _ := os.ReadFile(s.path(name))
	return string(text)
}

const plainMap = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\ndata:\n  nodes: ${greeting}\n"

const greeting = "[param.greeting]\ntype = \"string\"\ndefault = \"hello\"\nmax = 20\nhelp = \"what it says\"\n"

func TestAStagedBundleLivesAsLongAsItsJob(t *testing.T) {
	s := newSite(t)
	s.bundle("greeter", "when = \"stage\"\n"+greeting, plainMap)
	script := []string{"#K8S bundle greeter name=g greeting=hi"}

	assert.Equal(t, "0", s.run("slurm_bb_job_process", script))
	assert.Empty(t, s.names(), "submission stores nothing")
	assert.Equal(t, "0", s.run("slurm_bb_setup", script))
	assert.Equal(t, []string{"leases/slurm-alps-12.greeter"}, s.names())
	assert.Contains(t, s.file("state/job.12/env"), "SLURMK8S_BUNDLES=greeter\n")
	assert.Contains(t, s.file("state/job.12/env"), "SLURMK8S_BUNDLE_GREETER_NAMESPACE="+s.namespace+"\n")
	assert.Equal(t, "0", s.run("slurm_bb_data_in", script))
	assert.Equal(t, []string{"leases/slurm-alps-12.greeter", "configmaps/g"}, s.names())
	u := s.get(configMaps, "g")
	assert.Equal(t, "alice", u.GetAnnotations()["slurmk8s.io/user"])
	data, _ := u.Object["data"].(map[string]any)
	assert.Equal(t, "hi", data["nodes"])
	assert.Equal(t, "0", s.run("slurm_bb_pre_run", script, "NODES=c1"))
	assert.Equal(t, "0", s.run("slurm_bb_post_run", script), "no DWS is asked for a job without storage")
	assert.Equal(t, "0", s.run("slurm_bb_data_out", script))
	assert.Equal(t, "0", s.run("slurm_bb_test_data_out", script))
	assert.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
	assert.Empty(t, s.names())
	assert.NoDirExists(t, s.path("state/job.12"))
	assert.Equal(t, "0", s.run("slurm_bb_job_teardown", nil), "again, when Slurm has no script any more")
}

func TestABundleOfTheStartIsMadeWhenTheNodesAreKnown(t *testing.T) {
	s := newSite(t)
	s.bundle("counter", "when = \"start\"\n", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\ndata:\n  host: ${batch_host}\n")
	script := []string{"#K8S bundle counter"}
	assert.Equal(t, "0", s.run("slurm_bb_job_process", script))
	assert.Equal(t, "0", s.run("slurm_bb_setup", script))
	assert.Equal(t, "0", s.run("slurm_bb_data_in", script, "BUSY=true"))
	assert.Equal(t, "0", s.run("slurm_bb_test_data_in", script, "BUSY=true"))
	assert.Empty(t, s.names())
	assert.Equal(t, "0", s.run("slurm_bb_pre_run", script, "NODES=c[3-4]"))
	data, _ := s.get(configMaps, "counter-12").Object["data"].(map[string]any)
	assert.Equal(t, "c3", data["host"])
	assert.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
	assert.Empty(t, s.names())
}

func TestStagingIsPolledWhereSlurmPolls(t *testing.T) {
	s := newSite(t)
	s.bundle("server", "when = \"stage\"\n", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\nspec:\n  containers:\n  - {name: c, image: x}\n")
	script := []string{"#K8S bundle server name=p"}
	assert.Equal(t, "0", s.run("slurm_bb_setup", script))
	assert.Equal(t, "0", s.run("slurm_bb_data_in", script, "BUSY=true"))
	assert.Equal(t, []string{"leases/slurm-alps-12.server"}, s.names(), "the first poll begins")
	eventually.Equal(t, "1", func() string { return s.run("slurm_bb_test_data_in", script, "BUSY=true") })
	assert.Equal(t, "phase 1 of 1 (all), 0 of 1 ready: pod p: Pending", s.status().Detail)

	code, reply := hook.Run(t.Context(), "slurm_bb_get_status", s.fields(nil, "ARG1=bundle", "ARG2=12"))
	assert.Equal(t, wire.OK, code, reply)
	assert.Equal(t, "bundle=server phase=1/1 name=all ready=0/1 status=Waiting namespace="+s.namespace+" message=pod_p:_Pending", reply[wire.KeyText])
	_, reply = hook.Run(t.Context(), "slurm_bb_get_status", s.fields(nil, "ARG1=bundle", "ARG2=12", "UID="))
	assert.Equal(t, "bundle=server phase=1/1 status=Waiting", reply[wire.KeyText], "Slurm 22.05 does not say who asks")
	code, reply = hook.Run(t.Context(), "slurm_bb_get_status", s.fields(nil, "ARG1=bundle", "ARG2=12", "UID=1001"))
	assert.Equal(t, wire.Failed, code)
	assert.Equal(t, "job 12 belongs to another user", reply[wire.KeyMessage])

	s.setStatus("p", running)
	eventually.Equal(t, "0", func() string { return s.run("slurm_bb_test_data_in", script, "BUSY=true") })
	assert.Equal(t, "ready, 1 objects", s.status().Detail)
	assert.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
	assert.Empty(t, s.names())
}

// bbstat is what the job's user is told about its bundles.
func (s *site) bbstat() string {
	s.t.Helper()
	code, reply := hook.Run(s.t.Context(), "slurm_bb_get_status", s.fields(nil, "ARG1=bundle", "ARG2=12"))
	require.Equal(s.t, wire.OK, code, reply)
	return reply[wire.KeyText]
}

func TestBBStatSaysWhyABundleWaits(t *testing.T) {
	const (
		pod        = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\nspec:\n  containers:\n  - {name: c, image: x}\n"
		deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: ${name}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: w}}\n" +
			"  template:\n    metadata: {labels: {app: w}}\n    spec:\n      containers:\n      - {name: c, image: x}\n"
		pulls = "{phase: Pending, containerStatuses: [{name: c, image: x, imageID: '', restartCount: 0, ready: false, " +
			"state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image \"x\"'}}}]}"
		nowhere = "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/3 nodes are available'}]}"
	)
	for name, tt := range map[string]struct {
		object, status string // "": no room
		want           string
	}{
		"a pod whose image is not there":      {pod, pulls, `pod_p:_ImagePullBackOff:_Back-off_pulling_image_"x"`},
		"a workload whose image is not there": {deployment, pulls, `deployment_p:_0_of_1_available:_pod_p-[0-9a-z-]+:_ImagePullBackOff:_Back-off_pulling_image_"x"`},
		"a workload that fits no node":        {deployment, nowhere, `deployment_p:_0_of_1_available:_pod_p-[0-9a-z-]+:_Unschedulable:_0/3_nodes_are_available`},
		"a pod beyond the quota":              {pod, "", `pod_p:_pods_"p"_is_forbidden:_exceeded_quota:_q,.*`},
		"a workload beyond the quota":         {deployment, "", `deployment_p:_0_of_1_available:_FailedCreate:_pods_"p-[0-9a-z-]+"_is_forbidden:_exceeded_quota:_q,.*`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if tt.status == "" {
				s.noRoom()
			} else {
				s.kubelet(tt.status)
			}
			s.bundle("server", "when = \"stage\"\n", tt.object)
			script := []string{"#K8S bundle server name=p"}
			require.Equal(t, "0", s.run("slurm_bb_setup", script))
			assert.Equal(t, "bundle=server phase=1/1 name=all ready=0/1 status=Claimed namespace="+s.namespace+" message="+kindIn(tt.object)+"_p:_missing", s.bbstat())
			want := regexp.MustCompile("^bundle=server phase=1/1 name=all ready=0/1 status=Waiting namespace=" + s.namespace + " message=" + tt.want + "$")
			eventually.True(t, "bbstat says why", func() bool {
				require.Equal(t, "1", s.run("slurm_bb_test_data_in", script, "BUSY=true"))
				got := s.bbstat()
				if !want.MatchString(got) {
					t.Log(got)
				}
				return want.MatchString(got)
			})
			require.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
		})
	}
}

func kindIn(text string) string {
	_, after, _ := strings.Cut(text, "kind: ")
	kind, _, _ := strings.Cut(after, "\n")
	return strings.ToLower(kind)
}

func (s *site) duty() ([]duty.Object, error) {
	cfg, err := slurmconf.Load(s.path("slurmk8s.toml"))
	require.NoError(s.t, err)
	return stage.Duty{}.List(s.t.Context(), duty.Host{Config: cfg, Kube: s.driver(12).Kube, Job: 12, Log: apiserver.Log(s.t)})
}

// status is what slurmk8s status shows of the job's only bundle.
func (s *site) status() duty.Object {
	s.t.Helper()
	objects, err := s.duty()
	require.NoError(s.t, err)
	require.Len(s.t, objects, 1)
	return objects[0]
}

func TestWhatReconcileKnowsOfABundle(t *testing.T) {
	s := newSite(t)
	s.bundle("greeter", "when = \"stage\"\n"+greeting, plainMap)
	script := []string{"#K8S bundle greeter name=g"}
	assert.Equal(t, "0", s.run("slurm_bb_setup", script))
	assert.Equal(t, "0", s.run("slurm_bb_data_in", script))
	o := s.status()
	assert.Equal(t, "bundle "+s.namespace+"/greeter", o.Name)
	assert.Equal(t, uint32(12), o.JobID)
	assert.Equal(t, "alice", o.User)
	assert.False(t, o.Allocation, "a job that waits needs its bundle")
	require.NoError(t, o.Remove(t.Context()))
	assert.Empty(t, s.names())
	objects, err := s.duty()
	require.NoError(t, err)
	assert.Empty(t, objects)
}

func TestMistakesAreToldAtThePrompt(t *testing.T) {
	s := newSite(t)
	s.bundle("greeter", "when = \"stage\"\n"+greeting, plainMap)
	s.bundle("badport", "when = \"stage\"\n[param.port]\ntype = \"int\"\nmin = 1\nmax = 100000\nhelp = \"a port\"\n",
		"apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  ports:\n  - port: ${port}\n    targetPort: 80\n")
	for line, want := range map[string]string{
		"bundle greeter nme=x":                          "2 bundle greeter: no parameter \"nme\": did you mean name?",
		"bundle greter":                                 "2 bundle greter: ",
		"bundle greeter greeting=a%20b%0Ac":             "2 bundle greeter: greeting=",
		"bundle greeter ns=default":                     "2 bundle greeter: namespace default: user alice may use " + s.namespace + ", kube-system",
		"bundle badport port=70000":                     "2 bundle badport: Service badport-12: Service \"badport-12\" is invalid: spec.ports[0].port: Invalid value: 70000",
		"bundle greeter as=a\n#K8S bundle greeter as=a": "2 bundle a: given twice",
	} {
		got := s.run("slurm_bb_job_process", []string{"#K8S " + line})
		assert.True(t, strings.HasPrefix(got, want), "%s\ngot  %s\nwant %s", line, got, want)
	}
	assert.Equal(t, "2 user bob may not have bundles: no [[bundles.allow]] of slurmk8s.toml allows it",
		s.run("slurm_bb_job_process", []string{"#K8S bundle greeter"}, "UID=1001", "USER_NAME=bob"))

	// Slurm 22.05 does not say who submits: the job is judged when it is staged.
	assert.Equal(t, "0", s.run("slurm_bb_job_process", []string{"#K8S bundle greter"}, "UID=", "GID=", "USER_NAME="))
	assert.Contains(t, s.run("slurm_bb_setup", []string{"#K8S bundle greter"}, "USER_NAME="), "2 bundle greter: ")
	assert.Empty(t, s.names())
}

func TestWhatHappensToAJobWhoseBundleFails(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\nspec:\n  containers:\n  - {name: c, image: x}\n"
	for policy, want := range map[string]string{
		"hold":    "2 bundle server: phase all: pod p: Failed: no space",
		"cancel":  "3 bundle server: phase all: pod p: Failed: no space",
		"proceed": "0",
	} {
		t.Run(policy, func(t *testing.T) {
			s := newSite(t)
			s.kubelet("{phase: Failed, message: no space}")
			s.bundle("server", "when = \"start\"\non_failure = \""+policy+"\"\n", pod)
			script := []string{"#K8S bundle server name=p"}
			assert.Equal(t, "0", s.run("slurm_bb_setup", script))
			assert.Equal(t, want[1:], s.run("slurm_bb_pre_run", script, "NODES=c1")[1:])
			if policy == "cancel" {
				eventually.True(t, "the job is cancelled", func() bool { return strings.HasPrefix(s.file("cancelled"), "cancel-job --after-pid") })
			} else {
				assert.Empty(t, s.file("cancelled"))
			}
			assert.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
			assert.Empty(t, s.names())
		})
	}
}

// A hook that is killed at any instant and run again, or a teardown in its place.
func TestHooksAreRunAgainAfterAKill(t *testing.T) {
	s := newSite(t)
	s.bundle("greeter", "when = \"stage\"\n"+greeting, plainMap)
	script := []string{"#K8S bundle greeter name=g"}
	for limit := 5 * time.Millisecond; limit < 400*time.Millisecond; limit = limit * 3 / 2 {
		for _, name := range []string{"slurm_bb_setup", "slurm_bb_data_in"} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			_, _ = hook.Run(ctx, name, s.fields(script))
			cancel()
			require.Equal(t, "0", s.run(name, script))
		}
		require.Equal(t, []string{"leases/slurm-alps-12.greeter", "configmaps/g"}, s.names())
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, _ = hook.Run(ctx, "slurm_bb_job_teardown", s.fields(script))
		cancel()
		require.Equal(t, "0", s.run("slurm_bb_job_teardown", script))
		require.Empty(t, s.names())
	}
}

func TestALostJobsBundleIsFoundWithoutNotes(t *testing.T) {
	s := newSite(t)
	s.bundle("greeter", "when = \"stage\"\n"+greeting, plainMap)
	script := []string{"#K8S bundle greeter name=g"}
	assert.Equal(t, "0", s.run("slurm_bb_setup", script))
	assert.Equal(t, "0", s.run("slurm_bb_data_in", script))
	require.NoError(t, os.RemoveAll(s.path("state/job.12")))
	require.NoError(t, os.RemoveAll(s.path("bundles")), "and the bundle was removed from the host")
	assert.Equal(t, "0", s.run("slurm_bb_job_teardown", nil), "with Slurm's dummy script")
	assert.Empty(t, s.names())
	_, err := s.admin.Resource(apiserver.Namespaces).Get(t.Context(), s.namespace, metav1.GetOptions{})
	require.NoError(t, err)
}
