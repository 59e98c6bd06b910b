package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/tests/docs"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// docsRun does what the documentation says.
type docsRun struct {
	t      *testing.T // of the page
	pages  []docs.Page
	names  map[string]string // what JOBID and the like stand for
	result testbed.Result    // of the command that was run last
	dest   string            // DESTDIR of make install
	box    string            // a host that was installed by hand: its container
}

const (
	usersFolder   = "/home/" + user + "/docs"
	rootsFolder   = "/root/docs" // with admin.conf
	slurmFolder   = "/tmp/slurmk8s-docs"
	cronFile      = "/etc/cron.d/slurmk8s-docs"
	docsNamespace = "docs-open" // a namespace
)

// The user's programs, as the pages name them. Each goes on while the file "hold" is there.
const (
	untilLetGo = "while [ -e " + usersFolder + "/hold ]; do sleep 0.2; done\n"
	simulate   = "#!/bin/bash\n" + untilLetGo
	jupyter    = "#!/bin/bash\n" + `[[ "$*" == *--port=8888* ]] || exit 2` + "\n" + listening + untilLetGo
	// Slurm would wait for its output, and proctrack/linuxproc loses sight of it.
	listening = `printf 'HTTP/1.0 200 OK\r\n\r\na notebook\n' >page
socat TCP-LISTEN:8888,fork,reuseaddr SYSTEM:"cat page" >/dev/null 2>&1 &
trap "kill $!" EXIT
`
)

func newDocsRun(t *testing.T) *docsRun {
	t.Helper()
	r := &docsRun{t: t, pages: documentation(t), dest: t.TempDir(), names: map[string]string{
		"NODE": cluster.Nodes[1].Name,
		"NS":   docsNamespace,
		"DIR":  rootsFolder + "/out",
	}}
	t.Cleanup(func() {
		r.t = t
		admin(t, "rm", "-rf", usersFolder, rootsFolder, slurmFolder, cronFile)
		r.closeNamespace()
	})
	admin(t, "install", "-d", "-m", "700", rootsFolder)
	admin(t, "install", "-d", "-m", "700", "-o", "slurm", slurmFolder)
	admin(t, "install", "-d", "-o", user, "-g", user, usersFolder, usersFolder+"/bin")
	r.file("simulate", simulate)
	r.file("bin/jupyter", jupyter)
	for _, page := range r.pages {
		for _, script := range page.Scripts() {
			if strings.Contains(script, "jupyter") {
				r.file("notebook.sh", script)
			}
		}
		for _, c := range page.Commands() {
			if c.Text == "cat job.sh" {
				r.file("job.sh", c.Output)
				r.write("slurm", slurmFolder+"/job.sh", c.Output)
			}
		}
	}
	r.write("root", rootsFolder+"/admin.conf", adminConf(t))
	return r
}

// adminConf is the administrator's kubeconfig, as Slurm's hosts reach the API server.
func adminConf(t *testing.T) string {
	t.Helper()
	conf, err := os.ReadFile(cluster.Kubeconfig)
	require.NoError(t, err)
	return regexp.MustCompile(`server: .*`).ReplaceAllString(string(conf), "server: https://"+cluster.ControlPlane+":6443")
}

// file writes a file of the user's.
func (r *docsRun) file(name, text string) {
	r.t.Helper()
	r.write(user, usersFolder+"/"+name, text)
}

func (r *docsRun) write(who, path, text string) {
	r.t.Helper()
	result, err := cluster.As(deadline(r.t, patience), who, text, "sh", "-c", `umask 077; mkdir -p "$(dirname "$0")" && cat >"$0" && chmod u+x "$0"`, path)
	require.NoError(r.t, err)
	require.Zero(r.t, result.Status, "%s: %s", path, result.Stderr)
}

// fill puts in what the placeholders of a page stand for.
func (r *docsRun) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		if value, isName := r.names[strings.Trim(found, "[]")]; isName {
			return value
		}
		return found
	})
}

// placeholder is a word that may be one, [JOBID] being one that may be left out.
var placeholder = regexp.MustCompile(`\[?\b[A-Za-z0-9]+\b\]?`)

// place is where a command is typed, and by whom.
type place func(*docsRun, string) testbed.Result

func login(r *docsRun, command string) testbed.Result { return r.slurmHost(user, usersFolder, command) }

func controller(r *docsRun, command string) testbed.Result {
	return r.slurmHost("root", rootsFolder, command)
}

func slurmUser(r *docsRun, command string) testbed.Result {
	return r.slurmHost("slurm", slurmFolder, command)
}

func (r *docsRun) slurmHost(who, folder, command string) testbed.Result {
	r.t.Helper()
	return as(r.t, who, "bash", "-c", "cd "+folder+" && PATH="+usersFolder+"/bin:$PATH:/opt/slurmk8s/bin\n"+command)
}

// administrator is at the repository's top, on the machine of the tests.
func administrator(r *docsRun, command string) testbed.Result {
	r.t.Helper()
	return r.shell(". tests/cluster/lib.sh\n"+command, "KUBECONFIG="+cluster.Kubeconfig, "DESTDIR="+r.dest)
}

// nowhere is the same, with the name and the files of a cluster that does not exist.
func nowhere(r *docsRun, command string) testbed.Result {
	r.t.Helper()
	return r.shell(command, "CLUSTER=slurmk8s-docs", "SLURMK8S_CACHE="+r.t.TempDir())
}

func (r *docsRun) shell(command string, environment ...string) testbed.Result {
	r.t.Helper()
	cmd := exec.CommandContext(deadline(r.t, patience), "bash", "-c", command)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	require.NotNil(r.t, cmd.ProcessState, "%v", err)
	return testbed.Result{Stdout: string(out), Status: cmd.ProcessState.ExitCode()}
}

// byHand is a host of Slurm that has what make install copies, and nothing else of ours.
func byHand(r *docsRun, command string) testbed.Result {
	r.t.Helper()
	ctx := deadline(r.t, patience)
	if r.box == "" {
		result := administrator(r, "make --silent install")
		require.Zero(r.t, result.Status, result.Stdout)
		image, err := cluster.Docker(ctx, "inspect", "--format", "{{.Config.Image}}", cluster.Slurmctld)
		require.NoError(r.t, err)
		box, err := cluster.Docker(ctx, "run", "--detach", "--rm", "--init", "--network", "none", "--entrypoint", "sleep", strings.TrimSpace(image), "600")
		require.NoError(r.t, err)
		r.box = strings.TrimSpace(box)
		r.t.Cleanup(func() {
			_, _ = cluster.Docker(context.Background(), "rm", "--force", r.box)
			r.box = ""
		})
		_, err = cluster.Docker(ctx, "cp", r.dest+"/.", r.box+":/")
		require.NoError(r.t, err)
	}
	// A link that leads nowhere is no success.
	out, err := cluster.Docker(ctx, "exec", r.box, "sh", "-ec", command+"; test -e /etc/slurm/slurmk8s.toml; ! find /etc/slurm -xtype l | grep .")
	require.NoError(r.t, err)
	return testbed.Result{Stdout: out}
}

func (r *docsRun) isInstalled() {
	for _, file := range []string{"opt/slurmk8s/bin/slurmk8s", "opt/slurmk8s/lib/libslurmk8s.so", "opt/slurmk8s/share/job_submit.lua", "etc/slurm/burst_buffer.lua"} {
		require.FileExists(r.t, filepath.Join(r.dest, file))
	}
}

// Jobs.

func (r *docsRun) holdJobs() {
	r.t.Helper()
	r.file("hold", "")
}

func (r *docsRun) letJobsGo() {
	r.t.Helper()
	admin(r.t, "rm", "-f", usersFolder+"/hold")
}

// adopt takes on the job that a command submitted, as JOBID.
func (r *docsRun) adopt(text string) *job {
	r.t.Helper()
	found := number.FindString(text)
	require.NotEmpty(r.t, found, "a job's number: %q", text)
	id, err := strconv.ParseUint(found, 10, 32)
	require.NoError(r.t, err)
	j := adopt(r.t, uint32(id))
	r.t.Cleanup(r.letJobsGo)
	r.names["JOBID"] = found
	return j
}

func (r *docsRun) sbatch(options string) *job {
	r.t.Helper()
	result := login(r, "sbatch --parsable "+options)
	require.Zero(r.t, result.Status, result.Stderr)
	return r.adopt(result.Stdout)
}

// adoptSubmitted is for what README.md shows of job 42.
func (r *docsRun) adoptSubmitted() {
	j := r.adopt(r.result.Stdout)
	r.names["42"] = j.number()
	j.awaitWorkflow("to be there", func(*dwssim.Workflow) bool { return true })
}

func (r *docsRun) storageJob() {
	r.holdJobs()
	r.sbatch("job.sh").comes("RUNNING")
}

func (r *docsRun) runningJob() {
	r.holdJobs()
	r.sbatch("--wrap=./simulate").comes("RUNNING")
}

func (r *docsRun) heldJob() { r.sbatch("--hold --wrap=true") }

func (r *docsRun) overJob() { r.sbatch("--wrap=true").ends("COMPLETED") }

func (r *docsRun) cancel() { admin(r.t, "scancel", r.names["JOBID"]) }

// isService sees the job of README.md served, and end with nothing left.
func (r *docsRun) isService() {
	j := r.adopt(r.result.Stdout)
	j.serves(jobsNamespace, "jupyter")
	page := pageFrom(r.t, otherThan(r.t, j.node()), "http://jupyter."+jobsNamespace+".svc:8888/")
	require.Equal(r.t, "a notebook", page)
	r.letJobsGo()
	j.ends("COMPLETED")
	j.unregistered()
}

// submitScript runs a job script that a page shows.
func (r *docsRun) submitScript(script string) {
	r.t.Helper()
	r.file("script.sh", script)
	if !strings.Contains(script, "--k8s-register=") {
		r.letJobsGo()
		r.sbatch("script.sh").ends("COMPLETED")
		return
	}
	r.holdJobs()
	r.result = login(r, "sbatch script.sh")
	require.Zero(r.t, r.result.Status, r.result.Stderr)
	r.isService()
}

// storageAndService is the job that slurmk8s status is shown for: only one job holds anything.
func (r *docsRun) storageAndService() {
	r.holdJobs()
	r.file("bin/srun", "#!/bin/bash\n"+listening+`/usr/bin/srun "$@"`+"\n") // job.sh serves nothing
	j := r.sbatch("--k8s-register=jupyter:8888 job.sh")
	j.serves(jobsNamespace, "jupyter")
	admin(r.t, "rm", usersFolder+"/bin/srun")
	r.names["hpc"], r.names["jobs"], r.names["c1"] = "test", jobsNamespace, j.node()
	r.t.Cleanup(func() {
		for _, name := range []string{"hpc", "jobs", "c1"} {
			delete(r.names, name)
		}
	})
}

// The administrator's.

// keepCredential is for a renewal of slurmctld's: that of the test cluster comes back.
func (r *docsRun) keepCredential() {
	admin(r.t, "cp", "-p", "/etc/slurm/slurmk8s.kubeconfig", rootsFolder+"/before")
	r.t.Cleanup(func() {
		admin(r.t, "sh", "-c", "mv "+rootsFolder+"/before /etc/slurm/slurmk8s.kubeconfig && rm -f /var/spool/slurmk8s/controller.token")
	})
}

// hasCron has the line for cron that docs/reconcile.md shows.
func (r *docsRun) hasCron() {
	for _, page := range r.pages {
		for _, b := range page.Blocks {
			if b.Language == "cron" {
				r.write("root", cronFile, b.Text)
			}
		}
	}
}

func (r *docsRun) uncordon() {
	require.True(r.t, stateOf(r.t, r.names["NODE"]).Unschedulable)
	require.Zero(r.t, administrator(r, "kubectl uncordon "+r.names["NODE"]).Status)
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

func (r *docsRun) openNamespace() {
	r.closeNamespace()
	open := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": docsNamespace, "labels": map[string]any{"slurmk8s.io/services": "open"},
	}}}
	_, err := cluster.Kube.Resource(namespaces).Create(deadline(r.t, patience), open, metav1.CreateOptions{})
	require.NoError(r.t, err)
}

func (r *docsRun) closeNamespace() {
	r.t.Helper()
	_ = cluster.Kube.Resource(namespaces).Delete(deadline(r.t, patience), docsNamespace, metav1.DeleteOptions{})
	eventually.True(r.t, "namespace "+docsNamespace+" is gone", func() bool {
		_, err := cluster.Kube.Resource(namespaces).Get(deadline(r.t, patience), docsNamespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
