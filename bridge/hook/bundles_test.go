package hook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// bundleSite is a controller whose user alice may have every bundle, in namespace ns.
type bundleSite struct {
	*site
	*kubetest.Store
}

func newBundleSite(t *testing.T) *bundleSite {
	t.Helper()
	store := kubetest.NewStore(t)
	s := &bundleSite{newSite(t, store.Kubeconfig(), "busy_wait = \"100ms\"\n"), store}
	require.NoError(t, os.Chmod(s.dir, 0o755))
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", strings.Replace(string(text), `"5s"`, `"200ms"`, 1)+
		fmt.Sprintf("[bundles]\ndirs = [%q]\n[[bundles.allow]]\nusers = [\"alice\"]\nbundles = [\"*\"]\nnamespaces = [\"ns\"]\n", filepath.Join(s.dir, "bundles")))
	s.squeue("echo '12|1000|alice|physics|batch'")
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil && t.Failed() {
			t.Logf("the log of the hooks:\n%s", log)
		}
	})
	return s
}

// squeue is what squeue does.
func (s *bundleSite) squeue(text string) {
	s.t.Helper()
	require.NoError(s.t, os.Chmod(s.site.write("squeue", "#!/bin/sh\n"+text+"\n"), 0o755))
}

// bundle writes one with a single phase of one file.
func (s *bundleSite) bundle(name, manifest, objects string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "bundles", name)
	require.NoError(s.t, os.MkdirAll(dir, 0o755))
	manifest = "summary = \"a test\"\n" + manifest + "[[phase]]\nname = \"all\"\nfiles = [\"objects.yaml\"]\n"
	for file, text := range map[string]string{"bundle.toml": manifest, "objects.yaml": objects} {
		require.NoError(s.t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
}

const aPod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\nspec:\n  containers:\n  - {name: c, image: x}\n"

// run is a hook of job 12 of alice where Slurm polls.
func (s *bundleSite) run(hook string, directives ...string) (wire.Code, string) {
	s.t.Helper()
	return s.runWith(hook, nil, directives...)
}

// runWith is run with more fields, KEY=VALUE.
func (s *bundleSite) runWith(hook string, more []string, directives ...string) (wire.Code, string) {
	s.t.Helper()
	text := "#!/bin/sh\n"
	for _, line := range directives {
		text += "#DW bundle " + line + "\n"
	}
	more = append([]string{"USER_NAME=alice", "SUBMIT_TIME=1700000000", "RESTART_COUNT=0", "BUSY=true"}, more...)
	code, reply := Run(s.t.Context(), hook, s.fields(text+"true\n", more...))
	return code, reply[wire.KeyMessage]
}

func TestABundleThatRanOutOfTimeIsNotPolledForEver(t *testing.T) {
	s := newBundleSite(t)
	s.bundle("server", "timeout = \"2s\"\n", aPod)
	code, message := s.run("slurm_bb_setup", "server name=p")
	require.Equal(t, wire.OK, code, message)
	begin := time.Now()
	for code = wire.Busy; code == wire.Busy && time.Since(begin) < 10*time.Second; {
		code, message = s.run("slurm_bb_test_data_in", "server name=p")
	}
	assert.Equal(t, wire.Failed, code)
	assert.Contains(t, message, "bundle server: not ready in time: phase all (1 of 1): ") // the pod is Pending, or time ended in a request
	assert.Zero(t, s.Count("DELETE", "/pods"), "it is not made again")
}

// The bundle that failed is left as it is while another of the job is staged, until
// slurm_bb_setup begins again.
func TestABundleThatFailedIsNotMadeAgainAtTheNextPoll(t *testing.T) {
	s := newBundleSite(t)
	s.bundle("slow", "", aPod)
	s.bundle("proceed", "on_failure = \"proceed\"\n", aPod)
	s.bundle("hold", "", aPod)
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "" && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods") {
			for _, path := range s.Paths() {
				if strings.HasPrefix(path, "ns/pods/bad") {
					s.Change(path, kubetest.Object{"status": kubetest.Object{"phase": "Failed", "message": "no space"}})
				}
			}
		}
		return false
	}
	lines := []string{"slow", "proceed name=bad"}
	code, message := s.run("slurm_bb_setup", lines...)
	require.Equal(t, wire.OK, code, message)
	for range 3 {
		code, message = s.run("slurm_bb_test_data_in", lines...)
		assert.Equal(t, wire.Busy, code, message)
	}
	assert.Equal(t, []string{"ns/leases/slurm-hpc-12.proceed", "ns/leases/slurm-hpc-12.slow", "ns/pods/bad", "ns/pods/slow-12"}, s.Paths())
	assert.Zero(t, s.Count("DELETE", ""))

	lines = append(lines, "hold name=bad2")
	for range 2 {
		code, message = s.run("slurm_bb_test_data_in", lines...)
		assert.Equal(t, wire.Failed, code, "though one that is listed before it has time left")
		assert.Equal(t, "bundle hold: phase all: pod bad2: Failed: no space", message)
	}
	assert.Zero(t, s.Count("DELETE", ""))
	code, message = s.run("slurm_bb_setup", lines...)
	require.Equal(t, wire.OK, code, message)
	assert.NotContains(t, s.Paths(), "ns/pods/bad2")
}

func TestAPollAsksSlurmNothingThatSetupWasTold(t *testing.T) {
	s := newBundleSite(t)
	s.bundle("server", "", strings.Replace(aPod, "${name}", "${name}-${account}-${partition}-${uid}", 1))
	code, message := s.run("slurm_bb_setup", "server")
	require.Equal(t, wire.OK, code, message)
	s.squeue("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
	code, message = s.run("slurm_bb_test_data_in", "server")
	assert.Equal(t, wire.Busy, code, message)
	assert.Contains(t, s.Paths(), "ns/pods/server-12-physics-batch-1000")

	// Where the notes are gone Slurm is asked, again at the next poll if it does not answer.
	require.NoError(t, os.RemoveAll(filepath.Join(s.state, "job.12")))
	code, message = s.run("slurm_bb_test_data_in", "server")
	assert.Equal(t, wire.Busy, code, message)
	s.squeue("echo '12|1000|alice|physics|batch'")
	code, message = s.run("slurm_bb_test_data_in", "server")
	assert.Equal(t, wire.Busy, code, message)
	assert.Zero(t, s.Count("DELETE", ""), "and what there is stays")
}

func TestWhatAnotherPollMayDoBetter(t *testing.T) {
	timeout := context.DeadlineExceeded
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"a bundle is ready", nil, false},
		{"a bundle has time left", &stage.LateError{Err: timeout}, true},
		{"a bundle's own time is over", &stage.LateError{Final: true, Err: timeout}, false},
		{"a bundle failed", &stage.FailedError{}, false},
		{"a request took too long", fmt.Errorf("get: %w", timeout), true},
		{"squeue does not answer", fmt.Errorf("job 12: %w", &slurm.CommandError{}), true},
		{"anything else", errors.New("x"), false},
	} {
		assert.Equal(t, tt.want, passes(t.Context(), tt.err), tt.name)
	}
}

// What Slurm tells of a job only once it has it is no reason to refuse the option at the
// prompt.
func TestAnOptionIsJudgedBeforeThereIsAJob(t *testing.T) {
	s := newBundleSite(t)
	s.bundle("greeter", "[param.text]\ntype = \"string\"\nmax = 5\ndefault = \"x\"\nhelp = \"a text\"\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\ndata:\n  account: ${account}\n  partition: ${partition}\n  time: ${submit_time}\n  nodes: ${text}\n")
	c, err := open("k8s_submit", s.fields(""), stateDir)
	require.NoError(t, err)
	c.job.UID = uint32(os.Getuid())
	require.NoError(t, c.checkOption(t.Context(), "greeter", nil))
	require.ErrorContains(t, c.checkOption(t.Context(), "greeter,text=toolong", nil), "text=toolong: ")
}

// Slurm's limit for slurm_bb_pre_run may be shorter than the bundle's timeout.
func TestOnFailureDecidesAlsoWhenTheHooksTimeIsOver(t *testing.T) {
	s := newBundleSite(t)
	s.bundle("server", "when = \"start\"\non_failure = \"proceed\"\n", aPod)
	code, message := s.run("slurm_bb_setup", "server")
	require.Equal(t, wire.OK, code, message)
	code, message = s.runWith("slurm_bb_pre_run", []string{"NODES=c1", "DEADLINE_MS=1500"}, "server")
	assert.Equal(t, wire.OK, code, message)
	code, message = s.runWith("slurm_bb_pre_run", []string{"NODES=c1", "DEADLINE_MS=1500"}, "server")
	assert.Equal(t, wire.OK, code, message)
	assert.Equal(t, 1, s.Count("DELETE", "/pods"), "the second attempt begins again")
}

// Without notes the namespace of a user is found by the rules.
func TestATeardownWithoutNotesLooksInTheNamespaceOfTheUser(t *testing.T) {
	s := newBundleSite(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", strings.Replace(string(text), `["ns"]`, `["user-{user}"]`, 1))
	s.bundle("greeter", "", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n")
	for _, hook := range []string{"slurm_bb_setup", "slurm_bb_test_data_in"} {
		code, message := s.run(hook, "greeter")
		require.Equal(t, wire.OK, code, message)
	}
	require.Len(t, s.Paths(), 2)
	require.NoError(t, os.RemoveAll(filepath.Join(s.state, "job.12")))
	code, message := s.run("slurm_bb_job_teardown", "greeter")
	assert.Equal(t, wire.OK, code, message)
	assert.Empty(t, s.Paths())
}

// Slurm cannot be asked then: the namespaces are those of the user who asks.
func TestBBStatWithoutNotesLooksInTheNamespaceOfTheAsker(t *testing.T) {
	s := newBundleSite(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", strings.Replace(strings.Replace(string(text), `["ns"]`, `["user-{user}"]`, 1), `["alice"]`, `["*"]`, 1))
	s.bundle("greeter", "", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n")
	s.squeue("echo '12|1|daemon|physics|batch'")
	for _, hook := range []string{"slurm_bb_setup", "slurm_bb_test_data_in"} {
		code, message := s.runWith(hook, []string{"UID=1", "USER_NAME=daemon"}, "greeter")
		require.Equal(t, wire.OK, code, message)
	}
	ask := func(uid string) (wire.Code, wire.Fields) {
		return Run(t.Context(), "slurm_bb_get_status", s.fields("", "ARG1=bundle", "ARG2=12", "UID="+uid))
	}
	_, noted := ask("1")
	require.NoError(t, os.RemoveAll(filepath.Join(s.state, "job.12")))
	code, reply := ask("1")
	require.Equal(t, wire.OK, code, reply)
	assert.Equal(t, "bundle=greeter phase=1/1 status=Ready namespace=user-daemon", reply[wire.KeyText])
	assert.Equal(t, noted, reply)
	code, _ = ask("2")
	assert.Equal(t, wire.Failed, code)
}

func TestTheSitesLimitIsTheTimeoutThatABundleSees(t *testing.T) {
	s := newBundleSite(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", strings.Replace(string(text), "[bundles]\n", "[bundles]\nmax_timeout = \"90s\"\n", 1))
	s.bundle("greeter", "timeout = \"1h\"\n", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\ndata:\n  seconds: ${timeout_seconds}\n")
	c, err := open("slurm_bb_setup", s.fields(""), stateDir)
	require.NoError(t, err)
	f := bundle.Facts{Job: job.Job{Cluster: "hpc", ID: 12, User: "alice"}}
	for given, want := range map[time.Duration]string{0: "90", time.Minute: "60", 30 * time.Minute: "90"} {
		all, err := c.rendered(t.Context(), []bundle.Request{{Name: "greeter", Instance: "greeter", Timeout: given}}, f)
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"seconds": want}, all[0].Phases[0].Objects[0].Object["data"])
		assert.Equal(t, want+"s", fmt.Sprint(all[0].Timeout.Seconds(), "s"))
	}
	_, err = c.rendered(t.Context(), []bundle.Request{{Name: "greeter", Instance: "greeter", Timeout: 2 * time.Hour}}, f)
	require.ErrorContains(t, err, "at most 1h")
}

// From slurmk8s.toml to what the user reads.
func TestALimitOfARuleHoldsForTheUsersBundle(t *testing.T) {
	s := newBundleSite(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", string(text)+"limits = { size = 4 }\nimages = [\"a/*\"]\n")
	s.bundle("server", "images = [\"*/*\"]\n[param.size]\ntype = \"int\"\nmax = 100\ndefault = 1\nhelp = \"h\"\n[param.image]\ntype = \"image\"\ndefault = \"a/x:1\"\nhelp = \"h\"\n", aPod)
	for ask, want := range map[string]string{
		"size=5":      "bundle server: size=5: you may have at most 4 (limits of [[bundles.allow]])",
		"image=b/x:1": "bundle server: image=b/x:1: you may have a/* (images of [[bundles.allow]])",
	} {
		code, message := s.run("slurm_bb_setup", "server name=p "+ask)
		assert.NotEqual(t, wire.OK, code)
		assert.Contains(t, message, want)
	}
	code, message := s.run("slurm_bb_setup", "server name=p size=4 image=a/y:1")
	assert.Equal(t, wire.OK, code, message)
}

// What is made is the user's to be allowed; the Lease, and removals, are not.
func TestABundleIsMadeInTheNameOfItsUser(t *testing.T) {
	s := newBundleSite(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.site.write("slurmk8s.toml", strings.Replace(string(text), "[bundles]\n", "[bundles]\nimpersonate = \"slurm:{user}\"\nimpersonate_groups = [\"jobs\"]\n", 1))
	var mutex sync.Mutex
	as := map[string]bool{}
	s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		mutex.Lock()
		defer mutex.Unlock()
		who := r.Header.Get("Impersonate-User")
		if who != "" {
			who += " of " + strings.Join(r.Header.Values("Impersonate-Group"), ",")
		}
		if r.Method != http.MethodGet {
			as[r.Method+" "+path.Base(strings.TrimSuffix(r.URL.Path, "/"))+" "+who] = true
		}
		return false
	}
	s.bundle("greeter", "", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n")
	code, message := s.run("slurm_bb_setup", "greeter name=p")
	require.Equal(t, wire.OK, code, message)
	require.Eventually(t, func() bool {
		code, message = s.run("slurm_bb_test_data_in", "greeter name=p")
		return code == wire.OK
	}, 10*time.Second, 10*time.Millisecond)
	code, message = s.run("slurm_bb_job_teardown", "greeter name=p")
	require.Equal(t, wire.OK, code, message)
	assert.Equal(t, map[string]bool{
		"POST leases ": true, "PATCH slurm-hpc-12.greeter ": true, "POST configmaps slurm:alice of jobs": true,
		"DELETE p ": true, "DELETE slurm-hpc-12.greeter ": true,
	}, as)
}
