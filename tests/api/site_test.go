package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// site is a Slurm controller: its files, its namespace, its credential.
type site struct {
	t         *testing.T
	c         *cluster
	namespace string
	dir       string
	lastJob   int
}

// newSite makes a namespace of its own by the shipped manifest, and a controller
// whose credential is a token of its account. workflows is TOML.
func (c *cluster) newSite(t *testing.T, workflows ...string) *site {
	t.Helper()
	return c.siteIn(t, fmt.Sprint(namePrefix, namespaceCount.Add(1)), workflows...)
}

func (c *cluster) siteIn(t *testing.T, namespace string, workflows ...string) *site {
	t.Helper()
	s := &site{t: t, c: c, namespace: namespace, dir: t.TempDir(), lastJob: 100}
	for _, object := range manifest(t, "controller.yaml", s.namespace) {
		c.apply(t, object)
	}
	if external {
		t.Cleanup(s.leaveNothing)
	}
	token := c.token(t, s.namespace, account)
	c.allowed(t, s.namespace, token)
	s.write("token", token+"\n", 0o600)
	s.credential("tokenFile: " + s.path("token"))

	require.NoError(t, os.Mkdir(s.path("state"), 0o700))
	s.write("slurm.conf", "ClusterName=hpc\n", 0o644)
	s.write("burst_buffer.conf", "Directive=DW\nFlags=TeardownFailure\n", 0o644)
	s.write("program", "#!/bin/sh\necho \"$@\" >>"+s.path("cancelled")+"\n", 0o755)
	s.write("squeue", "#!/bin/sh\nexec cat "+s.path("jobs")+"\n", 0o755)
	s.write("scontrol", "#!/bin/sh\necho BOOT_TIME = 1000\necho NEXT_JOB_ID = 10000\n", 0o755)
	s.jobs()
	s.configure(workflows...)
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.path(name), []byte(text), mode))
	require.NoError(s.t, os.Chmod(s.path(name), mode))
}

// credential writes the kubeconfig; user is YAML.
func (s *site) credential(user string) {
	s.t.Helper()
	config := s.c.config
	text, err := os.ReadFile(kubetest.WriteKubeconfig(s.t, config.Host, config.CAData, user))
	require.NoError(s.t, err)
	s.write("kubeconfig", string(text), 0o600)
}

func (s *site) configure(workflows ...string) {
	s.t.Helper()
	s.write("slurmk8s.toml", fmt.Sprintf(`
slurm_conf = %q
slurm_bin_dir = %q
state_dir = %q
[kubernetes]
kubeconfig = %q
[log]
level = "debug"
file = %q
[reconcile]
min_age = "0s"
[workflows]
namespace = %q
%s
`, s.path("slurm.conf"), s.dir, s.path("state"), s.path("kubeconfig"), s.path("log"), s.namespace, strings.Join(workflows, "\n")), 0o644)
}

// jobs is what squeue prints: "12|RUNNING|ada|c1".
func (s *site) jobs(lines ...string) {
	s.t.Helper()
	s.write("jobs", strings.Join(append(lines, ""), "\n"), 0o644)
}

// log is what the hooks logged, for a failed test.
func (s *site) log() string {
	text, _ := os.ReadFile(s.path("log"))
	return string(text)
}

func (s *site) workflows() dynamic.ResourceInterface {
	return s.c.admin.Resource(dwssim.WorkflowsResource(s.c.version())).Namespace(s.namespace)
}

// names are those of all Workflows of the site.
func (s *site) names() []string {
	s.t.Helper()
	list, err := s.workflows().List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	var names []string
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	return names
}

// front is a way to call a hook.
type front func(ctx context.Context, s *site, name string, fields wire.Fields) (wire.Code, wire.Fields)

func inProcess(ctx context.Context, _ *site, name string, fields wire.Fields) (wire.Code, wire.Fields) {
	return hook.Run(ctx, name, fields)
}

func byProgram(ctx context.Context, s *site, name string, fields wire.Fields) (wire.Code, wire.Fields) {
	cmd := exec.CommandContext(ctx, common.program, "hook", "-0", name)
	cmd.Env = []string{} // as from slurmctld: nothing is taken from it
	var request, stdout, stderr bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		request.WriteString(key + "=" + fields[key] + "\x00")
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &request, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Error(err)
	}
	assert.Empty(s.t, stderr.String(), "nothing is written to standard error")
	reply := wire.Fields{}
	for field := range strings.SplitSeq(strings.TrimSuffix(stdout.String(), "\x00"), "\x00") {
		if key, value, ok := strings.Cut(field, "="); ok {
			reply[key] = value
		}
	}
	return wire.Code(cmd.ProcessState.ExitCode()), reply
}

var fronts = map[string]front{"in process": inProcess, "by the program": byProgram}

// job is a job as Slurm 24.05 tells of it.
type job struct {
	s      *site
	call   front
	id     int
	fields wire.Fields
}

// job submits nothing: it is only Slurm's view of a job with these directives.
func (s *site) job(directives ...string) *job {
	s.t.Helper()
	s.c.able(s.t, directives)
	s.lastJob++
	script := fmt.Sprintf("script.%d", s.lastJob)
	s.write(script, "#!/bin/bash\n"+strings.Join(directives, "\n")+"\nsrun true\n", 0o600)
	return &job{s: s, call: inProcess, id: s.lastJob, fields: wire.Fields{
		wire.KeyConfig: s.path("slurmk8s.toml"), wire.KeyStateDir: s.path("state"), wire.KeyProgram: s.path("program"),
		wire.KeyJobID: fmt.Sprint(s.lastJob), wire.KeyUID: "1000", wire.KeyGID: "1001", wire.KeyUser: "alice",
		wire.KeyScript: s.path(script), wire.KeyNodes: "c[1-3]", wire.KeyBusy: "true",
		wire.KeyRestart: "0", wire.KeySubmitTime: "1700000000",
	}}
}

func (j *job) name() string { return fmt.Sprintf("bb%d", j.id) }

// run calls a hook; more are KEY=VALUE, an empty VALUE takes the field away.
func (j *job) run(name string, more ...string) (wire.Code, string) {
	j.s.t.Helper()
	code, reply := j.reply(name, more...)
	return code, reply[wire.KeyMessage]
}

func (j *job) reply(name string, more ...string) (wire.Code, wire.Fields) {
	ctx, cancel := context.WithTimeout(j.s.t.Context(), patience)
	defer cancel()
	fields := maps.Clone(j.fields)
	for _, field := range more {
		key, value, _ := strings.Cut(field, "=")
		fields[key] = value
		if value == "" {
			delete(fields, key)
		}
	}
	return j.call(ctx, j.s, "slurm_bb_"+name, fields)
}

// ok runs a hook that must succeed; the polling ones as often as Slurm would.
func (j *job) ok(name string, more ...string) {
	j.s.t.Helper()
	for {
		code, message := j.run(name, more...)
		if code == wire.Busy && strings.HasPrefix(name, "test_") {
			continue
		}
		require.Equal(j.s.t, wire.OK, code, "%s: %s\n%s", name, message, j.s.log())
		return
	}
}

// fails runs a hook that must fail and returns its message, which is one line.
func (j *job) fails(name string, more ...string) string {
	j.s.t.Helper()
	code, message := j.run(name, more...)
	require.Equal(j.s.t, wire.Failed, code, "%s: %s\n%s", name, message, j.s.log())
	require.NotEmpty(j.s.t, message)
	require.NotContains(j.s.t, message, "\n")
	require.LessOrEqual(j.s.t, len(message), 800)
	return message
}

// start runs a hook beside the test.
func (j *job) start(name string, more ...string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		code, message := j.run(name, more...)
		done <- outcome{code, message}
	}()
	return done
}

type outcome struct {
	code    wire.Code
	message string
}

func (j *job) get() *unstructured.Unstructured {
	j.s.t.Helper()
	object, err := j.s.workflows().Get(j.s.t.Context(), j.name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(j.s.t, err)
	return object
}

func (j *job) workflow() *dwssim.Workflow {
	j.s.t.Helper()
	object := j.get()
	if object == nil {
		return nil
	}
	workflow, err := dwssim.FromUnstructured(object)
	require.NoError(j.s.t, err)
	return workflow
}

// in asserts that DWS is done with the state: a hook may not return before.
func (j *job) in(state string) {
	j.s.t.Helper()
	w := j.workflow()
	require.NotNil(j.s.t, w)
	require.True(j.s.t, dwssim.Ready(state)(w), "%+v", w.Status)
}

// wait waits until a condition holds.
func (j *job) wait(what string, holds func(*dwssim.Workflow) bool) *dwssim.Workflow {
	j.s.t.Helper()
	ctx, cancel := context.WithTimeout(j.s.t.Context(), patience)
	defer cancel()
	w, err := dwssim.WaitFor(ctx, j.s.c.admin, j.s.namespace, j.name(), what, holds)
	require.NoError(j.s.t, err)
	return w
}

func entered(state string) func(*dwssim.Workflow) bool {
	return func(w *dwssim.Workflow) bool { return w.Spec.DesiredState == state && w.Status.State == state }
}

// complete acts as the driver of a state, and returns when DWS has seen it: until
// then an error that the driver reported before still counts.
func (j *job) complete(state string) {
	j.s.t.Helper()
	ctx, cancel := context.WithTimeout(j.s.t.Context(), patience)
	defer cancel()
	require.NoError(j.s.t, dwssim.Complete(ctx, j.s.c.admin, j.s.namespace, j.name(), state))
	// A hook that waits may go on at once, to the next state or to the end.
	eventually.True(j.s.t, "DWS has seen it", func() bool {
		w := j.workflow()
		return w == nil || w.Status.State != state || w.Status.Ready
	})
}

// order are the states with the hooks that bring a job there.
var order = []struct {
	state string
	hooks []string
}{
	{dwssim.Proposal, nil},
	{dwssim.Setup, []string{"setup"}},
	{dwssim.DataIn, []string{"data_in", "test_data_in"}},
	{dwssim.PreRun, []string{"pre_run"}},
	{dwssim.PostRun, []string{"post_run"}},
	{dwssim.DataOut, []string{"data_out", "test_data_out"}},
	{dwssim.Teardown, nil},
}

// bring runs the hooks until the Workflow is in a state. Proposal is where
// submit = "create" leaves it, and Teardown where somebody else's change does.
func (j *job) bring(state string) {
	j.s.t.Helper()
	if state == dwssim.Proposal {
		j.s.configure(`submit = "create"`)
		j.ok("job_process", "DEADLINE_MS=30000")
		j.s.configure()
		j.wait("in Proposal", dwssim.Ready(dwssim.Proposal))
		return
	}
	for _, step := range order {
		for _, name := range step.hooks {
			j.ok(name)
		}
		if step.state == state && step.hooks != nil {
			j.in(state)
			return
		}
	}
	_, err := j.s.workflows().Patch(j.s.t.Context(), j.name(), types.MergePatchType, []byte(`{"spec":{"desiredState":"Teardown"}}`), metav1.PatchOptions{})
	require.NoError(j.s.t, err)
	j.wait("in Teardown", dwssim.Ready(dwssim.Teardown))
}

// env reads what slurm_bb_paths will.
func (j *job) env() map[string]string {
	j.s.t.Helper()
	text, err := os.ReadFile(filepath.Join(j.s.path("state"), fmt.Sprintf("job.%d", j.id), "env"))
	require.NoError(j.s.t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[key] = value
	}
	return env
}

// cancelled is what the program that ends a job was called with, within patience.
func (s *site) cancelled() string {
	s.t.Helper()
	var text []byte
	eventually.True(s.t, "the program that ends jobs was called", func() bool {
		var err error
		text, err = os.ReadFile(s.path("cancelled"))
		return err == nil && len(text) > 0
	})
	return string(text)
}
