package dwssim

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// secret is the core kind, as far as it is needed here.
type secret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Type       string            `json:"type"`
	StringData map[string]string `json:"stringData"`
}

// tokenSecrets are the user's token and the key that the containers check it with.
func tokenSecrets(w *Workflow, version string, now time.Time) []*secret {
	signingKey := rand.Text()
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(fmt.Appendf(nil, `{"iat":%d,"sub":"user-container"}`, now.Unix()))
	signature := hmac.New(sha256.New, []byte(signingKey))
	signature.Write([]byte(token))
	token += "." + encode(signature.Sum(nil))
	made := func(suffix, key, value string) *secret {
		s := &secret{Type: "Opaque", StringData: map[string]string{key: value}}
		s.Name, s.Namespace = w.Name+suffix, w.Namespace
		s.Labels = map[string]string{workflowLabel + "name": w.Name, workflowLabel + "namespace": w.Namespace, workflowLabel + "uid": string(w.UID)}
		own(&s.ObjectMeta, "Workflow", w, version)
		return s
	}
	return []*secret{made("-token", "token", token), made("-token-server", "token.key", signingKey)}
}

// makeToken names the Secret of the user's token in the Workflow, in Setup: if there is a container,
// and some directive requires that it can be talked to. w is changed; the Secrets come with the
// write.
func (n *nnf) makeToken(w *Workflow, now time.Time, out *step) progress {
	if len(w.Status.Requires) > 0 && w.Status.WorkflowToken == nil {
		w.Status.WorkflowToken = &WorkflowToken{SecretName: w.Name + "-token", SecretNamespace: w.Namespace}
		for _, secret := range tokenSecrets(w, n.version, now) {
			out.add(create, kindSecret, secret)
		}
	}
	return progress{done: true}
}

// startContainer starts the containers on the rabbits of the job's nodes, in PreRun.
func (n *nnf) startContainer(s *surroundings, d *directive) progress {
	if len(s.computes) == 0 {
		const why = "error obtaining the target NNF nodes for containers: the Computes resources does not specify any compute nodes"
		return refusedBy(fatal("WLM", "unable to create/update Container Jobs: wlm error: "+why, why))
	}
	return progress{done: true, message: "pending container start"}
}

// containerEnvironment is what a job is told of its containers.
func (n *nnf) containerEnvironment(w *Workflow, s *surroundings, d *directive) map[string]string {
	profile := containerProfiles[d.args["profile"]]
	rabbits := rabbitOf(s.system)
	var hosts []string
	for _, node := range s.computes {
		if rabbit := rabbits[node]; rabbit != "" && !slices.Contains(hosts, rabbit) {
			hosts = append(hosts, rabbit)
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	slices.Sort(hosts)
	if profile.mpi {
		workers := len(hosts)
		hosts = []string{w.Name + "-launcher"}
		for i := range workers {
			hosts = append(hosts, fmt.Sprintf("%s-worker-%d", w.Name, i))
		}
	}
	env := map[string]string{
		"NNF_CONTAINER_DOMAIN":    w.Namespace + ".svc.cluster.local",
		"NNF_CONTAINER_HOSTNAMES": strings.Join(hosts, ","),
		"NNF_CONTAINER_SUBDOMAIN": w.Name,
	}
	if profile.ports > 0 {
		var ports []string
		for i := range profile.ports {
			ports = append(ports, fmt.Sprint(firstPort+i))
		}
		env["NNF_CONTAINER_PORTS"] = strings.Join(ports, ",")
		env["NNF_CONTAINER_PORTS_"+strings.ReplaceAll(d.args["profile"], "-", "_")] = env["NNF_CONTAINER_PORTS"]
	}
	return env
}

// firstPort is the first of SystemConfiguration's ports.
const firstPort = 5000
