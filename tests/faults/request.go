package faults

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Request is one request of a hook's run, as the proxy saw it.
type Request struct {
	Number int // from 1, in the order of arrival
	Verb   string
	Path   string
	Query  string
	Fault  string // the fault that was injected, "" for none

	Group, Version, Namespace, Resource, Name, Subresource string
}

// String is how a matrix's legend names a request: number, verb, object, query.
func (r Request) String() string {
	what := r.Path
	if r.IsResource() {
		what = r.Resource
		for _, part := range []string{r.Name, r.Subresource} {
			if part != "" {
				what += "/" + part
			}
		}
	}
	s := fmt.Sprintf("%d %s %s", r.Number, r.Verb, what)
	if r.Query != "" {
		s += "?" + r.Query
	}
	return s
}

// IsWatch tells whether the answer is a stream of events.
func (r Request) IsWatch() bool { return r.Verb == "watch" }

// IsWrite tells whether the request may change an object.
func (r Request) IsWrite() bool {
	switch r.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// IsResource is false for discovery, /version, /readyz and their like.
func (r Request) IsResource() bool { return r.Resource != "" }

// describe takes a request apart the way kube-apiserver's RequestInfo does, as
// far as our hooks need it.
func describe(method string, u *url.URL) Request {
	r := Request{Path: u.Path, Query: u.RawQuery}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		r.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		r.Group, r.Version, parts = parts[1], parts[2], parts[3:]
	default:
		r.Verb = strings.ToLower(method)
		return r
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		r.Namespace, parts = parts[1], parts[2:]
	}
	r.Resource = parts[0]
	if len(parts) > 1 {
		r.Name = parts[1]
	}
	if len(parts) > 2 {
		r.Subresource = parts[2]
	}
	r.Verb = resourceVerb(method, r.Name != "", u.Query().Get("watch"))
	return r
}

func resourceVerb(method string, named bool, watch string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if named {
			return "delete"
		}
		return "deletecollection"
	case http.MethodGet:
		switch {
		case watch == "true" || watch == "1":
			return "watch"
		case named:
			return "get"
		}
		return "list"
	}
	return strings.ToLower(method)
}
