package service

import (
	"maps"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Labels and annotations of services, besides those of every object of a job.
const (
	// LabelNode is the node that an EndpointSlice is for, in Slurm's words.
	LabelNode = "slurmk8s.io/node"
	// AnnotationStep is the step that made the object, as "batch" or "0".
	AnnotationStep = "slurmk8s.io/step"
	// AnnotationNode is the node that made the Service.
	AnnotationNode = "slurmk8s.io/node"
	// AnnotationSpec is what the user asked for; two steps of a job that ask for
	// the same have one service.
	AnnotationSpec = "slurmk8s.io/spec"

	labelServiceName = "kubernetes.io/service-name"
	labelSliceWriter = "endpointslice.kubernetes.io/managed-by"
	labelSkipMirror  = "endpointslice.kubernetes.io/skip-mirror"
	labelHeadless    = "service.kubernetes.io/headless"
	sliceWriter      = "slurmk8s.io"
)

// The resources that the bridge writes for services.
var (
	Services       = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	EndpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	Endpoints      = schema.GroupVersionResource{Version: "v1", Resource: "endpoints"}
)

// Condition is where in its life an endpoint is.
type Condition int

// The conditions of an endpoint. The first two alternate, the last one is for good.
const (
	NotReady    Condition = iota // registered, nothing answers yet
	Ready                        // traffic may come
	Terminating                  // the job ends: what is open may finish
)

func (c Condition) String() string { return [...]string{"not ready", "ready", "terminating"}[c] }

// maker is who makes objects: one step of a job on one node.
type maker struct {
	job     job.Job
	step    string
	node    string
	address netip.Addr
	second  netip.Addr // of the other family; not valid: none
	array   uint32     // that the job is a task of; 0: none
	task    uint32     // its index there
}

func (m maker) metadata(name, namespace string, owner map[string]any) map[string]any {
	annotations := m.job.Annotations()
	annotations[AnnotationStep] = m.step
	return map[string]any{
		"name":            name,
		"namespace":       namespace,
		"labels":          m.job.Labels(),
		"annotations":     annotations,
		"ownerReferences": []any{owner},
	}
}

// service is the Service of a specification. Nothing but type=internal has a
// selector, and externalIPs are never set.
func (m maker) service(s Spec, owner map[string]any) *unstructured.Unstructured {
	metadata := m.sharer(s).metadata(s.Name, s.Namespace, owner)
	labels := metadata["labels"].(map[string]any)
	m.ofArray(s, labels)
	for key, value := range s.Labels {
		labels[key] = value
	}
	annotations := metadata["annotations"].(map[string]any)
	for key, value := range s.Annotations {
		annotations[key] = value
	}
	annotations[AnnotationNode] = m.node
	annotations[AnnotationSpec] = s.String()

	spec := map[string]any{"type": serviceType[s.Expose], "ports": servicePorts(s.Ports)}
	switch s.Expose {
	case slurmconf.ExposeHeadless:
		spec["clusterIP"] = "None"
	case slurmconf.ExposeInternal:
		spec["selector"] = map[string]any{"app": s.App}
	}
	m.family(s, spec)
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec,
	}}
}

var serviceType = map[string]string{
	slurmconf.ExposeClusterIP:    "ClusterIP",
	slurmconf.ExposeHeadless:     "ClusterIP",
	slurmconf.ExposeInternal:     "ClusterIP",
	slurmconf.ExposeNodePort:     "NodePort",
	slurmconf.ExposeLoadBalancer: "LoadBalancer",
}

func servicePorts(ports []Port) []any {
	list := make([]any, len(ports))
	for i, p := range ports {
		port := map[string]any{"port": int64(p.Port), "targetPort": p.target()}
		if p.Name != "" {
			port["name"] = p.Name
		}
		list[i] = p.withProtocol(port)
	}
	return list
}

// endpointPorts are the ports of the node. The names equal the Service's, or
// kube-proxy sends nothing.
func endpointPorts(ports []Port) []any {
	list := make([]any, len(ports))
	for i, p := range ports {
		port := map[string]any{"name": p.Name, "port": p.target()}
		list[i] = p.withProtocol(port)
	}
	return list
}

// withProtocol adds what the port speaks to its form in a Service or EndpointSlice.
func (p Port) withProtocol(port map[string]any) map[string]any {
	port["protocol"] = p.protocol()
	if p.AppProtocol != "" {
		port["appProtocol"] = p.AppProtocol
	}
	return port
}

// slice is the EndpointSlice of the maker's node for one of its addresses: one writer each,
// since a slice is written as a whole. It has no nodeName, which would name a Kubernetes node.
func (m maker) slice(s Spec, a netip.Addr, owner map[string]any, c Condition) *unstructured.Unstructured {
	metadata := m.metadata(m.sliceName(s, a), s.Namespace, owner)
	labels := map[string]any{
		labelServiceName: s.Name,
		labelSliceWriter: sliceWriter,
		LabelNode:        nodeLabel(m.node),
	}
	maps.Copy(labels, m.job.Labels())
	m.ofArray(s, labels)
	endpoint := map[string]any{
		"addresses": []any{a.String()},
		"conditions": map[string]any{
			"ready": c == Ready, "serving": c != NotReady, "terminating": c == Terminating,
		},
	}
	if s.Headless() {
		labels[labelHeadless] = ""
		name := hostName(m.node)
		if s.Array {
			name = m.taskHost(s)
		}
		if name != "" {
			endpoint["hostname"] = name // DNS: <hostname>.<service>.<namespace>.svc
		}
	}
	metadata["labels"] = labels
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
		"addressType": familyOf(a),
		"endpoints":   []any{endpoint},
		"ports":       endpointPorts(s.Ports),
	}}
}

func (m maker) sliceName(s Spec, a netip.Addr) string {
	name := sliceName(s.Name, m.job.Cluster, m.job.ID, m.node)
	if a == m.second {
		name += "." + strings.ToLower(familyOf(a))
	}
	return name
}

// endpoints is the old form of the slice, for clients that read no slices. The
// label keeps Kubernetes from making a second slice of it.
func (m maker) endpoints(s Spec, a netip.Addr, owner map[string]any, c Condition) *unstructured.Unstructured {
	metadata := m.metadata(s.Name, s.Namespace, owner)
	labels := metadata["labels"].(map[string]any)
	labels[labelSkipMirror] = "true"
	labels[LabelNode] = nodeLabel(m.node)
	addresses := "notReadyAddresses"
	if c == Ready {
		addresses = "addresses"
	}
	ports := make([]any, len(s.Ports))
	for i, p := range servicePorts(s.Ports) {
		port := p.(map[string]any)
		delete(port, "targetPort")
		port["port"] = s.Ports[i].target()
		ports[i] = port
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
		"subsets": []any{map[string]any{
			addresses: []any{map[string]any{"ip": a.String()}},
			"ports":   ports,
		}},
	}}
}

// kindOf says of what kind a Service is that the bridge made; another kind cannot
// be made of it in place.
func kindOf(u *unstructured.Unstructured) string {
	text := func(field string) string {
		v, _, _ := unstructured.NestedString(u.Object, "spec", field)
		return v
	}
	selector, _, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	kind := text("type")
	switch {
	case len(selector) > 0:
		kind += " with selector"
	case strings.EqualFold(text("clusterIP"), "None"):
		kind += " headless"
	}
	return kind
}
