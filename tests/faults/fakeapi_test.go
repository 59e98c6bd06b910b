package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

var workflows = schema.GroupVersionResource{
	Group: "dataworkflowservices.github.io", Version: "v1alpha7", Resource: "workflows",
}

// settleTime is how long the fake storage takes to reach a desired state.
const settleTime = 20 * time.Millisecond

// fakeAPI is the upstream of this package's own tests: one namespaced resource
// with create, get, list, watch, merge patch and delete, over TLS. Like DWS it
// brings status.state to spec.desiredState after a while.
type fakeAPI struct {
	server *httptest.Server

	mu      sync.Mutex
	version int
	objects map[string]map[string]any // namespace/name
	events  []fakeEvent
	changed chan struct{} // closed and replaced at every event
}

type fakeEvent struct {
	version   int
	namespace string
	line      []byte
}

func startFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{objects: map[string]map[string]any{}, changed: make(chan struct{})}
	f.server = httptest.NewUnstartedServer(f)
	f.server.EnableHTTP2 = true
	f.server.StartTLS()
	t.Cleanup(func() {
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// config reaches the fake the way an admin's rest.Config reaches a real one.
func (f *fakeAPI) config() *rest.Config {
	return &rest.Config{Host: f.server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// get is an object as stored, nil if absent.
func (f *fakeAPI) get(namespace, name string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[namespace+"/"+name]
	if !ok {
		return nil
	}
	var out map[string]any
	_ = json.Unmarshal(mustJSON(o), &out)
	return out
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := describe(r.Method, r.URL)
	if req.Resource != "workflows" {
		answer(w, http.StatusOK, mustJSON(map[string]any{"kind": "APIGroup", "apiVersion": "v1", "path": r.URL.Path}))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone: what it sent is not whole
	}
	if req.IsWatch() {
		f.watch(w, r, req.Namespace)
		return
	}
	f.mu.Lock()
	code, out := f.handle(req, body)
	text := mustJSON(out) // of live objects: under the lock
	f.mu.Unlock()
	answer(w, code, text)
}

func answer(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func failure(code int, reason string) (int, map[string]any) {
	return code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"code": code, "reason": reason, "message": "fake: " + reason}
}

// handle is every request but a watch; f.mu is held.
func (f *fakeAPI) handle(req Request, body []byte) (int, map[string]any) {
	var in map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return failure(http.StatusBadRequest, "BadRequest")
		}
	}
	key := req.Namespace + "/" + req.Name
	old, exists := f.objects[key]
	switch req.Verb {
	case "list":
		return http.StatusOK, f.list(req.Namespace)
	case "create":
		meta, _ := in["metadata"].(map[string]any)
		if meta["name"] == nil {
			return failure(http.StatusBadRequest, "BadRequest")
		}
		key = req.Namespace + "/" + meta["name"].(string)
		if _, exists := f.objects[key]; exists {
			return failure(http.StatusConflict, "AlreadyExists")
		}
		meta["namespace"] = req.Namespace
		f.store(key, in, "ADDED")
		return http.StatusCreated, in
	case "get":
		if exists {
			return http.StatusOK, old
		}
	case "patch":
		if exists {
			merge(old, in)
			f.store(key, old, "MODIFIED")
			return http.StatusOK, old
		}
	case "delete":
		if exists {
			delete(f.objects, key)
			f.event(req.Namespace, old, "DELETED")
			return http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
		}
	}
	return failure(http.StatusNotFound, "NotFound")
}

func (f *fakeAPI) list(namespace string) map[string]any {
	var keys []string
	for k := range f.objects {
		if strings.HasPrefix(k, namespace+"/") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	items := []any{}
	for _, k := range keys {
		items = append(items, f.objects[k])
	}
	return map[string]any{"kind": "WorkflowList", "apiVersion": workflows.GroupVersion().String(),
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version)}, "items": items}
}

func (f *fakeAPI) store(key string, o map[string]any, kind string) {
	f.objects[key] = o
	f.event(strings.Split(key, "/")[0], o, kind)
	desired, _, _ := nested(o, "spec", "desiredState")
	if state, _, _ := nested(o, "status", "state"); desired != "" && state != desired {
		time.AfterFunc(settleTime, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if now, ok := f.objects[key]; ok {
				desired, _, _ := nested(now, "spec", "desiredState")
				now["status"] = map[string]any{"state": desired, "ready": true}
				f.event(strings.Split(key, "/")[0], now, "MODIFIED")
			}
		})
	}
}

func (f *fakeAPI) event(namespace string, o map[string]any, kind string) {
	f.version++
	o["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(f.version)
	line := append(mustJSON(map[string]any{"type": kind, "object": o}), '\n')
	f.events = append(f.events, fakeEvent{f.version, namespace, line})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, namespace string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for {
		f.mu.Lock()
		events, changed := f.events, f.changed
		f.mu.Unlock()
		for _, e := range events {
			if e.version > seen {
				seen = e.version
				if e.namespace == namespace {
					_, _ = w.Write(e.line)
					_ = http.NewResponseController(w).Flush()
				}
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// merge is RFC 7386, as far as the tests patch.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		if sub, ok := v.(map[string]any); ok {
			if old, ok := into[k].(map[string]any); ok {
				merge(old, sub)
				continue
			}
		}
		into[k] = v
	}
}

func nested(o map[string]any, path ...string) (string, bool, error) {
	for i, k := range path {
		if i == len(path)-1 {
			s, ok := o[k].(string)
			return s, ok, nil
		}
		next, ok := o[k].(map[string]any)
		if !ok {
			return "", false, nil
		}
		o = next
	}
	return "", false, fmt.Errorf("empty path")
}
