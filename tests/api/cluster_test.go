// Package api tests the bridge's hooks against a real etcd and kube-apiserver, with
// DWS simulated and Slurm's commands faked, in process and by the built program.
// The credential is packaging/manifests/controller.yaml's and no other.
package api

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// patience bounds what a test waits for; a whole test run has the bound of go test.
const patience = 60 * time.Second

// cluster is an API server, with DWS in it if a test asks for it.
type cluster struct {
	config *rest.Config // an administrator's
	admin  dynamic.Interface
	// server and sim are nil where DWS is external.
	server *apiserver.Server
	sim    *dwssim.Sim
	// stored is the version of an external DWS, lacks says which abilities it has not.
	stored string
	lacks  map[int]bool
}

// version is the newest one that DWS serves.
func (c *cluster) version() string {
	switch {
	case c.sim != nil:
		return c.sim.Version
	case c.stored != "":
		return c.stored
	}
	return dwssim.DefaultVersions[len(dwssim.DefaultVersions)-1]
}

// The tests that do no harm to a server share one.
var common struct {
	once    sync.Once
	cluster *cluster
	err     error
	program string // the built binary
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slurmk8s-api-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	common.program = filepath.Join(dir, "slurmk8s")
	defer reportLeftOut()
	defer func() {
		if common.cluster != nil && common.cluster.server != nil {
			common.cluster.sim.Stop()
			common.cluster.server.Close()
		}
	}()
	return m.Run()
}

func shared(t *testing.T) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	common.once.Do(func() {
		build := exec.Command("go", "build", "-o", common.program, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			common.err = fmt.Errorf("go build: %w\n%s", err, output)
			return
		}
		if external {
			common.cluster, common.err = startExternal(context.Background())
			return
		}
		common.cluster, common.err = start(context.Background(), dwssim.DefaultVersions)
	})
	if common.err != nil {
		t.Fatal(common.err)
	}
	return common.cluster
}

// own is a cluster for a test that stops servers or changes DWS. Without versions
// DWS is not installed.
func own(t *testing.T, versions ...string) *cluster {
	t.Helper()
	simulatorOnly(t, "an API server and a DWS that it may stop")
	shared(t) // builds the program
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := start(ctx, versions)
	require.NoError(t, err)
	t.Cleanup(func() {
		if c.sim != nil {
			c.sim.Stop()
		}
		c.server.Close()
	})
	return c
}

func start(ctx context.Context, versions []string) (*cluster, error) {
	server, err := apiserver.Start(ctx, apiserver.Options{})
	if err != nil {
		return nil, err
	}
	admin, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		return nil, err
	}
	c := &cluster{config: server.Config(), server: server, admin: admin}
	if len(versions) > 0 {
		if c.sim, err = dwssim.Start(ctx, server.Config(), dwssim.Options{Versions: versions}); err != nil {
			server.Close()
			return nil, err
		}
	}
	return c, nil
}

// serve replaces the versions of DWS.
func (c *cluster) serve(t *testing.T, versions ...string) {
	t.Helper()
	if c.sim != nil {
		c.sim.Stop()
	}
	sim, err := dwssim.Start(t.Context(), c.server.Config(), dwssim.Options{Versions: versions})
	require.NoError(t, err)
	c.sim = sim
}

var (
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	accounts   = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	roles      = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}
	bindings   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}

	kinds = map[string]schema.GroupVersionResource{
		"Namespace": namespaces, "ServiceAccount": accounts, "Role": roles, "RoleBinding": bindings,
		"ClusterRole":        {Group: roles.Group, Version: "v1", Resource: "clusterroles"},
		"ClusterRoleBinding": {Group: roles.Group, Version: "v1", Resource: "clusterrolebindings"},
	}
)

const account = "slurmk8s-controller"

// inManifest is where the shipped manifest names its namespace.
var inManifest = regexp.MustCompile(`(?m)^(\s*(?:- )?(?:name|namespace): )slurm$`)

// manifest is a file of packaging/manifests for another namespace.
func manifest(t *testing.T, file, namespace string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("../../packaging/manifests/" + file)
	require.NoError(t, err)
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(inManifest.ReplaceAllString(string(text), "${1}"+namespace), "\n---\n") {
		encoded, err := yaml.YAMLToJSON([]byte(document))
		require.NoError(t, err)
		object := &unstructured.Unstructured{}
		require.NoError(t, object.UnmarshalJSON(encoded))
		objects = append(objects, object)
	}
	return objects
}

func (c *cluster) apply(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	resource, known := kinds[object.GetKind()]
	require.True(t, known, "%s in the manifest", object.GetKind())
	var client dynamic.ResourceInterface = c.admin.Resource(resource)
	if namespace := object.GetNamespace(); namespace != "" {
		client = c.admin.Resource(resource).Namespace(namespace)
	}
	_, err := client.Apply(t.Context(), object.GetName(), object, metav1.ApplyOptions{FieldManager: "test", Force: true})
	require.NoError(t, err)
}

// token asks for one of an account, as `kubectl create token` does.
func (c *cluster) token(t *testing.T, namespace, account string) string {
	t.Helper()
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"metadata": map[string]any{"name": account}, "spec": map[string]any{},
	}}
	answer, err := c.admin.Resource(accounts).Namespace(namespace).Create(t.Context(), request, metav1.CreateOptions{}, "token")
	require.NoError(t, err)
	token, _, err := unstructured.NestedString(answer.Object, "status", "token")
	require.NoError(t, err)
	require.NotEmpty(t, token)
	return token
}

// allowed waits until the account may do what its role says: the API server's
// authorizer learns of a role a moment after it was written.
func (c *cluster) allowed(t *testing.T, namespace, token string) {
	t.Helper()
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	resource := dwssim.WorkflowsResource(c.version())
	eventually.True(t, "the account may do what its role says", func() bool {
		_, err := client.Resource(resource).Namespace(namespace).List(t.Context(), metav1.ListOptions{Limit: 1})
		return err == nil || apierrors.IsNotFound(err)
	})
}

var namespaceCount atomic.Int64
