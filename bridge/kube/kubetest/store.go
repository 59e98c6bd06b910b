package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Store is an API of objects of any kind. It keeps what is written, and has neither rules nor
// controllers. A watch gets no news: what is listed is all that a client sees.
type Store struct {
	*Server
	// Before, if set, is asked first; it reports whether it has answered.
	Before func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	version int
	objects map[string]Object // by path
}

// NewStore starts an empty one.
func NewStore(tb testing.TB) *Store {
	tb.Helper()
	s := &Store{objects: map[string]Object{}}
	s.Server = New(tb, s.serve)
	return s
}

// Paths are those of all objects, sorted, from the namespace on: "ns/pods/p".
func (s *Store) Paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := []string{}
	for path := range s.objects {
		_, rest, _ := strings.Cut(path, "/namespaces/")
		paths = append(paths, rest)
	}
	slices.Sort(paths)
	return paths
}

// Change alters an object by a merge patch; nil deletes it. path is as in Paths.
func (s *Store) Change(path string, change Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for full, o := range s.objects {
		if !strings.HasSuffix(full, "/namespaces/"+path) {
			continue
		}
		if change == nil {
			delete(s.objects, full)
			return
		}
		Merge(o, clone(change))
		s.stamp(o)
		return
	}
	s.tb.Errorf("no object %s", path)
}

func (s *Store) stamp(o Object) {
	s.version++
	Meta(o)["resourceVersion"] = strconv.Itoa(s.version)
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request) {
	if s.Before != nil && s.Before(w, r) {
		return
	}
	if r.URL.Query().Get("watch") == "true" {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	body, _ := io.ReadAll(r.Body)
	sent := Object{}
	_ = json.Unmarshal(body, &sent)
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPost:
		s.create(w, r, sent)
	case r.Method == http.MethodGet && !found && s.isList(r.URL.Path):
		s.list(w, r)
	case !found:
		s.missing(w, r.URL.Path)
	case r.Method == http.MethodPatch && refused(w, Meta(sent), Meta(o)):
	case contradicts(Meta(sent), Meta(o)) || contradicts(Part(sent, "preconditions"), Meta(o)):
		Status(w, 409, "Conflict", "the object has been modified")
	case r.Method == http.MethodDelete:
		delete(s.objects, r.URL.Path)
		JSON(w, 200, Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case r.Method == http.MethodPatch:
		delete(Meta(sent), "uid")
		delete(sent, "preconditions")
		Merge(o, sent)
		s.stamp(o)
		JSON(w, 200, o)
	default:
		JSON(w, 200, o)
	}
}

func (s *Store) create(w http.ResponseWriter, r *http.Request, sent Object) {
	name, _ := Meta(sent)["name"].(string)
	path := r.URL.Path + "/" + name
	if _, taken := s.objects[path]; taken {
		Status(w, 409, "AlreadyExists", name+" already exists")
		return
	}
	s.stamp(sent)
	Meta(sent)["uid"] = "uid-" + strconv.Itoa(s.version)
	if r.URL.Query().Get("dryRun") == "" {
		s.objects[path] = sent
	}
	JSON(w, 201, sent)
}

// isList: a path ends with a resource, .../namespaces/NS/RESOURCE or, for all namespaces or
// what is in none, /apis/GROUP/VERSION/RESOURCE and /api/VERSION/RESOURCE.
func (s *Store) isList(path string) bool {
	if _, rest, ok := strings.Cut(path, "/namespaces/"); ok {
		return strings.Count(rest, "/") == 1
	}
	if strings.HasPrefix(path, "/api/") {
		return strings.Count(path, "/") == 3
	}
	return strings.Count(path, "/") == 4
}

func (s *Store) list(w http.ResponseWriter, r *http.Request) {
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		o := s.objects[path]
		labels := Part(Meta(o), "labels")
		selected := strings.HasPrefix(path, r.URL.Path+"/")
		for _, term := range strings.Split(r.URL.Query().Get("labelSelector"), ",") {
			key, value, exact := strings.Cut(term, "=")
			has, given := labels[key]
			selected = selected && (term == "" || given && (!exact || has == value))
		}
		for _, term := range strings.Split(r.URL.Query().Get("fieldSelector"), ",") {
			name, given := strings.CutPrefix(term, "metadata.name=")
			selected = selected && (!given || Meta(o)["name"] == name)
		}
		if selected {
			items = append(items, o)
		}
	}
	JSON(w, 200, Object{"kind": "List", "apiVersion": "v1", "metadata": Object{"resourceVersion": strconv.Itoa(s.version)}, "items": items})
}

func (s *Store) missing(w http.ResponseWriter, path string) {
	parts := strings.Split(path, "/")
	JSON(w, 404, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": path + " not found",
		"details": Object{"kind": parts[max(0, len(parts)-2)], "name": parts[len(parts)-1]}})
}

// refused answers a patch that is meant for another version of an object, or for another
// object, as the API server does: it compares the version first, and a uid is immutable.
func refused(w http.ResponseWriter, sent, is Object) bool {
	version, versioned := sent["resourceVersion"]
	uid, named := sent["uid"]
	switch {
	case versioned && version != is["resourceVersion"]:
		Status(w, 409, "Conflict", "the object has been modified")
	case named && uid != is["uid"]:
		message := fmt.Sprintf("Invalid value: %q: field is immutable", uid)
		JSON(w, 422, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422,
			"message": "x is invalid: metadata.uid: " + message,
			"details": Object{"causes": []any{Object{"reason": "FieldValueInvalid", "message": message, "field": "metadata.uid"}}}})
	default:
		return false
	}
	return true
}

// contradicts reports that a request is meant for another object, or another version of it.
func contradicts(expected, is Object) bool {
	for _, field := range []string{"uid", "resourceVersion"} {
		if value, given := expected[field]; given && value != is[field] {
			return true
		}
	}
	return false
}
