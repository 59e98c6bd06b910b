package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// program is the built binary: what counts is what a process does.
var program string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slurmk8s-cmd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "slurmk8s")
	build := exec.Command("go", "build", "-ldflags", "-X slurmk8s.io/slurmk8s/bridge/version.Version=9.8.7", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

type result struct {
	status         int
	stdout, stderr string
}

func call(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.Env = []string{"LANG=C"} // neither HOME nor PATH
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// site writes a configuration for a kubeconfig and returns its path and the
// directory, which holds Slurm's commands.
func site(t *testing.T, kubeconfig, workflows string) (config, dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "state"), 0o700))
	config = filepath.Join(dir, "slurmk8s.toml")
	text := fmt.Sprintf("cluster = \"hpc\"\nslurm_conf = \"%s/slurm.conf\"\nslurm_bin_dir = %q\nstate_dir = \"%s/state\"\n[kubernetes]\nkubeconfig = %q\n[log]\nfile = \"%s/log\"\n[workflows]\n%s\n",
		dir, dir, dir, kubeconfig, dir, workflows)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	return config, dir
}

func command(t *testing.T, dir, name, body string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
}

func TestHelpAndVersion(t *testing.T) {
	tests := []struct {
		args   []string
		status int
		want   string
		stderr bool
	}{
		{[]string{"--help"}, 0, "Usage:", false},
		{[]string{"-h"}, 0, "Usage:", false},
		{[]string{"help"}, 0, "Usage:", false},
		{nil, 64, "Usage:", true},
		{[]string{"--version"}, 0, "slurmk8s 9.8.7\n", false},
		{[]string{"version"}, 0, "slurmk8s 9.8.7\n", false},
		{[]string{"hook", "--help"}, 0, "Usage: slurmk8s hook", false},
		{[]string{"hook"}, 64, "Usage: slurmk8s hook", true},
		{[]string{"reconcile", "--help"}, 0, "Usage: slurmk8s reconcile", false},
		{[]string{"reconcile", "-h"}, 0, "Usage: slurmk8s reconcile", false},
		{[]string{"cancel-job", "--help"}, 0, "Usage: slurmk8s cancel-job", false},
		{[]string{"help", "cancel-job"}, 0, "Usage: slurmk8s cancel-job", false},
		{[]string{"bundle"}, 64, "Usage: slurmk8s bundle COMMAND", true},
		{[]string{"bundle", "--help"}, 0, "Run slurmk8s bundle COMMAND --help", false},
		{[]string{"help", "bundle", "render"}, 0, "Usage: slurmk8s bundle render", false},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			r := call(t, "", tt.args...)
			assert.Equal(t, tt.status, r.status)
			text, other := r.stdout, r.stderr
			if tt.stderr {
				text, other = other, text
			}
			assert.Contains(t, text, tt.want)
			assert.Empty(t, other)
			for _, line := range strings.Split(text, "\n") {
				assert.LessOrEqual(t, len(line), 100)
			}
		})
	}
}

func TestEveryCommandAndHookIsInTheHelp(t *testing.T) {
	for _, cmd := range allCommands(newRoot()) {
		if cmd.HasParent() && !cmd.Hidden {
			help := call(t, "", append(strings.Fields(cmd.Parent().CommandPath())[1:], "--help")...).stdout
			assert.Regexp(t, `(?m)^  `+cmd.Name()+` +`+regexp.QuoteMeta(cmd.Short)+`$`, help)
			assert.NotEmpty(t, cmd.Short, cmd.Name())
			assert.NotEmpty(t, cmd.Long, cmd.Name())
		}
	}
	for _, name := range hook.Names() {
		assert.Contains(t, call(t, "", "hook", "--help").stdout, "    "+name+"\n")
	}
}

func TestANewcomersMistakes(t *testing.T) {
	config, dir := site(t, "/nonexistent/kubeconfig", "")
	tests := []struct {
		name   string
		args   []string
		status int
		want   string // in standard output and error together
	}{
		{"a command that does not exist", []string{"doktor"}, 64, `slurmk8s has no command "doktor": did you mean "doctor"?`},
		{"a command that nothing is near to", []string{"frobnicate"}, 64, `slurmk8s has no command "frobnicate": see slurmk8s --help`},
		{"help for a command that does not exist", []string{"help", "doktor"}, 64, `did you mean "doctor"?`},
		{"a flag that does not exist", []string{"status", "--jsn"}, 64, `status: unknown flag --jsn: did you mean "--json"?`},
		{"a flag that nothing is near to", []string{"status", "--frobnicate"}, 64, "status: unknown flag --frobnicate: see slurmk8s status --help"},
		{"a flag with one dash", []string{"status", "-json"}, 64, `status: unknown flag -json: did you mean "--json"?`},
		{"a flag of another command, after help was asked for", []string{"status", "--help", "--renew"}, 64, "status: unknown flag --renew"},
		{"a flag without its value", []string{"doctor", "--role"}, 64, "doctor: flag needs an argument: --role"},
		{"a number that is none", []string{"setup", "--days", "x"}, 64, `setup: --days takes a number, not "x"`},
		{"a time without a unit", []string{"doctor", "--limit", "3"}, 64, `doctor: --limit takes a time such as 90s, not "3"`},
		{"a role that does not exist", []string{"doctor", "--role", "king"}, 64, `--role "king" must be one of controller, node, login`},
		{"setup without an administrator's access", []string{"setup"}, 64, "setup: --kubeconfig FILE is required"},
		{"two jobs", []string{"status", "1", "2"}, 64, "status takes one job id"},
		{"two storages", []string{"storage", "r1", "r2"}, 64, "storage takes one name"},
		{"two services", []string{"register", "a:1", "b:2"}, 64, `register takes one SPEC, not also "b:2"`},
		{"bundle: a command that does not exist", []string{"bundle", "shw"}, 64, `bundle has no command "shw": did you mean "show"?`},
		{"bundle: a flag that does not exist", []string{"bundle", "list", "--dirs", "/x"}, 64, `bundle list: unknown flag --dirs: did you mean "--dir"?`},
		{"bundle: no name", []string{"bundle", "show"}, 64, "bundle show takes the name of a bundle"},
		{"bundle: two names", []string{"bundle", "check", "a", "b"}, 64, `bundle check takes the folder of a bundle, not also "b"`},
		{"bundle: nothing to render", []string{"bundle", "render"}, 64, "bundle render takes a bundle and its parameters"},
		{"bundle: one that does not exist", []string{"bundle", "render", "--dir", dir, "aok"}, 1, "bundle aok: there is none in " + dir},
		{"bundle: a folder that does not exist", []string{"bundle", "check", "/nonexistent"}, 1, "bundle nonexistent: open /nonexistent: no such file or directory"},
		{"a shell that has no completion", []string{"completion", "csh"}, 64, "completion takes one argument: bash, zsh or fish"},
		{"a hook that does not exist", []string{"hook", "setup"}, 3, `MESSAGE=slurmk8s has no hook "setup"`},
		{"a word that is no field", []string{"hook", "slurm_bb_setup", "12"}, 64, `"12" is not KEY=VALUE`},
		{"another command's option", []string{"hook", "slurm_bb_setup", "--config=" + config}, 64, "such as CONFIG=/etc/slurm/slurmk8s.toml"},
		{"a field in lower case", []string{"hook", "slurm_bb_setup", "job_id=12"}, 64, "is not KEY=VALUE"},
		{"no job", []string{"hook", "slurm_bb_data_in", "CONFIG=" + config}, 3, "MESSAGE=the hook was called without JOB_ID"},
		{"no configuration", []string{"hook", "slurm_bb_setup", "CONFIG=/nonexistent/slurmk8s.toml"}, 3, "MESSAGE=/nonexistent/slurmk8s.toml"},
		{"no kubeconfig", []string{"hook", "slurm_bb_job_teardown", "CONFIG=" + config, "JOB_ID=1"}, 3, "MESSAGE=kubeconfig: open /nonexistent/kubeconfig"},
		{"reconcile: no configuration", []string{"reconcile", "--config", "/nonexistent/slurmk8s.toml"}, 1, "/nonexistent/slurmk8s.toml"},
		{"reconcile: no kubeconfig", []string{"reconcile", "--config", config}, 1, "/nonexistent/kubeconfig"},
		{"reconcile: an option that does not exist", []string{"reconcile", "--dryrun"}, 64, "dryrun"},
		{"reconcile: a word", []string{"reconcile", "now"}, 64, `reconcile takes no argument "now"`},
		{"cancel-job: no job", []string{"cancel-job", "--config", config}, 64, "cancel-job takes one job id"},
		{"cancel-job: an array task", []string{"cancel-job", "--config", config, "12_3"}, 64, `"12_3" is not a job id`},
		{"cancel-job: job zero", []string{"cancel-job", "--config", config, "0"}, 64, `"0" is not a job id`},
		{"cancel-job: no Slurm", []string{"cancel-job", "--config", config, "12"}, 1, "squeue is not in " + dir + ": set slurm_bin_dir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, "", tt.args...)
			assert.Equal(t, tt.status, r.status)
			all := r.stdout + r.stderr
			assert.Contains(t, all, tt.want)
			assert.Equal(t, 1, strings.Count(all, "\n"), "one line: %s", all)
			assert.NotContains(t, all, "goroutine")
		})
	}
}

func TestTheReplyOfAHookForPrograms(t *testing.T) {
	config, dir := site(t, "/nonexistent/kubeconfig", "")
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n#DW\n"), 0o600))
	request := "CONFIG=" + config + "\x00SCRIPT=" + script + "\x00JOB_ID=1\x00"

	r := call(t, request, "hook", "-0", "slurm_bb_job_process")
	assert.Equal(t, result{2, "MESSAGE=line 2: \"#DW\" has no command\x00", ""}, r)

	r = call(t, strings.TrimSuffix(request, "\x00"), "hook", "-0", "slurm_bb_job_process")
	assert.Equal(t, 2, r.status, "the last zero byte may be missing")

	r = call(t, "", "hook", "slurm_bb_job_process", "CONFIG="+config, "SCRIPT="+script)
	assert.Equal(t, result{2, "MESSAGE=line 2: \"#DW\" has no command\n", ""}, r)

	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600))
	assert.Equal(t, result{0, "", ""}, call(t, request, "hook", "-0", "slurm_bb_job_process"))

	r = call(t, "CONFIG="+config+"\nJOB_ID=1", "hook", "-0", "slurm_bb_setup")
	assert.Equal(t, 3, r.status, "a line feed ends nothing: it is a part of the path")

	r = call(t, "no field\x00", "hook", "-0", "slurm_bb_setup")
	assert.Equal(t, 64, r.status)

	r = call(t, strings.Repeat("x", maxRequestBytes+1), "hook", "-0", "slurm_bb_setup")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "the request is larger than 1024 KiB")
}

func TestBusyHasAnExitStatusOfItsOwn(t *testing.T) {
	api := kubetest.NewWorkflows(t)
	api.Change(func(kubetest.Object) kubetest.Object {
		return kubetest.Object{
			"apiVersion": kubetest.Group + "/" + kubetest.Version, "kind": "Workflow",
			"metadata": kubetest.Object{"name": "bb12", "namespace": "slurm", "uid": "u1", "labels": kubetest.Object{
				"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "hpc", "slurmk8s.io/job-id": "12"}},
			"spec":   kubetest.Object{"desiredState": "DataIn"},
			"status": kubetest.Object{"state": "DataIn", "ready": false, "status": "DriverWait"},
		}
	})
	config, _ := site(t, api.Kubeconfig(), "busy_wait = \"0s\"")
	assert.Equal(t, result{1, "", ""}, call(t, "", "hook", "slurm_bb_test_data_in", "CONFIG="+config, "JOB_ID=12"))
}

func TestTheEnvironmentSteersNothing(t *testing.T) {
	api, trap := kubetest.NewWorkflows(t), kubetest.NewWorkflows(t)
	config, dir := site(t, api.Kubeconfig(), "")
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n#DW a\n"), 0o600))
	cmd := exec.Command(program, "hook", "slurm_bb_job_process", "CONFIG="+config, "SCRIPT="+script, "JOB_ID=12", "UID=1", "GID=1")
	cmd.Env = []string{"KUBECONFIG=" + trap.Kubeconfig(), "HTTPS_PROXY=" + trap.URL, "SSL_CERT_FILE=/dev/null", "GODEBUG=http2debug=2", "HTTP2_PING_TIMEOUT_SECONDS=x"}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	require.NoError(t, cmd.Run())
	assert.Empty(t, stdout.String())
	assert.NotEmpty(t, api.Requests())
	assert.Empty(t, trap.Requests())
}

// client-go logs a torn answer as an error, by itself.
func TestNothingOfClientGosIsPrinted(t *testing.T) {
	var api *kubetest.Server
	api = kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("{"))
		w.(http.Flusher).Flush()
		api.CutConnections()
	})
	config, dir := site(t, api.Kubeconfig(), "")
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n#DW a\n"), 0o600))
	r := call(t, "", "hook", "slurm_bb_job_process", "CONFIG="+config, "SCRIPT="+script, "JOB_ID=12", "UID=1", "GID=1", "DEADLINE_MS=300")
	assert.Equal(t, result{0, "", ""}, r)
	assert.NotEmpty(t, api.Requests())
}

func TestCancelJob(t *testing.T) {
	config, dir := site(t, "/nonexistent/kubeconfig", "")
	command(t, dir, "squeue", "echo '12|10_2|'")
	command(t, dir, "scancel", "echo \"$@\" >"+dir+"/cancelled")

	hook := exec.Command("sh", "-c", "read x; true") // it stays until it is told to go
	stdin, err := hook.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, hook.Start())
	done := make(chan result, 1)
	go func() {
		done <- call(t, "", "cancel-job", "--config", config, "--after-pid", fmt.Sprint(hook.Process.Pid), "12")
	}()
	assert.NoFileExists(t, dir+"/cancelled")
	require.NoError(t, stdin.Close())
	require.NoError(t, hook.Wait())
	assert.Equal(t, result{0, "", ""}, <-done)
	text, err := os.ReadFile(dir + "/cancelled")
	require.NoError(t, err)
	assert.Equal(t, "10_2\n", string(text))
}

func TestReconcileEndsWhenNothingAnswers(t *testing.T) {
	server := kubetest.New(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	config, dir := site(t, server.Kubeconfig(), "")
	command(t, dir, "squeue", "exec sleep 600")
	r := call(t, "", "reconcile", "--config", config, "--limit", "300ms")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "no answer in time")

	// Kubernetes answers, Slurm does not.
	api := kubetest.NewWorkflows(t)
	config, dir = site(t, api.Kubeconfig(), "")
	command(t, dir, "squeue", "exec sleep 600")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "state", "job.12"), 0o700))
	r = call(t, "", "reconcile", "--config", config, "--limit", "2s")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout+r.stderr, "slurmk8s: ")
}
