package services

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

var (
	buildOnce sync.Once
	program   string
	buildErr  error
)

// slurmk8s is the program, built once.
func slurmk8s(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		var dir string
		if dir, buildErr = os.MkdirTemp("", "slurmk8s-services-"); buildErr != nil {
			return
		}
		_ = os.Chmod(dir, 0o755) // a user runs it too
		program = filepath.Join(dir, "slurmk8s")
		cmd := exec.Command("go", "build", "-o", program, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, buildErr)
	return program
}

// node is a compute node: its files and its Slurm.
type node struct {
	*world
	dir, config string
	address     netip.Addr
}

// site is what differs from one test to another.
type site struct {
	kubeconfig    string
	rules         string // of slurmk8s.toml; "": root may have anything in the test's namespace
	services      string // more of [services]
	renewInterval string // of [services]; "": 5s
	address       string // of [services]; "": the node's, alone
}

// newNode writes the files of node c1, whose address is one that this host has.
func (w *world) newNode(s site) *node {
	w.t.Helper()
	n := &node{world: w, dir: w.t.TempDir()}
	_, address := usableInterface(w.t)
	n.address = address
	if s.kubeconfig == "" {
		s.kubeconfig = w.server.Kubeconfig()
	}
	if s.rules == "" {
		s.rules = fmt.Sprintf("[[services.allow]]\nusers = ['*']\nnamespaces = [%q]\n"+
			"expose = ['clusterip', 'headless', 'nodeport', 'loadbalancer', 'internal']\n", w.namespace)
	}
	n.write("slurm.conf", 0o644, "ClusterName="+cluster+"\n")
	n.squeue("exit 1")
	n.config = n.write("slurmk8s.toml", 0o644, fmt.Sprintf(`
slurm_conf = %q
slurm_bin_dir = %q
[kubernetes]
request_timeout = "5s"
[log]
level = "debug"
file = %q
[reconcile]
min_age = "0s"
[services]
kubeconfig = %q
run_dir = %q
address = "%s"
renew_interval = "%s"
%s
%s
`, filepath.Join(n.dir, "slurm.conf"), n.dir, filepath.Join(n.dir, "log"), s.kubeconfig, filepath.Join(n.dir, "run"), cmp.Or(s.address, "subnet:"+address.String()+"/32"), cmp.Or(s.renewInterval, "5s"), s.services, s.rules))
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("log of the node:\n%s", n.log())
		}
	})
	return n
}

func usableInterface(t *testing.T) (string, netip.Addr) {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range all {
		cfg := slurmconf.Default()
		cfg.Services.Address = slurmconf.AddressInterface + i.Name
		if a, err := (address.Finder{}).Find(t.Context(), cfg, "c1"); err == nil && a.Is4() {
			return i.Name, a
		}
	}
	t.Skip("this host has no address but loopback")
	return "", netip.Addr{}
}

func (n *node) write(name string, mode os.FileMode, text string) string {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	require.NoError(n.t, os.WriteFile(path, []byte(text), mode))
	return path
}

func (n *node) log() string {
	text, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	return string(text)
}

// squeue is what Slurm answers: a shell script. slurmctld has been up for long, and its
// next job is 1000.
func (n *node) squeue(script string) {
	n.write("squeue", 0o755, "#!/bin/sh\n"+script+"\n")
	n.write("scontrol", 0o755, "#!/bin/sh\necho BOOT_TIME = 1000\necho NEXT_JOB_ID = 1000\n")
}

func (n *node) marked(job uint32) bool {
	_, err := os.Stat(filepath.Join(n.dir, "run", fmt.Sprintf("job.%d", job)))
	return err == nil
}

// fields are a request for step "batch" of job 12; more are KEY=VALUE.
func (n *node) fields(more ...string) []string {
	return append([]string{
		"CONFIG=" + n.config, "JOB_ID=12", "STEP_ID=batch", "UID=0", "GID=0",
		"NODE=c1", "NODELIST=c1", "NODE_RANK=0", "RESTART_COUNT=0",
	}, more...)
}

// step is a step program that runs.
type step struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     io.Closer
	replies *bufio.Reader
}

// start runs the step program and sends its first request.
func (n *node) start(fields []string, env ...string) *step {
	n.t.Helper()
	cmd := exec.Command(slurmk8s(n.t), "step")
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, env...)
	in, err := cmd.StdinPipe()
	require.NoError(n.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, cmd.Start())
	s := &step{t: n.t, cmd: cmd, in: in, out: out, replies: bufio.NewReader(out)}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.send(fields...)
	return s
}

func (s *step) send(fields ...string) {
	s.t.Helper()
	_, err := io.WriteString(s.in, strings.Join(fields, "\x00")+"\x00\x00")
	require.NoError(s.t, err)
}

// reply reads one reply, sorted, and fails the test if none comes.
func (s *step) reply() []string {
	s.t.Helper()
	type answer struct {
		fields []string
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		for {
			text, err := s.replies.ReadString(0)
			if err != nil || text == "\x00" {
				a.err = err
				break
			}
			a.fields = append(a.fields, strings.TrimSuffix(text, "\x00"))
		}
		done <- a
	}()
	select {
	case a := <-done:
		require.NoError(s.t, a.err)
		slices.Sort(a.fields)
		return a.fields
	case <-time.After(eventually.Patience):
		s.t.Fatal("no reply")
		return nil
	}
}

// end asks for the end and waits for it.
func (s *step) end() []string {
	s.t.Helper()
	s.send("ACTION=deregister")
	answer := s.reply()
	_ = s.in.Close()
	s.gone()
	return answer
}

func (s *step) gone() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), eventually.Patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	require.True(s.t, stop(), "the program did not end by itself")
}

// run runs another command of slurmk8s: its exit status and what it printed.
func (n *node) run(args ...string) string {
	n.t.Helper()
	return n.runWith(nil, args...)
}

// runWith is run with more variables.
func (n *node) runWith(env []string, args ...string) string {
	n.t.Helper()
	cmd := exec.Command(slurmk8s(n.t), args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, env...)
	out, err := cmd.CombinedOutput()
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		require.NoError(n.t, err)
	}
	return fmt.Sprintf("%d %s", status, out)
}

func (s *step) closeOut() { _ = s.out.Close() }
