package kube

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/types"
)

// auditTransport writes a line for each change that was asked of Kubernetes: verb,
// object, result; the entry says for which job and whose it is. Reads, watches and dry
// runs change nothing. Nothing of an object but its name is written: what a user gives
// may be a secret.
type auditTransport struct {
	next http.RoundTripper
	log  *logrus.Entry
	// below is the path of the API server's URL: Rancher's is /k8s/clusters/ID.
	below string
}

func (t auditTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	verb := auditVerb(r)
	if verb == "" || r.URL.Query().Get("dryRun") != "" {
		return t.next.RoundTrip(r)
	}
	object := auditObject(r, t.below)
	resp, err := t.next.RoundTrip(r)
	line := t.log.WithFields(logrus.Fields{"verb": verb, "object": object})
	if as := r.Header.Get("Impersonate-User"); as != "" {
		line = line.WithField("as", as)
	}
	if err != nil {
		line.WithField("result", "no answer").Infof("audit: %s %s: no answer", verb, object)
		return resp, err
	}
	line.WithField("result", resp.StatusCode).Infof("audit: %s %s: %d", verb, object, resp.StatusCode)
	return resp, nil
}

// auditVerb is Kubernetes's own word for what a request does, or "" for one that
// changes nothing.
func auditVerb(r *http.Request) string {
	switch r.Method {
	case http.MethodPost:
		for _, review := range []string{"/selfsubjectaccessreviews", "/selfsubjectreviews", "/subjectaccessreviews"} {
			if strings.HasSuffix(r.URL.Path, review) {
				return ""
			}
		}
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		if r.Header.Get("Content-Type") == string(types.ApplyPatchType) {
			return "apply"
		}
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// auditObject is RESOURCE[/SUBRESOURCE] [NAMESPACE/]NAME of the object that a request
// is about; its path as it is, where that is none of an object's.
func auditObject(r *http.Request, below string) string {
	path := strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(below, "/"))
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch { // api/VERSION/... or apis/GROUP/VERSION/...
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return r.URL.Path
	}
	namespace := ""
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1]+"/", parts[2:]
	}
	name := ""
	if len(parts) > 1 {
		name = parts[1]
	} else {
		name = nameInBody(r)
	}
	resource := strings.Join(slices.Concat(parts[:1], parts[min(2, len(parts)):]), "/")
	return resource + " " + namespace + name
}

// nameInBody is the name of an object that is to be created; "?" where it has none yet.
func nameInBody(r *http.Request) string {
	var object struct {
		Metadata struct {
			Name, GenerateName string
		}
	}
	if r.GetBody == nil {
		return "?"
	}
	body, err := r.GetBody()
	if err != nil {
		return "?"
	}
	defer body.Close()
	if json.NewDecoder(io.LimitReader(body, maxResponseBytes)).Decode(&object) != nil {
		return "?"
	}
	if object.Metadata.Name == "" {
		return object.Metadata.GenerateName + "?"
	}
	return object.Metadata.Name
}
