package apiserver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Namespaces are the namespaces of the cluster.
var Namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// Shared is one server for all tests of a package, started by the first test that asks for it:
//
//	var shared apiserver.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
type Shared struct {
	// Prepare is called once, after the start, if set.
	Prepare func(*Server) error

	once   sync.Once
	server *Server
	err    error
}

// Run runs the package's tests, ends the server and returns the exit status.
func (s *Shared) Run(m *testing.M) int {
	status := m.Run()
	if s.server != nil {
		s.server.Close()
	}
	return status
}

// Server is the server, which tests must leave usable for each other. Under -short the test is
// left out.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	s.once.Do(func() {
		if s.server, s.err = Start(context.Background(), Options{}); s.err == nil && s.Prepare != nil {
			s.err = s.Prepare(s.server)
		}
	})
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}

// Admin is an administrator's client. It shows no warnings of the API server, such as those
// about Endpoints.
func (s *Server) Admin(tb testing.TB) dynamic.Interface {
	tb.Helper()
	config := s.Config()
	config.WarningHandler = rest.NoWarnings{}
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	return admin
}

// NewNamespace makes a namespace of the test's own, in which these duties of slurmk8s may work
// ("services", "bundles"), and returns its name.
func NewNamespace(tb testing.TB, admin dynamic.Interface, open ...string) string {
	tb.Helper()
	labels := map[string]any{}
	for _, duty := range open {
		labels["slurmk8s.io/"+duty] = "open"
	}
	name := UniqueName(tb, "")
	_, err := admin.Resource(Namespaces).Create(tb.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": labels},
	}}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

// UniqueName is a name that no other test uses: the prefix, the test's name without "Test" and
// a number.
func UniqueName(tb testing.TB, prefix string) string {
	test, _, _ := strings.Cut(strings.ToLower(tb.Name()), "/")
	return fmt.Sprintf("%s%.40s-%d", prefix, strings.TrimPrefix(test, "test"), time.Now().UnixNano()%1e9)
}

// Log writes all levels into the test's output.
func Log(tb testing.TB) *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(tb.Output())
	logger.SetLevel(logrus.DebugLevel)
	return logrus.NewEntry(logger)
}
