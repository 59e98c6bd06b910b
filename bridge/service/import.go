package service

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Import is a Service that a job wants to reach, a part of --k8s-import.
type Import struct {
	Namespace, Name string
	Port            string // name or number; empty: the first
}

// Object is "service ns/name".
func (i Import) Object() string { return object(Services, i.Namespace, i.Name) }

// ParseImports reads [NAMESPACE/]SERVICE[:PORT], separated by "," or ";". The error is a
// *job.Refused.
func ParseImports(text string) ([]Import, error) {
	if err := checkText("--k8s-import", text); err != nil {
		return nil, err
	}
	var imports []Import
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' }) {
		part = strings.TrimSpace(part)
		i, err := parseImport(part)
		if err != nil {
			return nil, job.Refusef("--k8s-import: %s: %v", wire.Quote(part), err)
		}
		if imports = append(imports, i); len(imports) > maxSpecs {
			return nil, job.Refusef("--k8s-import: more than %d services", maxSpecs)
		}
	}
	if len(imports) == 0 {
		return nil, job.Refusef("--k8s-import: empty: write [NAMESPACE/]SERVICE[:PORT]")
	}
	return imports, nil
}

func parseImport(part string) (Import, error) {
	var i Import
	rest := part
	if namespace, after, ok := strings.Cut(part, "/"); ok {
		if err := CheckNamespace(namespace); err != nil {
			return i, err
		}
		i.Namespace, rest = namespace, after
	}
	var hasPort bool
	i.Name, i.Port, hasPort = strings.Cut(rest, ":")
	if err := checkName(i.Name); err != nil {
		return i, err
	}
	if hasPort && !isLabel(i.Port) {
		return i, fmt.Errorf("port %s is neither a name nor a number", wire.Quote(i.Port))
	}
	return i, nil
}

// Resolver finds where Services are reached from this host.
type Resolver struct {
	Kube *kube.Client
	Log  *logrus.Entry
}

var nodesGVR = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}

// Resolve returns the variables that tell a job where a Service is, as Kubernetes
// sets them in pods: by load balancer, else node port, else cluster IP. The first
// two are reached from everywhere, the last one where kube-proxy runs. A Service that a job
// registered, and one without an address, is reached at an endpoint that is ready.
func (r *Resolver) Resolve(ctx context.Context, i Import) (map[string]string, error) {
	a := api{kube: r.Kube, log: r.Log}
	u, err := a.get(ctx, Services, i.Namespace, i.Name)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, job.Refusef("--k8s-import: %s does not exist", i.Object())
	}
	ports, chosen, err := importPorts(u, i)
	if err != nil {
		return nil, err
	}
	host, ports, err := r.reach(ctx, a, u, ports)
	if err != nil {
		return nil, err
	}
	number := strconv.FormatInt(ports[chosen].number, 10)
	name := Variable(i.Name)
	vars := map[string]string{
		name + "_SERVICE_HOST": host,
		name + "_SERVICE_PORT": number,
		name + "_ADDRESS":      net.JoinHostPort(host, number),
	}
	for _, p := range ports {
		if p.name != "" {
			vars[name+"_SERVICE_PORT_"+Variable(p.name)] = strconv.FormatInt(p.number, 10)
		}
	}
	r.Log.Infof("%s is at %s", i.Object(), vars[name+"_ADDRESS"])
	return vars, nil
}

// importPort is a port of a Service: its number, and the other two that it may have.
type importPort struct {
	name   string
	number int64 // of the Service; what the job is told in the end
	node   int64
}

func importPorts(u *unstructured.Unstructured, i Import) (ports []importPort, chosen int, err error) {
	list, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	chosen = -1
	var known []string
	for n, entry := range list {
		fields, _ := entry.(map[string]any)
		p := importPort{}
		p.name, _, _ = unstructured.NestedString(fields, "name")
		p.number, _, _ = unstructured.NestedInt64(fields, "port")
		p.node, _, _ = unstructured.NestedInt64(fields, "nodePort")
		if i.Port == "" && n == 0 || i.Port != "" && (i.Port == p.name || i.Port == strconv.FormatInt(p.number, 10)) {
			chosen = n
		}
		known = append(known, strings.TrimPrefix(fmt.Sprintf("%s:%d", p.name, p.number), ":"))
		ports = append(ports, p)
	}
	if chosen < 0 {
		return nil, 0, job.Refusef("--k8s-import: %s has no port %q, only %s", i.Object(), i.Port, strings.Join(known, ", "))
	}
	return ports, chosen, nil
}

// reach returns the best host for a Service, and the numbers of its ports there.
func (r *Resolver) reach(ctx context.Context, a api, u *unstructured.Unstructured, ports []importPort) (string, []importPort, error) {
	text := func(fields ...string) string {
		v, _, _ := unstructured.NestedString(u.Object, fields...)
		return v
	}
	ingress, _, _ := unstructured.NestedSlice(u.Object, "status", "loadBalancer", "ingress")
	for _, entry := range ingress {
		fields, _ := entry.(map[string]any)
		for _, key := range []string{"ip", "hostname"} {
			if host, _, _ := unstructured.NestedString(fields, key); safeHost(host) {
				return host, ports, nil
			}
		}
	}
	if kind := text("spec", "type"); kind == "NodePort" || kind == "LoadBalancer" {
		if host := r.nodeAddress(ctx, a); host != "" {
			for n := range ports {
				if ports[n].node == 0 { // a load balancer without node ports
					host = ""
				}
			}
			if host != "" {
				for n := range ports {
					ports[n].number = ports[n].node
				}
				return host, ports, nil
			}
		}
	}
	object := object(Services, u.GetNamespace(), u.GetName())
	switch ip := text("spec", "clusterIP"); {
	case text("spec", "type") == "ExternalName" && safeHost(text("spec", "externalName")):
		return text("spec", "externalName"), ports, nil
	case ip == "None" || ofAJob(u):
		return r.endpoint(ctx, a, u, ports)
	case safeHost(ip):
		return ip, ports, nil
	}
	return "", nil, fmt.Errorf("%s has no address yet", object)
}

// nodeAddress is the address of a Kubernetes node that is ready; empty where there
// is none, or no right to ask.
func (r *Resolver) nodeAddress(ctx context.Context, a api) string {
	nodes, err := a.kube.Objects(nodesGVR, "").List(ctx, kube.Selection{Limit: 50})
	if err != nil {
		r.Log.Infof("no node port can be used: %v", err)
		return ""
	}
	for _, node := range nodes {
		conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
		if !hasFields(conditions, "Ready", "status", "True") {
			continue
		}
		addresses, _, _ := unstructured.NestedSlice(node.Object, "status", "addresses")
		for _, kind := range []string{"InternalIP", "ExternalIP"} {
			for _, entry := range addresses {
				fields, _ := entry.(map[string]any)
				address, _ := fields["address"].(string)
				if fields["type"] == kind && safeHost(address) {
					return address
				}
			}
		}
	}
	return ""
}

func hasFields(list []any, kind, field, value string) bool {
	for _, entry := range list {
		fields, _ := entry.(map[string]any)
		if fields["type"] == kind && fields[field] == value {
			return true
		}
	}
	return false
}

// ofAJob reports whether a job's registration made the Service. What it leads to is a host of
// Slurm, which this host reaches without kube-proxy; its cluster IP it may not reach at all.
func ofAJob(u *unstructured.Unstructured) bool {
	_, selects, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	return !selects && u.GetLabels()[job.LabelManagedBy] == job.ManagedBy
}

// endpoint takes an endpoint that is ready, and the numbers of its ports.
func (r *Resolver) endpoint(ctx context.Context, a api, u *unstructured.Unstructured, ports []importPort) (string, []importPort, error) {
	slices, err := a.list(ctx, EndpointSlices, u.GetNamespace(), labels.Set{labelServiceName: u.GetName()}.String())
	if err != nil {
		return "", nil, err
	}
	for _, slice := range slices {
		numbers := map[string]int64{}
		list, _, _ := unstructured.NestedSlice(slice.Object, "ports")
		for _, entry := range list {
			fields, _ := entry.(map[string]any)
			name, _, _ := unstructured.NestedString(fields, "name")
			numbers[name], _, _ = unstructured.NestedInt64(fields, "port")
		}
		endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, entry := range endpoints {
			fields, _ := entry.(map[string]any)
			ready, known, _ := unstructured.NestedBool(fields, "conditions", "ready")
			addresses, _, _ := unstructured.NestedStringSlice(fields, "addresses")
			if known && !ready || len(addresses) == 0 || !safeHost(addresses[0]) {
				continue
			}
			for n := range ports {
				if number := numbers[ports[n].name]; number != 0 {
					ports[n].number = number
				}
			}
			return addresses[0], ports, nil
		}
	}
	return "", nil, fmt.Errorf("%s has no ready endpoint", object(Services, u.GetNamespace(), u.GetName()))
}

// safeHost keeps what somebody wrote into an object out of a job's shell unless it
// is an address or a host name.
func safeHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for part := range strings.SplitSeq(host, ".") {
		if !isLabel(strings.ToLower(part)) {
			return false
		}
	}
	return true
}
