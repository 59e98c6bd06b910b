package kube

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

func options(path string) Options {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return Options{Kubeconfig: path, RequestTimeout: time.Minute, UserAgent: "test", Log: logrus.NewEntry(logger)}
}

// kubeconfig is a good one; tests spoil it.
func kubeconfig(t *testing.T) string {
	ca, err := pki.NewCA("test")
	require.NoError(t, err)
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters:
- name: k
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: %s
users:
- name: u
  user:
    token: secret-token
`, base64.StdEncoding.EncodeToString(ca.PEM))
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, mode)) // whatever the umask is
	return path
}

func TestAGoodKubeconfigIsTaken(t *testing.T) {
	_, err := New(options(write(t, "kubeconfig", kubeconfig(t), 0o600)))
	require.NoError(t, err)
}

func TestWhatOtherProgramsKeepInAKubeconfigIsNoError(t *testing.T) {
	text := replace("  user:\n", "  user:\n    extensions: [{name: x, extension: {a: b}}]\n    as: someone\n    as-groups: [g]\n")(kubeconfig(t))
	text = replace("  cluster:\n", "  cluster:\n    extensions: [{name: minikube.sigs.k8s.io/cluster, extension: {provider: x}}]\n    tls-server-name: api\n")(text)
	text += "preferences: {colors: true}\n"
	cfg, err := restConfig(options(write(t, "kubeconfig", text, 0o600)))
	require.NoError(t, err)
	assert.Equal(t, "https://127.0.0.1:6443", cfg.Host)
	assert.Equal(t, "secret-token", cfg.BearerToken)
	assert.Equal(t, "api", cfg.ServerName)
	assert.Equal(t, "someone", cfg.Impersonate.UserName)
	assert.Equal(t, []string{"g"}, cfg.Impersonate.Groups)
}

func TestAKubeconfigThatWeakensTLSOrRunsAProgramIsRefused(t *testing.T) {
	caLine := func(s string) string {
		_, after, _ := strings.Cut(s, "certificate-authority-data:")
		line, _, _ := strings.Cut(after, "\n")
		return "certificate-authority-data:" + line
	}
	tests := []struct {
		name  string
		spoil func(string) string
		want  string
	}{
		{"http", replace("https://", "http://"), `only https is allowed`},
		{"no scheme", replace("https://127.0.0.1:6443", "127.0.0.1:6443"), `is not a URL`},
		{"no server", replace("server: https://127.0.0.1:6443", "server: ''"), `is not a URL`},
		{"verification off", func(s string) string {
			return strings.Replace(s, caLine(s), "insecure-skip-tls-verify: true", 1)
		}, `insecure-skip-tls-verify is not allowed`},
		{"no authority", func(s string) string { return strings.Replace(s, caLine(s), "disable-compression: true", 1) },
			`certificate-authority: /etc/ssl/certs/ca-certificates.crt`},
		{"an authority without a certificate", func(s string) string { return strings.Replace(s, caLine(s), "certificate-authority-data: ''", 1) },
			`no certificate-authority: the system's certificates are not trusted`},
		{"an authority without a file, of an API server below a path", func(s string) string {
			return strings.Replace(strings.Replace(s, caLine(s), "certificate-authority:", 1), ":6443", "/k8s/clusters/c-m-1", 1)
		}, `no certificate-authority: the system's certificates are not trusted`},
		{"user without a credential", replace("token: secret-token", "username: ''"), `user "u" has no credential: give tokenFile`},
		{"user with a key alone", replace("token: secret-token", "client-key-data: eHh4"), `user "u" has no credential: give tokenFile`},
		{"proxy", replace("server: ", "proxy-url: http://10.0.0.1:3128\n    server: "), `proxy-url is not allowed`},
		{"exec plugin", replace("token: secret-token",
			"exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}"), `has a credential plugin`},
		{"auth provider", replace("token: secret-token", "auth-provider: {name: oidc}"), `has a credential plugin`},
		{"context that is missing", replace("current-context: c", "current-context: nowhere"), `current-context "nowhere" is not among its contexts`},
		{"no current context", replace("current-context: c\n", ""), `current-context "" is not among its contexts`},
		{"cluster that is missing", replace("cluster: k", "cluster: elsewhere"), `names cluster "elsewhere", which is not defined`},
		{"user that is missing", replace("user: u", "user: nobody"), `names user "nobody", which is not defined`},
		{"not YAML", func(string) string { return "{" }, `kubeconfig /`},
		{"of another kind", func(string) string { return "apiVersion: v1\nkind: Pod\n" }, `kubeconfig /`},
		{"user that is defined twice", replace("users:", "users:\n- {name: u, user: {token: other}}"), `"u" is defined twice`},
		{"certificate without its key", replace("token: secret-token", "client-certificate-data: eHh4"), `has a client certificate and no client-key`},
		{"empty", func(string) string { return "" }, `current-context`},
		{"authority that is none", func(s string) string { return strings.Replace(s, caLine(s), "certificate-authority-data: eHh4", 1) }, `kubeconfig /`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "kubeconfig", tt.spoil(kubeconfig(t)), 0o600)
			_, err := New(options(path))
			require.ErrorContains(t, err, tt.want)
			assert.Contains(t, err.Error(), path, "the error names the file")
			assert.NotContains(t, err.Error(), "secret-token")
		})
	}
}

func replace(old, new string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("nothing to replace: " + old)
		}
		return strings.Replace(s, old, new, 1)
	}
}

func TestAKubeconfigThatOthersCouldReadOrWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o620, 0o602, 0o604} {
		t.Run(fmt.Sprintf("mode %04o", mode), func(t *testing.T) {
			path := write(t, "kubeconfig", kubeconfig(t), mode)
			_, err := New(options(path))
			require.ErrorContains(t, err, "open to others")
			assert.Contains(t, err.Error(), "chmod 600 "+path)
		})
	}
}

func TestTheOwnerOfAKubeconfigMatters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := write(t, "kubeconfig", kubeconfig(t), 0o600)
	require.NoError(t, os.Chown(path, 12345, -1))
	_, err := New(options(path))
	require.ErrorContains(t, err, "is owned by uid 12345")

	trusting := options(path)
	trusting.AlsoTrusted = []uint32{12345}
	_, err = New(trusting)
	require.NoError(t, err, "SlurmUser's file, used by root")
}

func TestThePathOfAKubeconfig(t *testing.T) {
	t.Run("relative", func(t *testing.T) {
		_, err := New(options("kubeconfig"))
		require.ErrorContains(t, err, `"kubeconfig": not an absolute path`)
	})
	t.Run("empty", func(t *testing.T) {
		_, err := New(options(""))
		require.ErrorContains(t, err, "not an absolute path")
	})
	t.Run("missing", func(t *testing.T) {
		_, err := New(options("/nonexistent/kubeconfig"))
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a FIFO does not make a hook wait", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fifo")
		require.NoError(t, syscall.Mkfifo(path, 0o600))
		_, err := New(options(path))
		require.ErrorContains(t, err, "is not a regular file")
	})
	t.Run("a directory", func(t *testing.T) {
		_, err := New(options(t.TempDir()))
		require.ErrorContains(t, err, "is not a regular file")
	})
	t.Run("too large", func(t *testing.T) {
		_, err := New(options(write(t, "kubeconfig", strings.Repeat("#", maxKubeconfigBytes+1), 0o600)))
		require.ErrorContains(t, err, "is larger than")
	})
}

func TestTheFilesThatAKubeconfigNames(t *testing.T) {
	named := func(t *testing.T, field, text string, mode os.FileMode) (string, error) {
		secret := write(t, "named", text, mode)
		path := write(t, "kubeconfig", strings.Replace(kubeconfig(t), "token: secret-token", field+": "+secret, 1), 0o600)
		_, err := New(options(path))
		return secret, err
	}
	t.Run("a token file for its owner only", func(t *testing.T) {
		_, err := named(t, "tokenFile", "abc\n", 0o600)
		require.NoError(t, err)
	})
	t.Run("a token file that others read", func(t *testing.T) {
		secret, err := named(t, "tokenFile", "abc\n", 0o644)
		require.ErrorContains(t, err, "chmod 600 "+secret)
	})
	t.Run("a client key that others read", func(t *testing.T) {
		secret, err := named(t, "client-key", "abc\n", 0o640)
		require.ErrorContains(t, err, "chmod 600 "+secret)
	})
	t.Run("a token file that is missing", func(t *testing.T) {
		path := write(t, "kubeconfig", strings.Replace(kubeconfig(t), "token: secret-token", "tokenFile: /nonexistent/token", 1), 0o600)
		_, err := New(options(path))
		require.ErrorContains(t, err, "/nonexistent/token")
	})
	t.Run("a relative token file is one beside the kubeconfig", func(t *testing.T) {
		path := write(t, "kubeconfig", strings.Replace(kubeconfig(t), "token: secret-token", "tokenFile: token", 1), 0o600)
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "token"), []byte("abc"), 0o600))
		_, err := New(options(path))
		require.NoError(t, err)
	})
	t.Run("an authority that others could replace", func(t *testing.T) {
		ca, err := pki.NewCA("test")
		require.NoError(t, err)
		file := write(t, "ca.crt", string(ca.PEM), 0o666)
		text := kubeconfig(t)
		_, after, _ := strings.Cut(text, "certificate-authority-data:")
		line, _, _ := strings.Cut(after, "\n")
		text = strings.Replace(text, "certificate-authority-data:"+line, "certificate-authority: "+file, 1)
		path := write(t, "kubeconfig", text, 0o600)
		_, err = New(options(path))
		require.ErrorContains(t, err, file)
		require.ErrorContains(t, err, "chmod go-w "+file)

		require.NoError(t, os.Chmod(file, 0o644))
		_, err = New(options(path))
		require.NoError(t, err, "it is no secret")
	})
}
