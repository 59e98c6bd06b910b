package service

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// draft is a specification while its fields are read: what was not given is told
// from what was.
type draft struct {
	Spec
	given map[string]bool
	// appProtocols are by the names of their ports; that of "" is for the others.
	appProtocols map[string]string
}

// field sets one field of the long form. A field that may be there once only is
// in given afterwards.
type field struct {
	repeats bool
	set     func(d *draft, value string) error
}

var fields = map[string]field{
	"name": {set: func(d *draft, v string) error { d.Name = v; return nil }},
	"ns":   {set: func(d *draft, v string) error { d.Namespace = v; return CheckNamespace(v) }},
	"app":  {set: func(d *draft, v string) error { d.App = v; return checkLabelValue(v) }},
	"port": {repeats: true, set: func(d *draft, v string) error {
		p, err := parsePort(v)
		d.Ports = append(d.Ports, p)
		return err
	}},
	"app-protocol": {repeats: true, set: func(d *draft, v string) error {
		port, protocol, named := strings.Cut(v, ":")
		if !named {
			port, protocol = "", v
		}
		if !isKey(protocol) {
			return fmt.Errorf("%s is not a protocol such as http or kubernetes.io/h2c", wire.Quote(protocol))
		}
		if _, twice := d.appProtocols[port]; twice {
			return fmt.Errorf("the protocol of a port is given twice")
		}
		if d.appProtocols == nil {
			d.appProtocols = map[string]string{}
		}
		d.appProtocols[port] = protocol
		return nil
	}},
	"type": {set: func(d *draft, v string) error {
		if v == "internal" {
			d.Expose = slurmconf.ExposeInternal
		}
		return oneOf(v, "external", "internal")
	}},
	"host": {set: func(d *draft, v string) error {
		d.Array = v == "array"
		d.AllNodes = v == "all" || d.Array
		return oneOf(v, "batch", "all", "array")
	}},
	"expose": {set: func(d *draft, v string) error {
		d.Expose = v
		return oneOf(v, slurmconf.ExposeClusterIP, slurmconf.ExposeHeadless, slurmconf.ExposeNodePort, slurmconf.ExposeLoadBalancer)
	}},
	"endpoints": {set: func(d *draft, v string) error { d.Endpoints = v == "both"; return oneOf(v, "slice", "both") }},
	"ready":     {set: func(d *draft, v string) (err error) { d.Ready, err = parseProbe(v); return err }},
	"ready-timeout": {set: func(d *draft, v string) (err error) {
		d.ReadyTimeout, err = parseSeconds(v)
		return err
	}},
	"label": {repeats: true, set: func(d *draft, v string) error {
		key, value, err := note(&d.Labels, "label", v)
		if err == nil {
			err = checkLabelKey(key)
		}
		if err == nil {
			err = checkLabelValue(value)
		}
		return err
	}},
	"annotation": {repeats: true, set: func(d *draft, v string) error {
		key, _, err := note(&d.Annotations, "annotation", v)
		if err == nil {
			err = checkAnnotationKey(key)
		}
		return err
	}},
}

// note adds KEY=VALUE to labels or annotations.
func note(to *map[string]string, what, text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return "", "", fmt.Errorf("write %s=KEY=VALUE", what)
	}
	if _, twice := (*to)[key]; twice {
		return "", "", fmt.Errorf("%s %s is given twice", what, wire.Quote(key))
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = value
	return key, value, nil
}

func parseLong(text string) ([]Spec, error) {
	d := draft{given: map[string]bool{}}
	if err := d.read(text); err != nil {
		return nil, err
	}
	for _, key := range []string{"name", "port"} {
		if !d.given[key] {
			return nil, fmt.Errorf("%s= is missing", key)
		}
	}
	if err := d.speak(); err != nil {
		return nil, err
	}
	return []Spec{d.Spec}, nil
}

// speak gives the ports what app-protocol= says.
func (d *draft) speak() error {
	for name, protocol := range d.appProtocols {
		if name != "" && !slices.ContainsFunc(d.Ports, func(p Port) bool { return p.Name == name }) {
			return fmt.Errorf("app-protocol=: no port is named %s", wire.Quote(name))
		}
		for i := range d.Ports {
			if p := &d.Ports[i]; p.Name == name || name == "" && p.AppProtocol == "" {
				p.AppProtocol = protocol
			}
		}
	}
	return nil
}

// read sets the fields of KEY=VALUE,KEY=VALUE.
func (d *draft) read(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("%s is not KEY=VALUE", wire.Quote(part))
		}
		f, known := fields[key]
		if !known {
			return fmt.Errorf("unknown field %s, known are %s", wire.Quote(key), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if d.given[key] && !f.repeats {
			return fmt.Errorf("%s= is given twice", key)
		}
		if key == "expose" && d.given["type"] && d.Internal() || key == "type" && value == "internal" && d.given["expose"] {
			return fmt.Errorf("expose= is only for type=external: an internal service has a cluster IP")
		}
		d.given[key] = true
		if err := f.set(d, value); err != nil {
			return fmt.Errorf("%s=: %w", key, err)
		}
	}
	return nil
}

// complete fills in defaults and checks what no single field can tell.
func (s *Spec) complete() error {
	if err := checkPattern(s.Name); err != nil {
		return err
	}
	if err := s.completePorts(); err != nil {
		return err
	}
	if len(s.Labels) > maxLabels || len(s.Annotations) > maxLabels {
		return fmt.Errorf("more than %d labels or annotations", maxLabels)
	}
	if s.Internal() {
		if s.App == "" {
			return fmt.Errorf("type=internal needs app=, the label of the pods that it selects")
		}
		if s.AllNodes || s.Endpoints || s.Ready.Kind != "" && s.Ready.Kind != ReadyNone {
			return fmt.Errorf("type=internal selects pods: host=, ready= and endpoints= are for type=external")
		}
		if s.auto() {
			return fmt.Errorf("type=internal selects pods: %s and file are ports of the node", autoTarget)
		}
		s.Ready = Probe{Kind: ReadyNone}
		return nil
	}
	if s.App != "" {
		return fmt.Errorf("app= is for type=internal")
	}
	if s.Endpoints && s.AllNodes {
		return fmt.Errorf("endpoints=both cannot be combined with host=all or host=array")
	}
	if s.Array && (s.has("a") || s.has("j")) {
		return fmt.Errorf("host=array is one service for all tasks of the array, and %%a and %%j give each its own: use one of the two")
	}
	if s.Expose == "" {
		s.Expose = slurmconf.ExposeClusterIP
		if s.AllNodes {
			s.Expose = slurmconf.ExposeHeadless
		}
	}
	if s.auto() && s.Headless() {
		return fmt.Errorf("a port that is %s or of a file needs a cluster IP, since pods use the node's own port of a headless service: write expose=clusterip", autoTarget)
	}
	return s.completeProbe()
}

// auto tells whether a port of the node is not the user's to say.
func (s *Spec) auto() bool {
	return slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Auto || p.File != "" })
}

// Unknown are the indexes of the ports whose files nobody has read yet.
func (s *Spec) Unknown() []int {
	var unknown []int
	for i, p := range s.Ports {
		if p.File != "" && p.Target == 0 {
			unknown = append(unknown, i)
		}
	}
	return unknown
}

// completeProbe wants a port of TCP for what is asked of one. Nobody can tell whether a
// port of UDP is served: a service that has no other is ready at once, unless the user says
// when.
func (s *Spec) completeProbe() error {
	if s.Ready.Kind == "" {
		s.Ready.Kind = ReadyTCP
		if len(s.Probed()) == 0 {
			s.Ready.Kind = ReadyNone
		}
	}
	if s.Ready.Kind == ReadyFile || s.Ready.Kind == ReadyNone || len(s.Probed()) > 0 {
		return nil
	}
	if s.Ready.Port != "" {
		return fmt.Errorf("ready=: the service has no TCP port %s", wire.Quote(s.Ready.Port))
	}
	return fmt.Errorf("ready=%s needs a TCP port: write ready=file:/PATH or ready=none", s.Ready.Kind)
}

func (s *Spec) completePorts() error {
	if len(s.Ports) > maxPorts {
		return fmt.Errorf("more than %d ports", maxPorts)
	}
	type number struct {
		port uint16
		udp  bool
	}
	names, numbers := map[string]bool{}, map[number]bool{}
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == "" && len(s.Ports) > 1 { // Kubernetes wants each to have one
			p.Name = "port-" + strconv.Itoa(int(p.Port))
			if p.UDP {
				p.Name = "udp-" + strconv.Itoa(int(p.Port))
			}
		}
		if p.Name != "" && !isLabel(p.Name) {
			return fmt.Errorf("port name %s: %s", wire.Quote(p.Name), dnsRule)
		}
		if numbers[number{p.Port, p.UDP}] || p.Name != "" && names[p.Name] {
			return fmt.Errorf("port %s is given twice", strings.TrimPrefix(fmt.Sprintf("%s:%d", p.Name, p.Port), ":"))
		}
		numbers[number{p.Port, p.UDP}], names[p.Name] = true, true
	}
	return nil
}

func oneOf(value string, choices ...string) error {
	if !slices.Contains(choices, value) {
		return fmt.Errorf("%s must be one of %s", wire.Quote(value), strings.Join(choices, ", "))
	}
	return nil
}

func parseProbe(text string) (Probe, error) {
	kind, rest, has := strings.Cut(text, ":")
	port, _, hasPath := strings.Cut(rest, "/")
	path := rest[len(port):]
	isPort := isLabel(port) // a number is one too
	switch {
	case !has && (kind == ReadyTCP || kind == ReadyNone):
		return Probe{Kind: kind}, nil
	case kind == ReadyTCP && isPort && !hasPath:
		return Probe{Kind: kind, Port: port}, nil
	case (kind == ReadyHTTP || kind == ReadyHTTPS) && hasPath && (port == "" || isPort) && len(path) <= maxPathBytes && !strings.Contains(path, " "):
		return Probe{Kind: kind, Port: port, Path: path}, nil
	case kind == ReadyFile && mayBePath(rest):
		return Probe{Kind: kind, Path: rest}, nil
	case kind == ReadyFile:
		return Probe{}, fmt.Errorf("%s is not an absolute path without \"..\"", wire.Quote(rest))
	}
	return Probe{}, fmt.Errorf("%s must be one of tcp[:PORT], http:[PORT]/PATH, https:[PORT]/PATH, file:/PATH, none", wire.Quote(text))
}

// parseSeconds reads "90", which is seconds, or "90s", "2m".
func parseSeconds(text string) (time.Duration, error) {
	withUnit := text
	if isNumber(text) {
		withUnit += "s"
	}
	d, err := time.ParseDuration(withUnit)
	if err != nil || d < time.Second || d > maxReady {
		return 0, fmt.Errorf("%s is not a time from 1s to 24h", wire.Quote(text))
	}
	return d, nil
}
