// Package setup tests "slurmk8s setup", "doctor", "status" and "cleanup" as an
// administrator runs them: the program, a site's files, a real API server.
package setup

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/tests/apiserver"
)

var (
	program string
	signing atomic.Bool // the cluster signs certificates
	shared  = apiserver.Shared{Prepare: func(s *apiserver.Server) error {
		signing.Store(true)
		go signRequests(s)
		return nil
	}}
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slurmk8s-setup-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "slurmk8s")
	build := exec.Command("go", "build", "-o", program, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build slurmk8s: %v\n%s", err, out)
		return 1
	}
	return shared.Run(m)
}

// world is a Kubernetes cluster and the host of a slurmctld.
type world struct {
	t      *testing.T
	server *apiserver.Server
	admin  dynamic.Interface
	dir    string
}

// newWorld is a site with nodes c1 and c2. The cluster is one for all tests, so that
// they name namespaces of their own.
func newWorld(t *testing.T, toml ...string) *world {
	t.Helper()
	s := shared.Server(t)
	w := &world{t: t, server: s, admin: s.Admin(t), dir: t.TempDir()}
	w.write("slurm.conf", "ClusterName=alps\nSlurmUser=root\nNodeName=c[1-2] NodeAddr=10.1.0.[1-2]\n", 0o644)
	w.configure(toml...)
	return w
}

// configure writes slurmk8s.toml.
func (w *world) configure(toml ...string) {
	w.write("slurmk8s.toml", fmt.Sprintf("slurm_conf = %q\nslurm_bin_dir = %q\nstate_dir = %q\n[kubernetes]\nkubeconfig = %q\n[log]\nfile = %q\n%s\n",
		w.path("slurm.conf"), w.dir, w.path("state"), w.path("slurmk8s.kubeconfig"), w.path("log"), strings.Join(toml, "\n")), 0o644)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string, mode os.FileMode) {
	w.t.Helper()
	require.NoError(w.t, os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	require.NoError(w.t, os.WriteFile(w.path(name), []byte(text), mode))
	require.NoError(w.t, os.Chmod(w.path(name), mode))
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	require.NoError(w.t, err)
	return string(text)
}

// run runs the program with the site's slurmk8s.toml and an empty environment.
func (w *world) run(command string, args ...string) (status int, stdout, stderr string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), program, append([]string{command, "--config", w.path("slurmk8s.toml")}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=/nonexistent"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(w.t, err)
	}
	w.t.Logf("slurmk8s %s %s: exit %d\n%s%s", command, strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), errs.String())
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// setup runs "slurmk8s setup" as an administrator; it must succeed.
func (w *world) setup(args ...string) string {
	w.t.Helper()
	status, stdout, stderr := w.run("setup", append([]string{"--kubeconfig", w.server.Kubeconfig()}, args...)...)
	require.Equal(w.t, 0, status, stderr)
	return stdout
}

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

var (
	namespaces = gvr("", "v1", "namespaces")
	configMaps = gvr("", "v1", "configmaps")
	roles      = gvr("rbac.authorization.k8s.io", "v1", "clusterroles")
	requests   = gvr("certificates.k8s.io", "v1", "certificatesigningrequests")
)

func (w *world) get(resource schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(resource).Namespace(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return u
}

// signRequests does what the controller manager does in a real cluster: it signs
// what is approved for the signer of API clients.
func signRequests(server *apiserver.Server) {
	admin, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		panic(err)
	}
	api := admin.Resource(requests)
	for ; ; time.Sleep(20 * time.Millisecond) {
		list, err := api.List(context.Background(), metav1.ListOptions{})
		if err != nil || !signing.Load() {
			continue // the tests are over, or a test stopped the server
		}
		for i := range list.Items {
			csr := &list.Items[i]
			conditions, _, _ := unstructured.NestedSlice(csr.Object, "status", "conditions")
			certificate, _, _ := unstructured.NestedString(csr.Object, "status", "certificate")
			signer, _, _ := unstructured.NestedString(csr.Object, "spec", "signerName")
			if len(conditions) == 0 || certificate != "" || signer != "kubernetes.io/kube-apiserver-client" {
				continue
			}
			text, _, _ := unstructured.NestedString(csr.Object, "spec", "request")
			request, _ := base64.StdEncoding.DecodeString(text)
			seconds, _, _ := unstructured.NestedInt64(csr.Object, "spec", "expirationSeconds")
			signed, err := server.SignRequest(request, time.Duration(seconds)*time.Second)
			if err != nil {
				panic(err)
			}
			_ = unstructured.SetNestedField(csr.Object, base64.StdEncoding.EncodeToString(signed), "status", "certificate")
			_, _ = api.UpdateStatus(context.Background(), csr, metav1.UpdateOptions{})
		}
	}
}
