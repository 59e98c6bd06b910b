package kube

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// Each file that a kubeconfig names, in place of which something stands that a hook
// would wait for or read for ever.
func TestWhatIsNoFileHangsNoHook(t *testing.T) {
	authority, err := pki.NewCA("test")
	require.NoError(t, err)
	tests := map[string]func(path string) string{
		"token": func(path string) string {
			return replace("token: secret-token", "tokenFile: "+path)(kubeconfig(t))
		},
		"client key": func(path string) string {
			return replace("token: secret-token", "client-key: "+path)(kubeconfig(t))
		},
		"client certificate": func(path string) string {
			return replace("token: secret-token", "client-certificate: "+path)(kubeconfig(t))
		},
		"authority": func(path string) string {
			text := kubeconfig(t)
			_, after, _ := strings.Cut(text, "certificate-authority-data:")
			line, _, _ := strings.Cut(after, "\n")
			return strings.Replace(text, "certificate-authority-data:"+line, "certificate-authority: "+path, 1)
		},
	}
	for name, naming := range tests {
		for what, place := range map[string]func(path string) error{
			"FIFO":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"device":         func(path string) error { return os.Symlink("/dev/zero", path) },
			"directory":      func(path string) error { return os.Mkdir(path, 0o700) },
			"dangling link":  func(path string) error { return os.Symlink(path+".gone", path) },
			"link to itself": func(path string) error { return os.Symlink(path, path) },
			"1 MiB and more": func(path string) error {
				return os.WriteFile(path, append(authority.PEM, make([]byte, maxKubeconfigBytes)...), 0o600)
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "named")
				require.NoError(t, place(path))
				done := make(chan error, 1)
				go func() {
					_, err := New(options(write(t, "kubeconfig", naming(path), 0o600)))
					done <- err
				}()
				select {
				case err := <-done:
					require.ErrorContains(t, err, path)
				case <-time.After(5 * time.Second):
					t.Fatal("it waits")
				}
			})
		}
	}
}

// A hard link has the owner and the mode of its file, a symbolic link those of what it
// leads to.
func TestALinkIsAsGoodAsItsFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	for name, link := range map[string]func(old, new string) error{"hard": os.Link, "symbolic": os.Symlink} {
		theirs := write(t, "kubeconfig", kubeconfig(t), 0o600)
		path := filepath.Join(filepath.Dir(theirs), "link")
		require.NoError(t, link(theirs, path))
		_, err := New(options(path))
		require.NoError(t, err, name)
		require.NoError(t, os.Chown(theirs, 12345, -1))
		_, err = New(options(path))
		require.ErrorContains(t, err, "is owned by uid 12345", name)
	}
}

// Somebody who may change the directory swaps the file between a check and its use: what
// is used is what was checked, never the token of another.
func TestAFileThatIsSwappedIsUsedAsItWasChecked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "token"), filepath.Join(dir, "aside")
	require.NoError(t, os.WriteFile(path, []byte("ours"), 0o600))
	require.NoError(t, os.WriteFile(aside, []byte("theirs"), 0o600))
	require.NoError(t, os.Chown(aside, 12345, -1))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default: // RENAME_EXCHANGE: one of the two is always there
				_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, aside, unix.RENAME_EXCHANGE)
			}
		}
	}()
	ours, refused := 0, 0
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		token, err := readSecret(path, nil)
		if err != nil {
			require.ErrorContains(t, err, "is owned by uid 12345")
			refused++
			continue
		}
		ours++
		require.Equal(t, "ours", string(token))
	}
	close(stop)
	<-stopped
	assert.Positive(t, ours)
	assert.Positive(t, refused, "it was never swapped: the test shows nothing")
}
