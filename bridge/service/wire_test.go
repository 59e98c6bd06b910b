package service

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

var update = flag.Bool("update", false, "write what crosses the wire into testdata")

// memory is an API server that keeps what it is given, for the order and the words
// of the requests. What Kubernetes makes of them is tested in tests/services.
type memory map[string]map[string]any

func (m memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		var object map[string]any
		_ = json.Unmarshal(body, &object)
		path += "/" + object["metadata"].(map[string]any)["name"].(string)
		m.keep(path, object)
	case http.MethodPatch, http.MethodPut:
		var object map[string]any
		_ = json.Unmarshal(body, &object)
		m.keep(path, object)
	case http.MethodDelete:
		delete(m, path)
		kubetest.JSON(w, 200, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
		return
	default:
		if strings.Contains(r.URL.RawQuery, "labelSelector") {
			items := []any{}
			for at, object := range m {
				if strings.HasPrefix(at, path+"/") {
					items = append(items, object)
				}
			}
			kubetest.JSON(w, 200, map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{}, "items": items})
			return
		}
	}
	if object := m[path]; object != nil {
		kubetest.JSON(w, 200, object)
		return
	}
	kubetest.Status(w, 404, "NotFound", path+" not found")
}

func (m memory) keep(path string, object map[string]any) {
	metadata := object["metadata"].(map[string]any)
	metadata["uid"], metadata["resourceVersion"] = "uid-of-"+filepath.Base(path), fmt.Sprint(len(m)+1)
	m[path] = object
}

func wireRegistrar(t *testing.T, s *kubetest.Server) *Registrar {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	client, err := kube.New(kube.Options{Kubeconfig: s.Kubeconfig(), RequestTimeout: time.Second, UserAgent: "test", Log: logrus.NewEntry(logger)})
	require.NoError(t, err)
	return &Registrar{
		Kube: client, Job: job.Job{Cluster: "alps", ID: 12, Restarts: 1, UID: 1000, User: "alice", SubmitTime: "1700000000"},
		Step: "batch", Node: "c1", Address: netip.MustParseAddr("10.1.0.1"), Array: 10, Task: 3, LeaseDuration: 90 * time.Second,
		Alive: func(context.Context, Claim) (bool, error) { return true, nil }, Log: logrus.NewEntry(logger),
	}
}

func TestWhatCrossesTheWire(t *testing.T) {
	for name, text := range map[string]string{
		"arkouda":  "env",
		"headless": "name=dask,port=dask-scheduler:8786,port=dask-webui:80:8787,ns=dask,host=all",
		"both":     "name=old,port=80:8080,ns=physics,endpoints=both,label=release=kube-stack",
		"array":    "name=worker,port=8786,ns=dask,host=array",
		"internal": "name=in,port=80,ns=physics,type=internal,app=web",
	} {
		t.Run(name, func(t *testing.T) {
			s := kubetest.New(t, memory{}.ServeHTTP)
			r := wireRegistrar(t, s)
			specs, err := Parse(text, arkouda())
			require.NoError(t, err)
			mark := func(what string) string { return "=== " + what + "\n" }
			got, seen := mark("register"), 0
			take := func() {
				for _, request := range s.Requests()[seen:] {
					got += words(request)
				}
				seen = len(s.Requests())
			}
			regs, err := r.Register(t.Context(), specs)
			require.NoError(t, err)
			take()
			got += mark("ready")
			for _, reg := range regs {
				require.NoError(t, r.Ready(t.Context(), reg))
			}
			take()
			got += mark("deregister")
			for _, reg := range regs { // one after the other, for the order of the file
				require.NoError(t, r.Deregister(t.Context(), []*Registration{reg}))
			}
			take()
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

var moment = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`)

// words are a request as the golden files have it.
func words(r kubetest.Request) string {
	line := r.String()
	if r.Query != "" {
		line += "?" + r.Query
	}
	if r.Body == "" {
		return line + "\n"
	}
	var body any
	if json.Unmarshal([]byte(r.Body), &body) != nil {
		return line + "\n" + r.Body + "\n"
	}
	pretty, _ := json.MarshalIndent(body, "", " ")
	return line + "\n" + moment.ReplaceAllString(string(pretty), `"NOW"`) + "\n"
}
