package services

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// freePort listens on the node's address, and on nothing until listen is called.
func (n *node) freePort() (port int, listen func() net.Listener) {
	n.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(n.address.String(), "0"))
	require.NoError(n.t, err)
	port = l.Addr().(*net.TCPAddr).Port
	require.NoError(n.t, l.Close())
	return port, func() net.Listener {
		l, err := net.Listen("tcp", net.JoinHostPort(n.address.String(), strconv.Itoa(port)))
		require.NoError(n.t, err)
		n.t.Cleanup(func() { l.Close() })
		return l
	}
}

func (w *world) isReady(slice string) bool {
	u, err := w.admin.Resource(service.EndpointSlices).Namespace(w.namespace).Get(w.t.Context(), slice, metav1.GetOptions{})
	return err == nil && strings.Contains(fmt.Sprint(u.Object["endpoints"]), "ready:true")
}

func TestAStepFromBeginToEnd(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	port, listen := n.freePort()
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=jupyter:80:%d;name=two,port=web:%d,port=9000:%d", port, port, port)))
	assert.Equal(t, []string{"CODE=0",
		"SETENV_SLURMK8S_SERVICE_JUPYTER=jupyter." + n.namespace + ".svc:80",
		fmt.Sprintf("SETENV_SLURMK8S_SERVICE_TWO=two.%s.svc:%d", n.namespace, port),
		"SETENV_SLURMK8S_SERVICE_TWO_PORT_9000=two." + n.namespace + ".svc:9000",
		fmt.Sprintf("SETENV_SLURMK8S_SERVICE_TWO_WEB=two.%s.svc:%d", n.namespace, port),
	}, s.reply())
	assert.True(t, n.marked(12))
	assert.Equal(t, n.address.String()+" ready=false serving=false terminating=false", w.endpoint("jupyter.alps.12.c1"))
	time.Sleep(300 * time.Millisecond)
	assert.False(t, n.isReady("jupyter.alps.12.c1"), "before the port listens")
	listen()
	eventually.True(t, "ready", func() bool { return n.isReady("jupyter.alps.12.c1") && n.isReady("two.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12))
}

func TestEveryEndOfAStep(t *testing.T) {
	for name, end := range map[string]func(*step){
		"slurmstepd is killed":           func(s *step) { _ = s.in.Close() },
		"half a request":                 func(s *step) { _, _ = s.in.Write([]byte("ACT")); _ = s.in.Close() },
		"garbage":                        func(s *step) { s.send("no field") },
		"an end that nobody waits for":   func(s *step) { s.send("ACTION=deregister"); _ = s.in.Close() },
		"a reply that nobody can read":   func(s *step) { s.closeOut(); s.send("ACTION=deregister") },
		"both ends of the pipe are gone": func(s *step) { s.closeOut(); _ = s.in.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.newNode(site{})
			s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
			assert.Contains(t, s.reply(), "CODE=0")
			eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
			end(s)
			s.gone()
			assert.Empty(t, w.names())
			assert.False(t, n.marked(12))
		})
	}
}

func TestSignalsDoNotEndAStep(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	s.reply()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGALRM} {
		require.NoError(t, s.cmd.Process.Signal(signal))
	}
	time.Sleep(200 * time.Millisecond)
	assert.Len(t, w.names(), 3, "scancel --signal is for the job's own processes")
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestAKilledStepProgramIsTheEpilogs(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	s.reply()
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	assert.Len(t, w.names(), 3)
	assert.True(t, n.marked(12))
	out := n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "UID=0", "GID=0", "NODE=c1")
	assert.Equal(t, "0 ", out)
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12))
	assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "UID=0", "GID=0", "NODE=c1"), "again")
}

func TestTheNextStepTakesOverWhatAKilledOneLeft(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	dead := n.start(n.fields("STEP_ID=0", "K8S_REGISTER=name=a,port=8888,ready=none"))
	dead.reply()
	require.NoError(t, dead.cmd.Process.Kill())
	_ = dead.cmd.Wait()
	next := n.start(n.fields("STEP_ID=1", "K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Contains(t, next.reply(), "CODE=0")
	assert.Equal(t, []string{"CODE=0"}, next.end())
	assert.Empty(t, w.names())
}

// Slurm does not tell a step which run of its job it is: the node died with the first one, and
// nobody has removed anything since.
func TestARequeuedJobTakesOverWhatItLeftOnANodeThatDied(t *testing.T) {
	w := newWorld(t)
	dead, next := w.newNode(site{}), w.newNode(site{})
	const option = "K8S_REGISTER=name=a,port=8888,ready=none"
	first := dead.start(dead.fields(option))
	assert.Contains(t, first.reply(), "CODE=0")
	eventually.True(t, "ready", func() bool { return w.isReady("a.alps.12.c1") })
	require.NoError(t, first.cmd.Process.Kill())
	_ = first.cmd.Wait()

	second := next.start(next.fields("NODE=c2", "NODELIST=c2", option))
	assert.Contains(t, second.reply(), "CODE=0")
	eventually.True(t, "ready at the new node", func() bool { return w.isReady("a.alps.12.c2") })
	assert.Equal(t, []string{"leases/slurm-alps-12", "services/a", "endpointslices/a.alps.12.c2"}, w.names(), "no traffic to the node that died")
	assert.Equal(t, []string{"CODE=0"}, second.end())
	assert.Empty(t, w.names())
}

func TestSrunInABatchScriptCountsOnce(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	batch := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"))
	batch.reply()
	srun := n.start(n.fields("STEP_ID=0", "K8S_REGISTER=name=a,port=8888,ready=none"))
	assert.Equal(t, []string{"CODE=0", "SETENV_SLURMK8S_SERVICE_A=a." + n.namespace + ".svc:8888"}, srun.reply())
	assert.Equal(t, []string{"CODE=0"}, srun.end())
	eventually.True(t, "still there", func() bool { return n.isReady("a.alps.12.c1") })
	other := n.start(n.fields("STEP_ID=1", "K8S_REGISTER=name=a,port=9999,ready=none"))
	assert.Equal(t, []string{"CODE=2", "MESSAGE=service " + n.namespace + "/a: step batch of this job registered it with other options"}, other.reply())
	other.gone()
	assert.Equal(t, []string{"CODE=0"}, batch.end())
	assert.Empty(t, w.names())
}

func TestOnlyTheFirstNodeRegisters(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("NODE_RANK=1", "K8S_REGISTER=a:8888"))
	assert.Equal(t, []string{"CODE=0", "OVER=1", "SETENV_SLURMK8S_SERVICE_A=a." + n.namespace + ".svc:8888"}, s.reply())
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12))
	s.gone()
	all := n.start(n.fields("NODE_RANK=1", "K8S_REGISTER=name=a,port=8888,host=all,ready=none"))
	all.reply()
	assert.Len(t, w.names(), 3)
	assert.Equal(t, []string{"CODE=0"}, all.end())
	assert.Empty(t, w.names())
}

func TestAServiceIsReadyWhenAllItsPortsAnswer(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	web, listenWeb := n.freePort()
	metrics, listenMetrics := n.freePort()
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=a,port=web:80:%d,port=metrics:9090:%d", web, metrics)))
	assert.Contains(t, s.reply(), "CODE=0")
	listenWeb()
	time.Sleep(1500 * time.Millisecond)
	assert.False(t, n.isReady("a.alps.12.c1"), "the second port does not answer")
	listenMetrics()
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

func TestAServiceThatStopsAnsweringIsNotReadyUntilItDoes(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{services: `ready_interval = "1s"`})
	port, listen := n.freePort()
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=a,port=%d,endpoints=both", port)))
	assert.Contains(t, s.reply(), "CODE=0")
	l := listen()
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
	require.NoError(t, l.Close())
	closed := time.Now()
	eventually.True(t, "not ready", func() bool { return !n.isReady("a.alps.12.c1") })
	assert.Greater(t, time.Since(closed), 1500*time.Millisecond, "one failure is not enough")
	assert.Equal(t, n.address.String()+" ready=false serving=false terminating=false", w.endpoint("a.alps.12.c1"))
	eventually.True(t, "not ready in Endpoints, which are written after the slice", func() bool {
		return strings.Contains(fmt.Sprint(w.get(service.Endpoints, "a").Object["subsets"]), "notReadyAddresses")
	})
	listen()
	eventually.True(t, "ready again", func() bool { return n.isReady("a.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())

	n = w.newNode(site{services: `ready_interval = "0s"`})
	port, listen = n.freePort()
	s = n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=a,port=%d", port)))
	assert.Contains(t, s.reply(), "CODE=0")
	l = listen()
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
	require.NoError(t, l.Close())
	time.Sleep(4500 * time.Millisecond)
	assert.True(t, n.isReady("a.alps.12.c1"), "asked once, as configured")
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

// Arkouda made node1 of it.
func TestTheNameOfANodeIsNotMangled(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("NODE=node10", "NODELIST=node[1-10]", "K8S_REGISTER=name=a,port=8888,host=all,ready=none"))
	assert.Contains(t, s.reply(), "CODE=0")
	slice := w.get(service.EndpointSlices, "a.alps.12.node10")
	assert.Equal(t, "node10", slice.GetLabels()[service.LabelNode])
	endpoints, _, err := unstructured.NestedSlice(slice.Object, "endpoints")
	require.NoError(t, err)
	assert.Equal(t, "node10", endpoints[0].(map[string]any)["hostname"], "which DNS knows below the service")
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestHTTPAndFileProbes(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	port, listen := n.freePort()
	healthy := make(chan bool)
	file := filepath.Join(t.TempDir(), "ready")
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=h,port=%d,ready=http:/health;name=f,port=%d,ready=file:%s", port, port, file)))
	s.reply()
	go func() {
		_ = http.Serve(listen(), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-healthy:
				assert.Equal(t, "/health", r.URL.Path)
			default:
				http.Error(rw, "starting", http.StatusServiceUnavailable)
			}
		}))
	}()
	time.Sleep(500 * time.Millisecond)
	assert.False(t, n.isReady("h.alps.12.c1"), "503 is not ready")
	assert.False(t, n.isReady("f.alps.12.c1"), "no file yet")
	close(healthy)
	eventually.True(t, "http", func() bool { return n.isReady("h.alps.12.c1") })
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	eventually.True(t, "file", func() bool { return n.isReady("f.alps.12.c1") })
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestAPortIsThatOfAFileOfTheJob(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	port, listen := n.freePort()
	file, other := filepath.Join(t.TempDir(), "scheduler.json"), filepath.Join(t.TempDir(), "port")
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=d,port=web:80:file:%s;name=low,port=80:file:%s,ready-timeout=1s", file, other)))
	assert.Contains(t, s.reply(), "CODE=0")
	require.NoError(t, os.WriteFile(other, []byte("22"), 0o600))
	eventually.True(t, "a port that the user may not have is told when the service is late", func() bool {
		return strings.Contains(n.log(), other+" says port 22, which you may not use")
	})
	assert.False(t, n.isReady("d.alps.12.c1"), "no file yet")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(`{"services": {"dashboard": %d}}`, port)), 0o600))
	eventually.True(t, "the file is read", func() bool { return strings.Contains(n.log(), fmt.Sprintf("%s says port %d", file, port)) })
	assert.False(t, n.isReady("d.alps.12.c1"), "nothing listens there yet")
	listen()
	eventually.True(t, "ready", func() bool { return n.isReady("d.alps.12.c1") })
	u, err := w.admin.Resource(service.EndpointSlices).Namespace(w.namespace).Get(t.Context(), "d.alps.12.c1", metav1.GetOptions{})
	require.NoError(t, err)
	ports, _, _ := unstructured.NestedSlice(u.Object, "ports")
	assert.Equal(t, []any{map[string]any{"name": "web", "port": int64(port), "protocol": "TCP"}}, ports)
	assert.False(t, n.isReady("low.alps.12.c1"))
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

func TestAFileIsOpenedAsTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	w := newWorld(t)
	n := w.newNode(site{})
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, nil, 0o600))
	s := n.start(n.fields("UID="+nobody.Uid, "GID="+nobody.Gid, "K8S_REGISTER=name=f,port=8888,ready=file:"+secret))
	assert.Contains(t, s.reply(), "CODE=0")
	time.Sleep(700 * time.Millisecond)
	assert.False(t, n.isReady("f.alps.12.c1"), "root could have opened it")
	assert.Equal(t, []string{"CODE=0"}, s.end())
}

func TestTheProcessIsNotTheJobs(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none"), "LD_PRELOAD=/nonexistent", "SECRET=x")
	s.reply()
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	text := func(name string) string {
		data, err := os.ReadFile(proc + name)
		require.NoError(t, err)
		return strings.TrimSpace(string(data))
	}
	assert.Equal(t, "0", text("oom_score_adj"))
	assert.Regexp(t, `Max core file size +0 +0 `, text("limits"))
	cwd, err := os.Readlink(proc + "cwd")
	require.NoError(t, err)
	assert.Equal(t, "/", cwd)
	info, err := os.Stat(proc + "environ")
	require.NoError(t, err)
	assert.Equal(t, uint32(0), info.Sys().(*syscall.Stat_t).Uid)
	s.end()
}

func TestAnAPIServerThatIsDown(t *testing.T) {
	w := newWorld(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	kubeconfig, err := os.ReadFile(w.server.Kubeconfig())
	require.NoError(t, err)
	n := w.newNode(site{})
	path := n.write("dead.kubeconfig", 0o600, strings.ReplaceAll(string(kubeconfig), w.server.URL, "https://"+dead.Addr().String()))
	n = w.newNode(site{kubeconfig: path})
	s := n.start(n.fields("K8S_REGISTER=a:8888", "DEADLINE_MS=700"))
	answer := s.reply()
	assert.Equal(t, "CODE=3", answer[0])
	assert.Contains(t, answer[1], "connection refused")
	s.gone()
}

// A job begins and kills steps in a tight loop. Each takes its predecessor's name over, so
// that there is never more than one step's worth, and the epilog removes it.
func TestStepsInATightLoopFillNothing(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{rules: w.aliceOnly()})
	for i := range 25 {
		s := n.start(n.fields("UID=1", "GID=1", fmt.Sprintf("STEP_ID=%d", i), "K8S_REGISTER=name=mine,port=8001,ready=none;name=mine-b,port=8002,ready=none"))
		assert.Contains(t, s.reply(), "CODE=0", "step %d", i)
		require.NoError(t, s.cmd.Process.Kill())
		_ = s.cmd.Wait()
		require.LessOrEqual(t, len(w.names()), 5, "two services, their endpoints, the lease")
	}
	n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1")
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12))
}
