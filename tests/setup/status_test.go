package setup

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/status"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// operated is a site with DWS, a service namespace and a Slurm that answers.
type operated struct {
	*world
	namespace string
}

func newOperated(t *testing.T, namespace string) *operated {
	t.Helper()
	w := newWorld(t, "[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\""+namespace+"\"]", "[reconcile]\nmin_age = \"0s\"")
	sim, err := dwssim.Start(context.Background(), w.server.Config(), dwssim.Options{})
	require.NoError(t, err)
	t.Cleanup(sim.Stop)
	w.setup()
	o := &operated{w, namespace}
	o.write("squeue", "#!/bin/sh\nexec cat "+w.path("jobs")+"\n", 0o755)
	o.write("scontrol", "#!/bin/sh\necho BOOT_TIME = 1000\necho NEXT_JOB_ID = 1000\n", 0o755)
	// The account's rights are in force.
	eventually.True(t, "the rights of the account are in force", func() bool {
		status, _, _ := w.run("status")
		return status == 0
	})
	return o
}

// jobs is what squeue answers: "12|RUNNING|alice|c1".
func (o *operated) jobs(text string) { o.write("jobs", text, 0o644) }

// workflow makes the Workflow of a job, as slurm_bb_setup does.
func (o *operated) workflow(job slurmjob.Job, directives ...any) {
	o.t.Helper()
	_, err := o.admin.Resource(workflows).Namespace("slurm").Create(o.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "dataworkflowservices.github.io/v1alpha7", "kind": "Workflow",
		"metadata": map[string]any{"name": bb(job.ID), "labels": job.Labels(), "annotations": job.Annotations()},
		"spec": map[string]any{"desiredState": "Proposal", "wlmID": job.Cluster, "jobID": int64(job.ID), "userID": int64(job.UID),
			"groupID": int64(1000), "dwDirectives": directives},
	}}, metav1.CreateOptions{})
	require.NoError(o.t, err)
	o.t.Cleanup(func() {
		_ = o.admin.Resource(workflows).Namespace("slurm").Delete(context.Background(), bb(job.ID), metav1.DeleteOptions{})
	})
}

func bb(id uint32) string { return (&bridgeJob{Job: slurmjob.Job{ID: id}}).Name() }

// services registers services of a job, as its step does.
func (o *operated) services(job slurmjob.Job, text string) {
	o.t.Helper()
	log := logrus.New()
	log.SetOutput(o.t.Output())
	client, err := kube.New(kube.Options{Kubeconfig: o.server.Kubeconfig(), RequestTimeout: 5 * time.Second, UserAgent: "test", Log: logrus.NewEntry(log)})
	require.NoError(o.t, err)
	specs, err := service.Parse(text, nil)
	require.NoError(o.t, err)
	for i := range specs {
		specs[i].Namespace = o.namespace
	}
	r := &service.Registrar{
		Kube: client, Job: job, Step: "batch", Node: "c1", Address: netip.MustParseAddr("10.1.0.1"), LeaseDuration: 90 * time.Second,
		Alive: func(context.Context, service.Claim) (bool, error) { return true, nil }, Log: logrus.NewEntry(log),
	}
	_, err = r.Register(o.t.Context(), specs)
	require.NoError(o.t, err)
}

func job(id uint32, user string) slurmjob.Job {
	return slurmjob.Job{Cluster: "alps", ID: id, UID: 1000, User: user}
}

func TestStatusShowsWhatIsHeldForWhom(t *testing.T) {
	o := newOperated(t, "status-ns")
	status, stdout, _ := o.run("status")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "nothing is held for jobs of cluster alps")

	o.workflow(job(12, "alice"), "#DW Proposal action=complete")
	o.services(job(12, "alice"), "jupyter:8888")
	o.workflow(job(13, "bob"), "#DW Proposal action=error severity=Fatal message=disk_full")
	o.workflow(slurmjob.Job{Cluster: "other", ID: 99, User: "eve"}, "#DW Proposal action=complete") // another Slurm cluster's
	o.jobs("12|RUNNING|alice|c1\n14|PENDING|alice|\n")
	eventually.True(t, "both Workflows are as far as they come", func() bool {
		_, stdout, _ = o.run("status")
		return len(matches(stdout, "Proposal, (ready|Error)")) == 2
	})
	assert.Regexp(t, `(?m)^12 +alice +RUNNING +workflow slurm/bb12 +Proposal, ready +\S+$`, stdout)
	assert.Regexp(t, `(?m)^12 +alice +RUNNING +service status-ns/jupyter +ClusterIP 8888 `, stdout)
	assert.Regexp(t, `(?m)^12 +alice +RUNNING +endpointslice status-ns/jupyter\S* +10.1.0.1 not ready `, stdout)
	assert.Regexp(t, `(?m)^12 +alice +RUNNING +lease status-ns/slurm-alps-12 +renewed \d+s ago `, stdout)
	assert.Regexp(t, `(?m)^13 +bob +unknown +workflow slurm/bb13 +Proposal, Error: .*disk_full`, stdout)
	assert.Contains(t, stdout, `job 13 is over but holds objects: reconcile removes them, or "slurmk8s cleanup 13" now`)
	assert.NotContains(t, stdout, "99")
	assert.NotContains(t, stdout, "job 12 is over")

	// Of one job, and in JSON.
	_, stdout, _ = o.run("status", "12", "--json")
	report := decode(t, stdout)
	require.Len(t, report.Jobs, 1)
	assert.Len(t, report.Jobs[0].Objects, 4)
	assert.Equal(t, "alice", report.Jobs[0].User)

	// A job for which nothing is held is no error.
	_, stdout, _ = o.run("status", "14")
	assert.Regexp(t, `14 +alice +PENDING +- +nothing is held`, stdout)
}

func TestStatusWithoutSlurmShowsKubernetes(t *testing.T) {
	o := newOperated(t, "noslurm-ns")
	o.workflow(job(21, "alice"), "#DW Proposal action=complete")
	o.write("squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n", 0o755)
	status, stdout, _ := o.run("status", "21")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "workflow slurm/bb21")
	assert.Contains(t, stdout, "states in Slurm are not known")
}

func TestStatusWithoutKubernetesFailsAndSaysWhy(t *testing.T) {
	o := newOperated(t, "nokube-ns")
	o.write("slurmk8s.kubeconfig", replaceAll(o.read("slurmk8s.kubeconfig"), o.server.URL, "https://127.0.0.1:1"), 0o600)
	status, _, stderr := o.run("status")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "connection refused")
}

// TestAUserSeesWhatSlurmTellsThem runs status as somebody who may not read the
// controller's credential.
func TestAUserSeesWhatSlurmTellsThem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	o := newOperated(t, "user-ns")
	o.jobs("31|RUNNING|nobody|c1\n")
	o.write("scontrol", "#!/bin/sh\necho \"desiredState=PreRun currentState=PreRun status=Completed $*\"\n", 0o755)
	as := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", program}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	for _, dir := range []string{o.dir, parent(o.dir), parent(program)} {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	out := as("status", "--config", o.path("slurmk8s.toml"), "31")
	assert.Regexp(t, `31 +nobody +RUNNING +workflow +desiredState=PreRun currentState=PreRun status=Completed show bbstat workflow 31`, out)
	assert.Contains(t, out, "you see what Slurm tells you")
	out = as("status", "--config", o.path("slurmk8s.toml"), "32")
	assert.Contains(t, out, "Slurm knows no job 32 of user nobody")
	out = as("status", "--config", o.path("slurmk8s.toml"))
	assert.Regexp(t, `31 +nobody +RUNNING +- +- +-`, out, "nothing was asked about its objects")
	assert.Contains(t, out, "slurmk8s status JOBID")
}

func TestCleanupRemovesWhatOneJobLeft(t *testing.T) {
	o := newOperated(t, "cleanup-ns")
	for _, j := range []slurmjob.Job{job(41, "alice"), job(42, "bob")} {
		o.workflow(j, "#DW Proposal action=complete")
		o.services(j, "web-"+j.User+":8888")
		o.write("state/job."+bb(j.ID)[2:]+"/env", "A=1\n", 0o600)
	}
	o.jobs("42|RUNNING|bob|c1\n41|COMPLETED|alice|c1\n")

	status, stdout, _ := o.run("cleanup", "--dry-run", "41")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "workflow slurm/bb41: would be removed")
	assert.Len(t, matches(stdout, "would be removed"), 4)
	_, stdout, _ = o.run("status", "41")
	assert.Len(t, matches(stdout, `(?m)^41 `), 4, "a dry run touches nothing")

	status, stdout, _ = o.run("cleanup", "41")
	assert.Equal(t, 0, status)
	for _, object := range []string{"workflow slurm/bb41", "service cleanup-ns/web-alice", "lease cleanup-ns/slurm-alps-41"} {
		assert.Contains(t, stdout, object+": removed")
	}
	_, stdout, _ = o.run("status", "41")
	assert.Contains(t, stdout, "nothing is held")
	assert.NoDirExists(t, o.path("state/job.41"))

	_, stdout, _ = o.run("status", "42")
	assert.Len(t, matches(stdout, `(?m)^42 `), 4, "the other job keeps all")
	assert.DirExists(t, o.path("state/job.42"))

	status, stdout, _ = o.run("cleanup", "41")
	assert.Equal(t, 0, status, "a second time is no error")
	assert.Contains(t, stdout, "nothing is held for job 41")

	// A job that lives is kept, unless somebody insists.
	status, _, stderr := o.run("cleanup", "42")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "nothing was touched: job 42 is RUNNING (--force removes it anyway)")
	o.write("squeue", "#!/bin/sh\nexit 1\n", 0o755)
	status, _, stderr = o.run("cleanup", "42")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "nothing was touched, since Slurm's jobs are unknown")
	status, stdout, _ = o.run("cleanup", "--force", "42")
	assert.Equal(t, 0, status)
	assert.Contains(t, stdout, "workflow slurm/bb42: removed")
}

func TestJobIDsAreNumbers(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{{"cleanup"}, {"cleanup", "x"}, {"cleanup", "1", "2"}, {"status", "0"}, {"status", "12_3"}, {"cleanup", "--frce", "1"}} {
		status, _, stderr := w.run(args[0], args[1:]...)
		assert.Equal(t, 64, status, stderr)
	}
}

func decode(t *testing.T, text string) status.Report {
	t.Helper()
	var report status.Report
	require.NoError(t, json.Unmarshal([]byte(text), &report))
	return report
}
