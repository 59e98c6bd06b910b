package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const (
	namespace = "slurm"
	uid       = "1000"
	gid       = "1000"
	// jobInfo stands for the job_info table; see harness/bbhost.c.
	jobInfo = "@job_info"
)

// site is a controller host with slurmk8s installed, its API server and DWS.
type site struct {
	dir   string // all files; owned by us, so that the loader trusts it
	build string
	// reference is the path of reference.sh.
	reference string
	keep      bool
	server    *apiserver.Server
	sim       *dwssim.Sim
	client    dynamic.Interface
	observer  *observer
	waiting   *host // Slurm before 24.05: data_in waits
	polling   *host // Slurm 24.05 and later: test_data_in waits
	kubectl   string
	// slurmImage is a container's image with Slurm; harness is the folder of that name.
	slurmImage, harness string

	lastJob, lastNode int // for names
}

func newSite(ctx context.Context, build string, keep bool) (_ *site, err error) {
	s := &site{keep: keep, lastJob: 1000}
	if s.build, err = filepath.Abs(build); err != nil {
		return nil, err
	}
	if s.reference, err = filepath.Abs("tests/bench/reference.sh"); err != nil {
		return nil, err
	}
	if s.harness, err = filepath.Abs("tests/bench/harness"); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "slurmk8s-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.kubectl, err = findKubectl(); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, dwssim.Options{}); err != nil {
		return nil, err
	}
	if err := s.install(); err != nil {
		return nil, err
	}
	return s, nil
}

// serve starts the API server and DWS; stopServing must follow, after an error too.
func (s *site) serve(ctx context.Context, options dwssim.Options) (err error) {
	if s.server, err = apiserver.Start(ctx, apiserver.Options{KeepDir: s.keep}); err != nil {
		return err
	}
	if s.sim, err = dwssim.Start(ctx, s.server.Config(), options); err != nil {
		return err
	}
	if s.client, err = dynamic.NewForConfig(s.server.Config()); err != nil {
		return err
	}
	if err := s.createNamespace(ctx); err != nil {
		return err
	}
	s.observer, err = observe(ctx, s.client.Resource(dwssim.WorkflowsResource(s.sim.Version)).Namespace(namespace))
	return err
}

func (s *site) stopServing() {
	if s.observer != nil {
		s.observer.stop()
	}
	if s.sim != nil {
		s.sim.Stop()
	}
	if s.server != nil {
		s.server.Close()
	}
}

// startHosts begins a section: one that failed may have left a hook running in its hosts.
func (s *site) startHosts(ctx context.Context) (err error) {
	if s.waiting, err = s.startHost(ctx, ""); err != nil {
		return err
	}
	s.polling, err = s.startHost(ctx, "busy")
	return err
}

func (s *site) closeHosts() {
	_, _ = s.waiting.close(), s.polling.close()
	s.waiting, s.polling = nil, nil
}

func (s *site) close() {
	s.closeHosts()
	s.stopServing()
	if s.keep {
		fmt.Fprintln(os.Stderr, "bench: logs are in", s.dir)
		return
	}
	_ = os.RemoveAll(s.dir)
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// findKubectl follows the rule of tests/kubernetes/build.sh.
func findKubectl() (string, error) {
	cache := os.Getenv("SLURMK8S_CACHE")
	if base := os.Getenv("XDG_CACHE_HOME"); cache == "" && base != "" {
		cache = filepath.Join(base, "slurmk8s")
	}
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "slurmk8s")
	}
	version := os.Getenv("KUBERNETES_VERSION")
	if version == "" {
		version = apiserver.DefaultKubernetesVersion
	}
	path := filepath.Join(cache, "kubernetes", version, "bin", "kubectl")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run tests/kubernetes/build.sh kubectl", err)
	}
	return path, nil
}

func (s *site) createNamespace(ctx context.Context) error {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace},
	}}
	_, err := s.client.Resource(namespaces).Create(ctx, object, metav1.CreateOptions{})
	return err
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// install does what the package does, below dir.
func (s *site) install() error {
	for _, folder := range []string{"state", "home", "tmp"} {
		if err := os.Mkdir(s.path(folder), 0o700); err != nil {
			return err
		}
	}
	for from, mode := range map[string]os.FileMode{
		"bin/slurmk8s": 0o755, "lib/libslurmk8s.so": 0o644, "lib/slurmk8s_lua.so": 0o644,
	} {
		if err := copyFile(filepath.Join(s.build, from), s.path(filepath.Base(from)), mode); err != nil {
			return fmt.Errorf("%w: run make all", err)
		}
	}
	for script, settings := range map[string]map[string]string{
		"burst_buffer.lua": {
			"config": "slurmk8s.toml", "state_dir": "state", "program": "slurmk8s",
			"library": "libslurmk8s.so", "module": "slurmk8s_lua.so",
		},
		"job_submit.lua": {"config": "node.toml", "program": "slurmk8s", "module": "slurmk8s_lua.so"},
	} {
		if err := s.installScript(script, settings); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"slurm.conf":        "ClusterName=bench\n",
		"burst_buffer.conf": "Directive=DW\n",
	} {
		if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return s.use(s.server.Kubeconfig())
}

// use writes slurmk8s.toml, which each hook reads, for a kubeconfig.
func (s *site) use(kubeconfig string) error {
	return os.WriteFile(s.path("slurmk8s.toml"), fmt.Appendf(nil,
		"slurm_conf = %q\nstate_dir = %q\n[kubernetes]\nkubeconfig = %q\n[log]\nfile = %q\n[workflows]\nnamespace = %q\n",
		s.path("slurm.conf"), s.path("state"), kubeconfig, s.path("slurmk8s.log"), namespace), 0o600)
}

func (s *site) installScript(name string, settings map[string]string) error {
	script, err := os.ReadFile(filepath.Join(s.build, "etc", name))
	if err != nil {
		return fmt.Errorf("%w: run make all", err)
	}
	text, err := replaceSettings(string(script), func(key string) string { return s.path(settings[key]) }, settings)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(s.path(name), []byte(text), 0o600)
}

// replaceSettings changes the paths in the settings of a script.
func replaceSettings(script string, value func(key string) string, keys map[string]string) (string, error) {
	lines := strings.Split(script, "\n")
	for key := range keys {
		found := false
		for i, line := range lines {
			if strings.HasPrefix(line, "\t"+key+" = \"") {
				lines[i] = fmt.Sprintf("\t%s = %q,", key, value(key))
				found = true
				break
			}
		}
		if !found {
			return "", fmt.Errorf("no setting %s", key)
		}
	}
	return strings.Join(lines, "\n"), nil
}

func copyFile(from, to string, mode os.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}

// noWait is the directive of a job that waits nowhere; waitEverywhere are those of a job
// that waits for the bench in each state but the first and the last.
var (
	noWait         = []string{"#DW jobdw type=xfs capacity=1TiB name=bench"}
	waitStates     = []string{dwssim.Setup, dwssim.DataIn, dwssim.PreRun, dwssim.PostRun, dwssim.DataOut}
	waitEverywhere = func() []string {
		var lines []string
		for _, state := range waitStates {
			lines = append(lines, "#DW "+state+" action=wait")
		}
		return lines
	}()
)

// job is a job whose script Slurm has.
type job struct {
	id, script string
	directives []string
}

// newJob writes a script where burst_buffer.lua finds the job's id in the path.
func (s *site) newJob(directives []string) (*job, error) {
	s.lastJob++
	j := &job{id: strconv.Itoa(s.lastJob), directives: directives}
	j.script = s.path("job." + j.id + "/script")
	if err := os.Mkdir(filepath.Dir(j.script), 0o700); err != nil {
		return nil, err
	}
	text := "#!/bin/sh\n" + strings.Join(directives, "\n") + "\nsleep 1\n"
	return j, os.WriteFile(j.script, []byte(text), 0o600)
}

func (j *job) workflow() string { return "bb" + j.id }

// hookArguments are those of Slurm 23.02 and later (burst_buffer_lua.c).
func (s *site) hookArguments(hook string, j *job) []string {
	switch hook {
	case "slurm_bb_job_process":
		return []string{j.script, uid, gid, jobInfo}
	case "slurm_bb_setup":
		return []string{j.id, uid, gid, "(null)", "0", j.script, jobInfo}
	case "slurm_bb_paths":
		return []string{j.id, j.script, s.path("job." + j.id + "/paths"), uid, gid, jobInfo}
	case "slurm_bb_job_teardown":
		return []string{j.id, j.script, "false", uid, gid}
	}
	return []string{j.id, j.script, uid, gid, jobInfo}
}
