package services

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/service"
)

// bare is a host outside Slurm with Arkouda's variables.
type outsideHost struct {
	*world
	dir string
	env map[string]string
}

func (w *world) outsideHost(user string, groups ...string) *outsideHost {
	w.t.Helper()
	config, err := w.server.UserConfig(user, groups...)
	require.NoError(w.t, err)
	_, address := usableInterface(w.t)
	b := &outsideHost{world: w, dir: w.t.TempDir()}
	b.env = map[string]string{
		"K8S_HOST": config.Host, "NAMESPACE": w.namespace,
		"CACERT_FILE": b.write("ca.crt", config.CAData), "CERT_FILE": b.write("user.crt", config.CertData), "KEY_FILE": b.write("user.key", config.KeyData),
		"EXTERNAL_SERVICE_NAME": "arkouda-on-slurm", "EXTERNAL_SERVICE_PORT": "5555", "EXTERNAL_SERVICE_TARGET_PORT": "5555",
		"METRICS_SERVICE_NAME": "arkouda-on-slurm-metrics", "METRICS_SERVICE_PORT": "5556", "METRICS_SERVICE_TARGET_PORT": "5556",
		"HOST_ADDRESS": address.String(),
	}
	return b
}

func (b *outsideHost) write(name string, data []byte) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	require.NoError(b.t, os.WriteFile(path, data, 0o600))
	return path
}

// run runs register or deregister; change replaces variables.
func (b *outsideHost) run(command string, change map[string]string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(slurmk8s(b.t), append([]string{command, "--timeout=3s", "--address=" + b.env["HOST_ADDRESS"]}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HTTPS_PROXY=http://127.0.0.1:1", "KUBECONFIG=/nonexistent"}
	for name, value := range b.env {
		if other, changed := change[name]; changed {
			value = other
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, value := range change {
		if _, there := b.env[name]; !there {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(b.t, err)
	}
	return fmt.Sprintf("%d %s", cmd.ProcessState.ExitCode(), out)
}

func TestAHostOutsideSlurmWithArkoudasVariables(t *testing.T) {
	w := newWorld(t)
	b := w.outsideHost("admin", "system:masters")
	for range 2 { // again is the same
		out := b.run("register", nil)
		assert.Equal(t, fmt.Sprintf("0 arkouda-on-slurm.%[1]s.svc:5555 is %[2]s:5555\narkouda-on-slurm-metrics.%[1]s.svc:5556 is %[2]s:5556\n",
			w.namespace, b.env["HOST_ADDRESS"]), out)
	}
	names := strings.Join(w.names(), " ")
	assert.Regexp(t, `^leases/slurm-host-\S+ services/arkouda-on-slurm services/arkouda-on-slurm-metrics endpointslices/arkouda-on-slurm-metrics\.\S+ endpointslices/arkouda-on-slurm\.\S+$`, names)
	for _, name := range w.names()[3:] {
		assert.Contains(t, w.endpoint(strings.TrimPrefix(name, "endpointslices/")), b.env["HOST_ADDRESS"]+" ready=true")
	}
	// Target and port as they should have been.
	b.env["METRICS_SERVICE_PORT"], b.env["METRICS_SERVICE_TARGET_PORT"] = "80", "9000"
	assert.Contains(t, b.run("register", nil), "0 ")
	ports, _, _ := unstructured.NestedSlice(w.get(service.Services, "arkouda-on-slurm-metrics").Object, "spec", "ports")
	assert.Equal(t, []any{map[string]any{"port": int64(80), "targetPort": int64(9000), "protocol": "TCP"}}, ports)

	assert.Equal(t, "0 ", b.run("deregister", nil))
	assert.Empty(t, w.names())
	assert.Equal(t, "0 ", b.run("deregister", nil), "nothing there is no error")
}

func TestARegistrationOutsideSlurmIsReadyWhenItAnswersAsItSays(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	b := w.outsideHost("admin", "system:masters")
	web, listenWeb := n.freePort()
	metrics, listenMetrics := n.freePort()
	file := filepath.Join(b.dir, "ready")
	for _, tt := range []struct {
		name, spec, cause string
		answer            func()
	}{
		{"all ports", fmt.Sprintf("name=ports,port=web:80:%d,port=metrics:9090:%d,ready-timeout=1s", web, metrics),
			fmt.Sprintf("nothing listens on port %d", metrics), func() { listenMetrics() }},
		{"a file", "name=file,port=80,ready-timeout=1s,ready=file:" + file,
			"open " + file + ": no such file or directory", func() { b.write("ready", nil) }},
		{"at once", "name=none,port=80,ready=none", "", func() {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "all ports" {
				listenWeb()
			}
			if tt.cause != "" {
				assert.Regexp(t, "^1 slurmk8s register: service .* is registered but not ready after 1s: "+tt.cause+"\n$", b.run("register", nil, tt.spec))
			}
			tt.answer()
			assert.Regexp(t, "^0 ", b.run("register", nil, tt.spec))
			assert.Equal(t, "0 ", b.run("deregister", nil, tt.spec))
			assert.Empty(t, w.names())
		})
	}
}

func TestTheExitCodesOfRegister(t *testing.T) {
	w := newWorld(t)
	b := w.outsideHost("admin", "system:masters")
	nobody := w.outsideHost("nobody")
	answering := func(code int, reason string) string {
		s := kubetest.New(t, func(rw http.ResponseWriter, _ *http.Request) {
			kubetest.Status(rw, code, reason, "in the server's words")
		})
		return s.URL + " " + b.write(fmt.Sprint("ca", code), s.CA)
	}
	fake := func(code int, reason string) map[string]string {
		url, ca, _ := strings.Cut(answering(code, reason), " ")
		return map[string]string{"K8S_HOST": url, "CACERT_FILE": ca, "KEY_FILE": "", "CERT_FILE": "", "SSL_TOKEN": "t"}
	}
	_, encrypted := encryptedKey(t, "secret")
	otherCA := kubetest.New(t, func(http.ResponseWriter, *http.Request) {}).CA
	tests := []struct {
		name   string
		host   *outsideHost
		change map[string]string
		args   []string
		want   string
	}{
		{"nobody listens", b, map[string]string{"K8S_HOST": "https://127.0.0.1:1"}, nil, "7 slurmk8s register: get service .*connection refused"},
		{"no such host", b, map[string]string{"K8S_HOST": "https://no-such-host.invalid:6443"}, nil, "7 .*no-such-host.invalid"},
		{"not a URL", b, map[string]string{"K8S_HOST": "ace:6443"}, nil, `7 .*K8S_HOST="ace:6443" is not a URL such as https`},
		{"in the clear", b, map[string]string{"K8S_HOST": "http://127.0.0.1:8080"}, nil, "7 .*is not a URL such as https"},
		{"not set at all", b, map[string]string{"K8S_HOST": ""}, nil, "7 .*set K8S_HOST, or give --kubeconfig"},
		{"401", b, map[string]string{"KEY_FILE": "", "CERT_FILE": "", "SSL_TOKEN": "wrong"}, nil, "22 .*register: 401: .*rejects the credential"},
		{"403", nobody, nil, nil, `22 .*register: 403: get service .* User "nobody" cannot get`},
		{"404", b, map[string]string{"NAMESPACE": "nowhere"}, nil, `22 .*register: 404: namespace "nowhere" does not exist`},
		{"409", b, map[string]string{"EXTERNAL_SERVICE_NAME": "taken"}, nil, "22 .*register: 409: service .*/taken exists and was not made by slurmk8s"},
		{"422", b, fake(422, "Invalid"), nil, "22 .*register: 422: .*in the server's words"},
		{"no CA", b, map[string]string{"CACERT_FILE": ""}, nil, "36 .*CACERT_FILE is not set: the API server's certificate is always verified"},
		{"another CA", b, map[string]string{"CACERT_FILE": b.write("other.crt", otherCA)}, nil, "36 .*is not of the authority in CACERT_FILE"},
		{"a CA that is none", b, map[string]string{"CACERT_FILE": b.write("none.crt", []byte("x"))}, nil, "36 .*holds no certificate"},
		{"no key", b, map[string]string{"KEY_FILE": "/nonexistent"}, nil, "36 .*KEY_FILE: open /nonexistent"},
		{"no credential", b, map[string]string{"KEY_FILE": "", "CERT_FILE": ""}, nil, "36 .*no credential: set KEY_FILE and CERT_FILE, or SSL_TOKEN"},
		{"key without certificate", b, map[string]string{"CERT_FILE": ""}, nil, "36 .*belong together"},
		{"key of another certificate", b, map[string]string{"KEY_FILE": nobody.env["KEY_FILE"]}, nil, "36 .*private key does not match"},
		{"key that is none", b, map[string]string{"KEY_FILE": b.write("none.key", []byte("x"))}, nil, "36 .*holds no key"},
		{"key with a password that is not given", b, map[string]string{"KEY_FILE": b.write("enc.key", encrypted)}, nil, "36 .*KEY_PASSWD does not open it"},
		{"a name that is none", b, map[string]string{"EXTERNAL_SERVICE_NAME": "a b"}, nil, `1 .*EXTERNAL_SERVICE_NAME: name "a b"`},
		{"another host's address", b, nil, []string{"--address=10.9.9.9"}, "1 .*no address in 10.9.9.9/32"},
		{"loopback", b, nil, []string{"--address=127.0.0.1"}, "1 .*no address in"},
	}
	w.create(service.Services, plainService("taken").Object)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := tt.host.run("register", tt.change, tt.args...)
			assert.Regexp(t, "^"+tt.want, out)
			assert.Equal(t, 1, strings.Count(out, "\n"), "one line: %s", out)
		})
	}
	assert.Equal(t, []string{"services/taken"}, w.names(), "nothing is left of what failed")
}

func TestAKeyWithAPassword(t *testing.T) {
	w := newWorld(t)
	b := w.outsideHost("admin", "system:masters")
	key, err := os.ReadFile(b.env["KEY_FILE"])
	require.NoError(t, err)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	for name, args := range map[string][]string{
		"as openssl 3 writes it": {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:sesame"},
		"with SHA-1":             {"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1", "-passout", "pass:sesame"},
		"as openssl 1 wrote it":  {"ec", "-aes256", "-passout", "pass:sesame"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(openssl, args...)
			cmd.Stdin = strings.NewReader(string(key))
			out, err := cmd.Output()
			require.NoError(t, err)
			require.Contains(t, string(out), "ENCRYPTED")
			b.env["KEY_FILE"] = b.write("encrypted.key", out)
			assert.Contains(t, b.run("register", map[string]string{"KEY_PASSWD": "wrong"}), "36 slurmk8s register: KEY_FILE: ")
			assert.Contains(t, b.run("register", map[string]string{"KEY_PASSWD": "sesame"}), "0 arkouda-on-slurm.")
			assert.Equal(t, "0 ", b.run("deregister", map[string]string{"KEY_PASSWD": "sesame"}))
		})
	}
}

// encryptedKey is a key that openssl 1 would have written.
func encryptedKey(t *testing.T, password string) (plain, encrypted []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	//lint:ignore SA1019 the form that is tested
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(password), x509.PEMCipherAES256)
	require.NoError(t, err)
	return der, pem.EncodeToMemory(block)
}
