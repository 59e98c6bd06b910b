// Package service publishes a Slurm job as Kubernetes Services: what the user may
// write, the objects that come of it, and their life from registered to gone.
package service

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Spec is one service that a job asks for, a part of --k8s-register.
type Spec struct {
	Name      string // with patterns until Expand
	Namespace string // empty: --k8s-namespace, else the first of the user's rule
	App       string // value of the label app of the pods that an internal Service selects
	Ports     []Port
	AllNodes  bool   // every node of the step, else its first
	Array     bool   // so too for every task of the job's array, which share the Service
	Expose    string // slurmconf.ExposeClusterIP and so on; ExposeInternal selects pods
	Ready     Probe
	// ReadyTimeout is how long the service may take; zero: by configuration.
	ReadyTimeout time.Duration
	Endpoints    bool // also the Endpoints object that old clients read
	Labels       map[string]string
	Annotations  map[string]string
}

// Port is a port of a Service. Name is empty only if it is the only one.
type Port struct {
	Name         string
	Port, Target uint16 // of the Service, of the node
	Auto         bool   // the bridge chooses Target on the node, and it is 0 until then
	File         string // the job writes this file, which says Target; it is 0 until then
	UDP          bool   // else TCP
	AppProtocol  string // what clients speak, as "kubernetes.io/h2c"; empty: not told
}

// target is the port of the node as Kubernetes is told. Until a file says it, any number does: no
// endpoint is ready.
func (p Port) target() int64 {
	if p.Target == 0 {
		return int64(p.Port)
	}
	return int64(p.Target)
}

func (p Port) protocol() string {
	if p.UDP {
		return "UDP"
	}
	return "TCP"
}

func (p Port) String() string {
	text := fmt.Sprintf("%d:%d", p.Port, p.Target)
	if p.Auto {
		text = fmt.Sprintf("%d:%s", p.Port, autoTarget)
	}
	if p.File != "" { // whatever it says: programs compare specifications
		text = fmt.Sprintf("%d%s%s", p.Port, fileTarget, p.File)
	}
	if p.Name != "" {
		text = p.Name + ":" + text
	}
	if p.UDP {
		text += "/udp"
	}
	return text
}

// The kinds of a Probe.
const (
	ReadyTCP   = "tcp"   // each probed port takes a connection
	ReadyHTTP  = "http"  // the probed port answers a GET of Path below 400
	ReadyHTTPS = "https" // so too over TLS, whoever signed the certificate
	ReadyFile  = "file"  // the user can open the file Path
	ReadyNone  = "none"  // at once
)

// Probe says when a service is ready.
type Probe struct {
	Kind string
	Port string // name or number of the one port of the Service to ask; empty: Probed tells
	Path string
}

func (p Probe) String() string {
	switch {
	case p.Kind == ReadyFile:
		return p.Kind + ":" + p.Path
	case p.Port+p.Path != "":
		return p.Kind + ":" + p.Port + p.Path
	}
	return p.Kind
}

// Probed are the ports to ask: the one that the probe names; else of tcp all of TCP, since
// an endpoint is ready as a whole, of http and https the first of these.
func (s Spec) Probed() []Port {
	var ports []Port
	for _, p := range s.Ports {
		named := s.Ready.Port == "" || s.Ready.Port == p.Name || s.Ready.Port == strconv.Itoa(int(p.Port))
		if !p.UDP && named {
			ports = append(ports, p)
		}
	}
	if len(ports) > 0 && s.Ready.Kind != ReadyTCP {
		return ports[:1]
	}
	return ports
}

// Internal tells whether the Service selects pods and has no endpoint of ours.
func (s Spec) Internal() bool { return s.Expose == slurmconf.ExposeInternal }

// Headless tells whether the Service has no cluster IP.
func (s Spec) Headless() bool { return s.Expose == slurmconf.ExposeHeadless }

// Object names the Service, "service NAMESPACE/NAME".
func (s Spec) Object() string { return "service " + s.Namespace + "/" + s.Name }

// Host is the name by which pods reach the service.
func (s Spec) Host() string { return s.Name + "." + s.Namespace + ".svc" }

// String is the long form, always the same for the same service.
func (s Spec) String() string {
	parts := []string{"name=" + s.Name}
	for _, p := range s.Ports {
		parts = append(parts, "port="+p.String())
	}
	for _, p := range s.Ports {
		if p.AppProtocol != "" {
			parts = append(parts, "app-protocol="+strings.TrimPrefix(p.Name+":", ":")+p.AppProtocol)
		}
	}
	if s.Namespace != "" {
		parts = append(parts, "ns="+s.Namespace)
	}
	if s.Internal() {
		parts = append(parts, "type=internal", "app="+s.App)
	} else {
		host := "batch"
		switch {
		case s.Array:
			host = "array"
		case s.AllNodes:
			host = "all"
		}
		parts = append(parts, "host="+host, "expose="+s.Expose, "ready="+s.Ready.String())
	}
	if s.ReadyTimeout > 0 {
		parts = append(parts, "ready-timeout="+s.ReadyTimeout.String())
	}
	if s.Endpoints {
		parts = append(parts, "endpoints=both")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		parts = append(parts, "label="+key+"="+s.Labels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		parts = append(parts, "annotation="+key+"="+s.Annotations[key])
	}
	return strings.Join(parts, ",")
}

// Bounds of what a user may write.
const (
	maxTextBytes = 8 << 10
	maxSpecs     = 64
	maxPorts     = 32
	maxLabels    = 16 // and annotations
	maxPathBytes = 1 << 10
	maxReady     = 24 * time.Hour
)

// Parse reads the value of --k8s-register: services separated by ";", each short
// (NAME:PORT[:TARGET]), long (name=N,port=...,...) or "env", which takes Arkouda's
// variables from env. The error is a *job.Refused.
func Parse(text string, env map[string]string) ([]Spec, error) {
	return parse(text, env, false)
}

// ParseEarly is Parse where the variables may be set later, by a batch script for
// its srun: "env" stands for nothing then.
func ParseEarly(text string, env map[string]string) ([]Spec, error) {
	return parse(text, env, true)
}

func parse(text string, env map[string]string, early bool) ([]Spec, error) {
	if text == "" {
		return nil, job.Refusef("--k8s-register: empty: write NAME:PORT, for example jupyter:8888")
	}
	if err := checkText("--k8s-register", text); err != nil {
		return nil, err
	}
	var specs []Spec
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		some, err := parsePart(part, env)
		if early && errors.Is(err, ErrNoVariables) {
			continue
		}
		if err != nil {
			return nil, &job.Refused{Text: fmt.Sprintf("--k8s-register: %s: %v", wire.Quote(part), err), Err: err}
		}
		specs = append(specs, some...)
		if len(specs) > maxSpecs {
			return nil, job.Refusef("--k8s-register: more than %d services", maxSpecs)
		}
	}
	for i, s := range specs {
		if slices.ContainsFunc(specs[:i], func(o Spec) bool { return o.Name == s.Name && o.Namespace == s.Namespace }) {
			return nil, job.Refusef("--k8s-register: the service %s is given twice", s.Name)
		}
	}
	return specs, nil
}

// specsOf reads what AnnotationSpec says; nothing if it cannot be read.
func specsOf(text string) []Spec {
	specs, _ := Parse(text, nil)
	return specs
}

// checkText refuses at once what no part of an option's value has.
func checkText(option, text string) error {
	if len(text) > maxTextBytes {
		return job.Refusef("%s: longer than %d KiB", option, maxTextBytes>>10)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return job.Refusef("%s: %s has an invalid character (byte %d)", option, wire.Quote(text), i+1)
		}
	}
	return nil
}

func parsePart(part string, env map[string]string) ([]Spec, error) {
	word, options, _ := strings.Cut(part, ",")
	var specs []Spec
	var err error
	switch {
	case part == "":
		return nil, fmt.Errorf("empty")
	case word == "env":
		specs, err = parseEnv(env, options)
	case strings.HasPrefix(part, "name=") || strings.Contains(word, "="):
		specs, err = parseLong(part)
	case part == word:
		specs, err = parseShort(part)
	default:
		return nil, fmt.Errorf("options need the long form, such as name=NAME,port=PORT")
	}
	if err != nil {
		return nil, err
	}
	for i := range specs {
		if err := specs[i].complete(); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

func parseShort(part string) ([]Spec, error) {
	name, ports, ok := strings.Cut(part, ":")
	if !ok {
		return nil, fmt.Errorf("no port: write NAME:PORT, for example %s:8888", quoteName(name))
	}
	port, err := parsePort(ports)
	if err == nil && port.Name != "" {
		err = fmt.Errorf("%s is not a port from 1 to 65535", wire.Quote(port.Name))
	}
	if err != nil {
		return nil, err
	}
	return []Spec{{Name: name, Ports: []Port{port}}}, nil
}

// quoteName keeps an example readable when the name is none.
func quoteName(name string) string {
	if checkName(name) != nil {
		return "jupyter"
	}
	return name
}

// autoTarget is a free port of the node, which the job is told in a variable.
const autoTarget = "auto"

// fileTarget goes before the path of a file that says the port.
const fileTarget = ":file:"

// mayBePath tells whether a user may name a file by a text.
func mayBePath(text string) bool {
	return strings.HasPrefix(text, "/") && len(text) <= maxPathBytes && filepath.Clean(text) == text
}

// parsePort reads [NAME:]PORT[:TARGET][/udp].
func parsePort(text string) (Port, error) {
	var p Port
	if port, path, isFile := strings.Cut(text, fileTarget); isFile {
		p, err := parsePort(port + ":" + autoTarget)
		if err == nil && !mayBePath(path) {
			err = fmt.Errorf("%s is not an absolute path without \"..\"", wire.Quote(path))
		}
		p.Auto, p.File = false, path
		return p, err
	}
	numbers, protocol, given := strings.Cut(text, "/")
	if given && protocol != "tcp" && protocol != "udp" {
		return p, fmt.Errorf("%s must end in /tcp or /udp: a port is [NAME:]PORT[:TARGET][/udp]", wire.Quote(text))
	}
	p.UDP = protocol == "udp"
	fields := strings.Split(numbers, ":")
	if len(fields) > 1 && !isNumber(fields[0]) {
		p.Name, fields = fields[0], fields[1:]
	}
	if len(fields) > 2 {
		return p, fmt.Errorf("%s has too many colons: a port is [NAME:]PORT[:TARGET][/udp]", wire.Quote(text))
	}
	var err error
	if p.Port, err = portNumber(fields[0]); err != nil {
		return p, err
	}
	switch {
	case len(fields) == 1:
		p.Target = p.Port
	case fields[1] == autoTarget:
		p.Auto = true
	default:
		p.Target, err = portNumber(fields[1])
	}
	return p, err
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func portNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' || !isNumber(s) {
		return 0, fmt.Errorf("%s is not a port from 1 to 65535", wire.Quote(s))
	}
	return uint16(n), nil
}
