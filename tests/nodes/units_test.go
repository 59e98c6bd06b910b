package nodes

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/node"
)

// systemd is a stand-in for it, on a bus of a real dbus-daemon: it has the calls that
// we make, and keeps a record of them.
type systemd struct {
	socket string
	bus    *dbus.Conn

	mu      sync.Mutex
	active  map[string]bool
	did     []string
	jobs    uint32
	result  string            // of each job
	started func(unit string) // a unit was
}

func newSystemd(t *testing.T, active ...string) *systemd {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	require.NoError(t, err, "run tests/deps.sh")
	dir := t.TempDir()
	s := &systemd{socket: filepath.Join(dir, "bus"), active: map[string]bool{}, result: "done", started: func(string) {}}
	for _, unit := range active {
		s.active[unit] = true
	}
	config := filepath.Join(dir, "bus.conf")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, s.socket)), 0o644))
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = bufio.NewReader(out).ReadString('\n') // it listens
	require.NoError(t, err)

	s.bus, err = dbus.Connect("unix:path=" + s.socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.bus.Close() })
	require.NoError(t, s.bus.ExportMethodTable(map[string]any{
		"StopUnit":  func(unit, mode string) (dbus.ObjectPath, *dbus.Error) { return s.job("stop", unit, mode) },
		"StartUnit": func(unit, mode string) (dbus.ObjectPath, *dbus.Error) { return s.job("start", unit, mode) },
	}, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"))
	require.NoError(t, s.bus.ExportSubtreeMethodTable(map[string]any{
		"Get": func(message dbus.Message, _, property string) (dbus.Variant, *dbus.Error) {
			path := string(message.Headers[dbus.FieldPath].Value().(dbus.ObjectPath))
			unit := strings.ReplaceAll(strings.TrimPrefix(path, "/org/freedesktop/systemd1/unit/"), "_2e", ".")
			s.mu.Lock()
			defer s.mu.Unlock()
			return dbus.MakeVariant(map[bool]string{true: "active", false: "inactive"}[s.active[unit]]), nil
		},
	}, "/org/freedesktop/systemd1/unit", "org.freedesktop.DBus.Properties"))
	reply, err := s.bus.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	require.Equal(t, dbus.RequestNameReplyPrimaryOwner, reply)
	return s
}

func (s *systemd) job(verb, unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs++
	id, path := s.jobs, dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", s.jobs))
	s.did = append(s.did, verb+" "+unit+" "+mode)
	result := s.result
	go func() {
		time.Sleep(50 * time.Millisecond)
		s.mu.Lock()
		if result == "done" {
			s.active[unit] = verb == "start"
		}
		s.mu.Unlock()
		if verb == "start" && result == "done" {
			s.started(unit)
		}
		_ = s.bus.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", id, path, unit, result)
	}()
	return path, nil
}

func (s *systemd) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	did := s.did
	s.did = nil
	return did
}

func (s *systemd) ends(result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = result
}

// setReady is what a kubelet tells of its node.
func (w *world) setReady(name, status string) {
	now := time.Now().UTC().Format(time.RFC3339)
	_, err := w.admin.Resource(node.Nodes).Patch(w.t.Context(), name, types.MergePatchType, []byte(fmt.Sprintf(
		`{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"x","message":"x","lastHeartbeatTime":%q,"lastTransitionTime":%q}]}}`, status, now, now)),
		metav1.PatchOptions{}, "status")
	require.NoError(w.t, err)
}

var stop = []string{"stop kubelet.service replace", "stop containerd.service replace"}
var start = []string{"start containerd.service replace", "start kubelet.service replace"}

func (w *world) stoppingHost(s *systemd, more ...string) *host {
	h := w.newHost(append([]string{`kubelet = "stop"`, `units_timeout = "60s"`, fmt.Sprintf("dbus_socket = %q", s.socket)}, more...)...)
	w.setReady(h.node, "True")
	var telling sync.WaitGroup
	s.started = func(unit string) {
		if unit == "kubelet.service" {
			telling.Go(func() {
				select {
				case <-time.After(1500 * time.Millisecond):
					w.setReady(h.node, "True")
				case <-w.t.Context().Done():
				}
			})
		}
	}
	w.t.Cleanup(telling.Wait)
	return h
}

func TestTheKubeletIsStoppedForAJob(t *testing.T) {
	w := newWorld(t)
	s := newSystemd(t, "kubelet.service", "containerd.service")
	h := w.stoppingHost(s)
	w.kubelet(h.node, 0)
	w.newPod(h.node, "web")
	require.Equal(t, "0 ", h.prolog(12))
	assert.Empty(t, w.pods(h.node), "before")
	assert.Equal(t, stop, s.done())

	time.Sleep(1100 * time.Millisecond) // what the old kubelet told is older than the start
	opened := make(chan time.Time, 1)
	go func() {
		for w.cordoned(h.node) {
			time.Sleep(10 * time.Millisecond)
		}
		opened <- time.Now()
	}()
	begin := time.Now()
	require.Equal(t, "0 ", h.epilog(12, "DEADLINE_MS=20000"))
	assert.Equal(t, start, s.done())
	assert.GreaterOrEqual(t, (<-opened).Sub(begin), 1500*time.Millisecond, "not before the node is Ready")
	assert.Empty(t, h.files())
}

func TestTheKubeletOfTwoJobs(t *testing.T) {
	w := newWorld(t)
	s := newSystemd(t, "kubelet.service", "containerd.service")
	h := w.stoppingHost(s)
	require.Equal(t, "0 ", h.prolog(12))
	assert.Equal(t, stop, s.done())
	require.Equal(t, "0 ", h.prolog(13))
	assert.Equal(t, stop, s.done(), "to be sure: the first prolog may have been killed half way")
	require.Equal(t, "0 ", h.epilog(12))
	assert.Empty(t, s.done())
	require.Equal(t, "0 ", h.epilog(13))
	assert.Equal(t, start, s.done())
	assert.False(t, w.cordoned(h.node))
}

func TestAUnitThatDidNotRunIsNotStarted(t *testing.T) {
	w := newWorld(t)
	s := newSystemd(t, "kubelet.service")
	h := w.stoppingHost(s)
	require.Equal(t, "0 ", h.prolog(12))
	assert.Equal(t, []string{"stop kubelet.service replace"}, s.done())
	require.Equal(t, "0 ", h.epilog(12))
	assert.Equal(t, []string{"start kubelet.service replace"}, s.done())
}

func TestAKubeletThatDoesNotStart(t *testing.T) {
	w := newWorld(t)
	s := newSystemd(t, "kubelet.service")
	h := w.stoppingHost(s)
	before := w.state(h.node)
	require.Equal(t, "0 ", h.prolog(12))
	s.ends("failed")
	assert.Contains(t, h.epilog(12), `0 MESSAGE=left to reconcile: systemd: start kubelet.service: failed: see "systemctl status kubelet.service"`)
	assert.True(t, w.cordoned(h.node), "nothing may be scheduled there")
	s.ends("done")
	h.slurmctld(time.Hour, "")
	h.slurm("squeue", gone)
	assert.Equal(t, "0 hold of node "+h.node+" (job 12 is over): removed", h.run("reconcile", "--config", h.config, "--node", h.node))
	assert.Empty(t, h.files())
	after := w.state(h.node)
	delete(before, "status") // the kubelet has told something new
	delete(after, "status")
	assert.Equal(t, before, after)
}

func TestAKubeletThatCannotBeStopped(t *testing.T) {
	w := newWorld(t)
	t.Run("systemd refuses", func(t *testing.T) {
		w := newWorldOn(t, w.server)
		s := newSystemd(t, "kubelet.service")
		h := w.stoppingHost(s)
		s.ends("timeout")
		assert.Contains(t, h.prolog(12), "3 MESSAGE=systemd: stop kubelet.service: timeout")
		assert.NotEmpty(t, h.refusal(12))
	})
	t.Run("there is no bus", func(t *testing.T) {
		w := newWorldOn(t, w.server)
		h := w.newHost(`kubelet = "stop"`, `dbus_socket = "/nonexistent/bus"`)
		before := w.state(h.node)
		assert.Contains(t, h.prolog(12), "3 MESSAGE=systemd: /nonexistent/bus: dial unix /nonexistent/bus")
		assert.Equal(t, before, w.state(h.node))
		assert.Equal(t, "0 ", h.epilog(12))
	})
}
