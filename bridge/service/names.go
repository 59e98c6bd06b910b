package service

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

const dnsRule = `at most 63 lower-case letters, digits and "-", a letter or digit first and last`

const maxLabelBytes = validation.LabelValueMaxLength

func isLabel(s string) bool { return len(validation.IsDNS1123Label(s)) == 0 }

// checkName wants a DNS-1035 label, since a Service is a host name.
func checkName(name string) error {
	if len(validation.IsDNS1035Label(name)) > 0 {
		return fmt.Errorf("name %s: at most 63 lower-case letters, digits and \"-\", a letter first", wire.Quote(name))
	}
	return nil
}

// CheckNamespace refuses what cannot be the name of a namespace.
func CheckNamespace(name string) error {
	if !isLabel(name) {
		return fmt.Errorf("namespace %s: %s", wire.Quote(name), dnsRule)
	}
	return nil
}

// isKey tells whether a label or an annotation can have the key, [DOMAIN/]NAME.
func isKey(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	for part := range strings.SplitSeq(domain, ".") {
		if len(part) > maxLabelBytes { // no DNS name has one
			return false
		}
	}
	return len(validation.IsQualifiedName(key)) == 0
}

// isOf tells whether a key is of a domain or of one below it.
func isOf(key, domain string) bool {
	of, _, has := strings.Cut(key, "/")
	return has && (of == domain || strings.HasSuffix(of, "."+domain))
}

// The labels of this domain describe an application to people; controllers do not act on
// them. managedByLabel is the tool's that made the object.
const (
	appDomain      = "app.kubernetes.io"
	managedByLabel = appDomain + "/managed-by"
)

// checkLabelKey refuses the domains of Kubernetes and of the bridge: labels there
// mean something to controllers.
func checkLabelKey(key string) error {
	if !isKey(key) {
		return fmt.Errorf("%s cannot be the key of a label", wire.Quote(key))
	}
	if strings.HasPrefix(key, appDomain+"/") && key != managedByLabel {
		return nil
	}
	for _, domain := range []string{"kubernetes.io", "k8s.io", "slurmk8s.io"} {
		if isOf(key, domain) {
			return fmt.Errorf("users may not set labels of %s: %s", domain, wire.Quote(key))
		}
	}
	return nil
}

// checkAnnotationKey refuses what no rule of the administrator's can allow: annotations of
// the bridge, and of kubectl and other tools that own the objects which they annotate so.
func checkAnnotationKey(key string) error {
	if !isKey(key) {
		return fmt.Errorf("%s cannot be the key of an annotation", wire.Quote(key))
	}
	for _, domain := range []string{"slurmk8s.io", "kubectl.kubernetes.io"} {
		if isOf(key, domain) {
			return fmt.Errorf("users may not set annotations of %s: %s", domain, wire.Quote(key))
		}
	}
	return nil
}

func checkLabelValue(value string) error {
	if len(validation.IsValidLabelValue(value)) > 0 {
		return fmt.Errorf("%s cannot be the value of a label", wire.Quote(value))
	}
	return nil
}

// sliceName is the EndpointSlice of a service on one node for one job. The dots
// keep names apart: no service and no cluster has one.
func sliceName(service, cluster string, job uint32, node string) string {
	return strings.Join([]string{service, cluster, strconv.FormatUint(uint64(job), 10), dnsNode(node)}, ".")
}

// dnsNode makes Slurm's name of a node fit a Kubernetes name; where that changes
// it, a hash keeps two nodes apart.
func dnsNode(node string) string {
	const maxBytes = 100
	parts := strings.Split(node, ".")
	valid := len(node) <= maxBytes
	for _, part := range parts {
		valid = valid && isLabel(part)
	}
	if valid {
		return node
	}
	sum := sha256.Sum256([]byte(node))
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(node))
	return "n-" + strings.Trim(name[:min(len(name), 40)], "-") + "-" + hex.EncodeToString(sum[:4])
}

// nodeLabel is Slurm's name of a node as the value of a label.
func nodeLabel(node string) string {
	if node != "" && len(validation.IsValidLabelValue(node)) == 0 {
		return node
	}
	return dnsNode(node)[:min(len(dnsNode(node)), maxLabelBytes)]
}

// hostName is the node's DNS name below a headless Service; empty if it has none.
func hostName(node string) string {
	short, _, _ := strings.Cut(node, ".")
	if short = strings.ToLower(short); isLabel(short) {
		return short
	}
	return ""
}

// Variable is a name of the job's environment made of a Kubernetes name, as
// Kubernetes does for pods: "dask-web" is DASK_WEB.
func Variable(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}
