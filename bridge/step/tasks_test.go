package step

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/service"
)

// The test is the slurmk8s program too, which a session starts as the user.
func TestMain(m *testing.M) {
	err := error(nil)
	switch {
	case len(os.Args) > 2 && os.Args[1] == "await-file":
		err = probe.AwaitFile(context.Background(), os.Args[2], os.Args[3:]...)
	case len(os.Args) > 3 && os.Args[1] == "read-port":
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		port, failed := probe.ReadPort(ctx, os.Args[2], os.Args[3], os.Args[4:]...)
		cancel()
		if err = failed; err == nil {
			fmt.Println(port)
		} else {
			fmt.Println(err)
		}
	case len(os.Args) > 2 && os.Args[1] == "tell-tasks":
		err = probe.TellTasks(os.Args[2], os.Args[3:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const alice = 1001

// newSession is that of a step of alice's whose slurmstepd is the test.
func newSession(t *testing.T) *session {
	t.Helper()
	program := programForAll(t)
	logger := logrus.New()
	logger.SetOutput(t.Output())
	return &session{
		options: Options{Program: program, Stepd: os.Getpid()}, log: logrus.NewEntry(logger),
		req: &request{job: job.Job{ID: 12, UID: alice, User: "alice"}, gid: alice, groups: []uint32{alice}},
	}
}

// task is a process of alice's that root prepares by a script, in which $as begins the
// command that it becomes.
func task(t *testing.T, script string, stderr io.Writer) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "sh", "-euc", script)
	cmd.Env = append(os.Environ(), fmt.Sprintf("as=setpriv --reuid=%d --regid=%[1]d --clear-groups sh -c", alice))
	cmd.Stderr = stderr
	start(t, cmd)
}

// start waits until a process says that it is there; it reads, and so ends with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	_, err = io.ReadFull(out, make([]byte, len("there\n")))
	require.NoError(t, err)
}

func TestAReadyFileIsLookedUpWhereTheTasksLive(t *testing.T) {
	host := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(host, "ready"), nil, 0o644))
	const stay = `exec $as "echo there; read end"`
	// A root directory of the task's own, of which links do not lead out.
	root := `mount -t tmpfs none /mnt
		mkdir -p /mnt/usr /mnt/data; mount --rbind /usr /mnt/usr
		for dir in bin lib lib64 sbin; do ln -s usr/$dir /mnt/$dir; done
		touch /mnt/data/ready; ln -s /data/ready /mnt/absolute; ln -s ../../../data/ready /mnt/above; ln -s ` + host + `/ready /mnt/out
		exec chroot /mnt $as "echo there; read end"`
	for _, tt := range []struct {
		name, script, path string
		found              bool
	}{
		{"in a /tmp of the job's own", `mount -t tmpfs none /tmp; touch /tmp/ready; ` + stay, "/tmp/ready", true},
		{"only on the node, which the job does not see", `mount -t tmpfs none ` + host + `; ` + stay, host + "/ready", false},
		{"that only root can read", `mount -t tmpfs none /tmp; install -m 600 /dev/null /tmp/ready; ` + stay, "/tmp/ready", false},
		{"in a container", root, "/data/ready", true},
		{"by an absolute link in a container", root, "/absolute", true},
		{"by a link above the root of a container", root, "/above", true},
		{"by a link that leads out of a container", root, "/out", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t)
			task(t, tt.script, nil)
			limit := time.Minute
			if !tt.found {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := s.openFile(ctx, tt.path)
			if tt.found {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, "user alice cannot open "+tt.path)
		})
	}
}

// The file is the user's to name and to make: what root alone can read says no port.
func TestAPortIsReadAsTheUser(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("8787"), 0o600))
	const stay = `exec $as "echo there; read end"`
	for _, tt := range []struct {
		name, script string
		port         uint16
		says         string
	}{
		{"in a /tmp of the job's own", `mount -t tmpfs none /tmp; echo '{"services": {"dashboard": 8787}}' >/tmp/s; ` + stay, 8787, ""},
		{"that only root can read", `mount -t tmpfs none /tmp; echo 8787 >/tmp/s; chmod 600 /tmp/s; ` + stay, 0, "permission denied"},
		{"by a link to what only root can read", `mkdir -p /mnt/s; mount --bind ` + filepath.Dir(secret) + ` /mnt; mount -t tmpfs none /tmp; ln -s /mnt/secret /tmp/s; ` + stay, 0, "permission denied"},
		{"without a port", `mount -t tmpfs none /tmp; echo root:x:0 >/tmp/s; ` + stay, 0, "it says no port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t)
			task(t, tt.script, nil)
			port, err := s.readPort(t.Context(), service.Port{File: "/tmp/s"})
			assert.Equal(t, tt.port, port)
			if tt.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.says)
			assert.NotContains(t, err.Error(), "root:x", "what the file says is not told")
		})
	}
}

func TestNoReadyFileBeforeAnyTask(t *testing.T) {
	s := newSession(t)
	s.options.Stepd = 1 // which has no process of alice's
	require.EqualError(t, s.openFile(t.Context(), "/etc/passwd"), "no task of the job runs that could make /etc/passwd")
}

func TestTheUserIsToldInTheJobsOutput(t *testing.T) {
	const line = "slurmk8s: service jobs/a is not ready after 1m0s: nothing listens on port 8888"
	t.Run("a file, which the task goes on with", func(t *testing.T) {
		s := newSession(t)
		path := filepath.Join(filepath.Dir(s.options.Program), "out")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(t, err)
		defer file.Close()
		require.NoError(t, file.Chown(alice, alice))
		task(t, `exec $as "echo before >&2; echo there; read end"`, file)
		s.tellUser(t.Context(), line)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "before\n"+line+"\n", string(text))
	})
	t.Run("a pipe, as srun's", func(t *testing.T) {
		s := newSession(t)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, w.Chown(alice, alice)) // as slurmstepd does
		task(t, `exec $as "echo there; read end"`, w)
		w.Close()
		s.tellUser(t.Context(), line)
		got := make([]byte, len(line)+1)
		_, err = io.ReadFull(r, got)
		require.NoError(t, err)
		assert.Equal(t, line+"\n", string(got))
	})
	t.Run("the next task, where the first has closed it", func(t *testing.T) {
		s := newSession(t)
		path := filepath.Join(filepath.Dir(s.options.Program), "out")
		require.NoError(t, os.WriteFile(path, nil, 0o666))
		require.NoError(t, os.Chmod(path, 0o666))
		task(t, `exec $as "exec 2>&-; echo there; read end"`, nil)
		task(t, `exec $as "exec 2>>`+path+`; echo there; read end"`, nil)
		s.tellUser(t.Context(), line)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, line+"\n", string(text))
	})
	t.Run("a task that begins after it is known", func(t *testing.T) {
		s := newSession(t)
		path := filepath.Join(filepath.Dir(s.options.Program), "out")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(t, err)
		defer file.Close()
		require.NoError(t, file.Chown(alice, alice))
		told := make(chan struct{})
		go func() { s.tellUser(t.Context(), line); close(told) }()
		task(t, `exec $as "echo there; read end"`, file)
		<-told
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, line+"\n", string(text))
	})
	t.Run("a task that hides its output until it is the user's program", func(t *testing.T) {
		s := newSession(t)
		path := filepath.Join(filepath.Dir(s.options.Program), "out")
		require.NoError(t, os.WriteFile(path, nil, 0o666))
		require.NoError(t, os.Chmod(path, 0o666))
		task(t, `exec $as "exec 2>&-; echo there; sleep 0.5; exec 2>>`+path+`; read end"`, nil)
		s.tellUser(t.Context(), line)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, line+"\n", string(text))
	})
	t.Run("nobody, if the step ends without a task", func(t *testing.T) {
		s := newSession(t)
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan struct{})
		go func() { s.tellUser(ctx, line); close(told) }()
		cancel()
		<-told
	})
	t.Run("not in a file that only root may write", func(t *testing.T) {
		s := newSession(t)
		file, err := os.CreateTemp(filepath.Dir(s.options.Program), "root")
		require.NoError(t, err)
		defer file.Close()
		task(t, `exec $as "echo there; read end"`, file)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.tellUser(ctx, line)
		text, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		assert.Empty(t, string(text))
	})
}

// A slurmstepd is Slurm's title and root's process: a user's of that name is none.
func TestASlurmstepdOfTheJobIsKnownByItsTitle(t *testing.T) {
	for title, of12 := range map[string]bool{
		"slurmstepd: [12.0]": true, "slurmstepd: [12.batch]": true, "slurmstepd: [12+0.0]": true, "slurmstepd: [123.0]": false, "slurmd": false,
	} {
		for uid, root := range map[uint32]bool{0: true, alice: false} {
			s := newSession(t)
			cmd := exec.Command("/bin/sh", "-c", "echo there; read end")
			cmd.Args[0] = title
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			start(t, cmd)
			s.options.Stepd = 1
			assert.Equal(t, of12 && root, s.ofJob(fmt.Sprint(cmd.Process.Pid)), "%s of user %d", title, uid)
		}
	}
}
