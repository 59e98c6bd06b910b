package kubetest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Group and Version are what Workflows serves.
const (
	Group   = "dataworkflowservices.github.io"
	Version = "v1alpha7"
)

// Object is JSON.
type Object = map[string]any

// Workflows is a DWS API of one Workflow. It has no rules and no controller: it
// keeps what is written, and the test says what else happens.
type Workflows struct {
	*Server
	// Before, if set, is asked first; it reports whether it has answered. It is
	// called without the lock, so that it may call the methods below.
	Before func(w http.ResponseWriter, r *http.Request) bool
	// React, if set, is the controller: it gets a copy of what a client has written, and
	// returns what becomes of it; nil: nothing. It is called with the lock.
	React func(o Object) Object

	mu      sync.Mutex
	version int
	object  Object // nil: there is none
	history []past // all that has happened
	watches map[chan Object]bool
}

// past is an event, and the version that it made.
type past struct {
	version int
	event   Object
}

// NewWorkflows starts the API without a Workflow.
func NewWorkflows(tb testing.TB) *Workflows {
	tb.Helper()
	w := &Workflows{watches: map[chan Object]bool{}}
	w.Server = New(tb, w.serve)
	tb.Cleanup(w.CutWatches) // before the server is closed, which waits for them
	return w
}

// Change alters the Workflow, or makes it, and tells the watches. change gets a
// copy and returns what shall be; nil deletes.
func (s *Workflows) Change(change func(o Object) Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(change(clone(s.object)))
}

func (s *Workflows) replace(to Object) {
	kind, before := "MODIFIED", s.object
	s.version++
	switch {
	case to == nil && before == nil:
		return
	case to == nil:
		kind, to, s.object = "DELETED", clone(before), nil
		Meta(to)["resourceVersion"] = strconv.Itoa(s.version)
	default:
		if before == nil {
			kind = "ADDED"
		}
		Meta(to)["resourceVersion"] = strconv.Itoa(s.version)
		s.object = to
	}
	event := Object{"type": kind, "object": clone(to)}
	s.history = append(s.history, past{s.version, event})
	for c := range s.watches {
		c <- event
	}
}

// write is what a client does.
func (s *Workflows) write(o Object) {
	s.replace(o)
	if s.React == nil {
		return
	}
	if next := s.React(clone(o)); next != nil {
		s.replace(next)
	}
}

// Current returns a copy of the Workflow, or nil.
func (s *Workflows) Current() Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.object)
}

// Watches is how many watches are open.
func (s *Workflows) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watches)
}

// CutWatches ends all watches.
func (s *Workflows) CutWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.watches {
		close(c)
		delete(s.watches, c)
	}
}

func (s *Workflows) serve(w http.ResponseWriter, r *http.Request) {
	if s.Before != nil && s.Before(w, r) {
		return
	}
	if r.URL.Path == "/apis/"+Group {
		version := Object{"groupVersion": Group + "/" + Version, "version": Version}
		JSON(w, 200, Object{"kind": "APIGroup", "apiVersion": "v1", "name": Group, "versions": []any{version}, "preferredVersion": version})
		return
	}
	if r.URL.Query().Get("watch") == "true" {
		s.watch(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch computes := strings.Contains(r.URL.Path, "/computes/"); {
	case computes:
		JSON(w, 200, Object{"kind": "Computes", "apiVersion": Group + "/" + Version, "metadata": Object{"name": "x"}})
		return
	case r.Method == http.MethodPost:
		var created Object
		_ = json.Unmarshal(body, &created)
		if s.object != nil && Meta(s.object)["name"] == Meta(created)["name"] {
			Status(w, 409, "AlreadyExists", `workflows.`+Group+` "x" already exists`)
			return
		}
		if r.URL.Query().Get("dryRun") == "" {
			Meta(created)["uid"] = "uid-" + strconv.Itoa(s.version)
			s.write(created)
		}
		JSON(w, 201, created)
		return
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/workflows"):
		items := []any{}
		if s.object != nil {
			items = append(items, s.object)
		}
		JSON(w, 200, Object{"kind": "WorkflowList", "apiVersion": Group + "/" + Version,
			"metadata": Object{"resourceVersion": strconv.Itoa(s.version)}, "items": items})
		return
	case s.object == nil:
		Status(w, 404, "NotFound", `workflows.`+Group+` "x" not found`)
		return
	case r.Method == http.MethodPatch:
		var change Object
		_ = json.Unmarshal(body, &change)
		if refused(w, Meta(change), Meta(s.object)) {
			return
		}
		changed := clone(s.object)
		Merge(changed, change)
		s.write(changed)
		JSON(w, 200, changed)
		return
	case r.Method == http.MethodDelete:
		var options Object
		_ = json.Unmarshal(body, &options)
		if contradicts(Part(options, "preconditions"), Meta(s.object)) {
			Status(w, 409, "Conflict", "the precondition does not hold")
			return
		}
		s.replace(nil)
		JSON(w, 200, Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
		return
	}
	JSON(w, 200, s.object)
}

func (s *Workflows) watch(w http.ResponseWriter, r *http.Request) {
	events := make(chan Object, 1000)
	s.mu.Lock()
	// A client that is behind gets what it missed.
	behind, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for _, past := range s.history {
		if past.version > behind {
			events <- past.event
		}
	}
	s.watches[events] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watches, events)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.(http.Flusher).Flush()
	for {
		select {
		case event, open := <-events:
			if !open {
				return
			}
			_ = json.NewEncoder(w).Encode(event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// Pass lets time pass: the next version of anything is much later.
func (s *Workflows) Pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version += 1000
}

// Meta is an object's metadata, made if it is absent.
func Meta(o Object) Object { return Part(o, "metadata") }

// Part is a field that is an object, made if it is absent.
func Part(o Object, name string) Object {
	part, ok := o[name].(Object)
	if !ok {
		part = Object{}
		o[name] = part
	}
	return part
}

// Merge changes an object by a merge patch, RFC 7386.
func Merge(into, change Object) {
	for key, value := range change {
		switch value := value.(type) {
		case nil:
			delete(into, key)
		case Object:
			Merge(Part(into, key), value)
		default:
			into[key] = value
		}
	}
}

func clone(o Object) Object {
	if o == nil {
		return nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var copied Object
	if err := json.Unmarshal(text, &copied); err != nil {
		panic(err)
	}
	return copied
}
