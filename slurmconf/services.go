package slurmconf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Services configures `--k8s-register` and `--k8s-import`.
type Services struct {
	// Kubeconfig is the absolute path of the credential that compute nodes use.
	// Default: /etc/slurm/slurmk8s-node.kubeconfig. Check it with CheckSecretFile.
	Kubeconfig string `toml:"kubeconfig"`
	// Address says which address of a node pods reach: AddressNode (NodeAddr of
	// slurm.conf), "interface:NAME" or "subnet:CIDR". Default: "node".
	Address string `toml:"address"`
	// RunDir is the absolute path of a directory on each node for the marks of
	// jobs that have services. Default: /run/slurmk8s.
	RunDir string `toml:"run_dir"`
	// ReadyTimeout is how long a service may take until its port answers before
	// that is logged, 1s to 24h. Default: 60s.
	ReadyTimeout Duration `toml:"ready_timeout"`
	// ReadyInterval is how often a ready service is probed again; 0s: never, or
	// 1s to 1h. Default: 10s.
	ReadyInterval Duration `toml:"ready_interval"`
	// RenewInterval is how often the job's Lease is renewed, 5s to 10m; it runs
	// out after three of them. Default: 30s.
	RenewInterval Duration `toml:"renew_interval"`
	// ForbiddenPorts are ports of nodes that no rule can allow, as "6443" or
	// "6817-6819". Default: kubelet's, the API server's, etcd's and Slurm's.
	ForbiddenPorts []string `toml:"forbidden_ports"`
	// Impersonate is the Kubernetes user to impersonate for a job's user, such as
	// "slurmk8s:user:{user}": RBAC then applies to what the job publishes. Default: "",
	// only the rules apply.
	Impersonate string `toml:"impersonate"`
	// ImpersonateGroups are groups of that user. Default: none.
	ImpersonateGroups []string `toml:"impersonate_groups"`
	// Allow are the rules. A service is refused unless one of them allows it. Default: none.
	Allow []ServiceRule `toml:"allow"`
}

// Named are the namespaces that the rules name, and do not describe by a pattern.
func (s *Services) Named() []string {
	var patterns []string
	for _, rule := range s.Allow {
		patterns = append(patterns, rule.Namespaces...)
	}
	return withoutPatterns(patterns)
}

// withoutPatterns are the namespaces that are named and not described, each once.
func withoutPatterns(namespaces []string) []string {
	names := slices.DeleteFunc(slices.Clone(namespaces), isPattern)
	slices.Sort(names)
	return slices.Compact(names)
}

// HasPatterns tells whether a rule describes namespaces by a pattern, so that Named does
// not have all.
func (s *Services) HasPatterns() bool {
	return slices.ContainsFunc(s.Allow, func(rule ServiceRule) bool { return slices.ContainsFunc(rule.Namespaces, isPattern) })
}

// Searched are the namespaces that may have services; "" is every one.
func (s *Services) Searched() []string {
	if s.HasPatterns() {
		return []string{""}
	}
	return s.Named()
}

func isPattern(namespace string) bool { return strings.ContainsAny(namespace, "*{") }

// ServiceRule allows some users some services. It needs at least one of Users, Groups and
// Accounts; one match is enough.
type ServiceRule struct {
	Users    []string `toml:"users"`    // user names; "*" is everybody
	Groups   []string `toml:"groups"`   // names of Unix groups
	Accounts []string `toml:"accounts"` // Slurm accounts
	// Namespaces that services may be in; the first without "*" is the default
	// one. "*" stands for any text, "{user}" for the user's name.
	Namespaces []string `toml:"namespaces"`
	// Names that services may have, as Namespaces. Default: any.
	Names []string `toml:"names"`
	// Ports of the node that may be published. Default: 1024-65535.
	Ports []string `toml:"ports"`
	// Expose are the kinds of a Service, ExposeClusterIP and so on. Default:
	// clusterip and headless.
	Expose []string `toml:"expose"`
	// Annotations that a service may have, keys or patterns such as "prometheus.io/*".
	// Default: none, since controllers act on them.
	Annotations []string `toml:"annotations"`
	// MaxServices is how many services one job may have, 1 to 1000. Default: 8.
	MaxServices int `toml:"max_services"`
}

// The values of Services.Address; the last two are followed by a value.
const (
	AddressNode      = "node"
	AddressInterface = "interface:"
	AddressSubnet    = "subnet:"
)

// The values of ServiceRule.Expose. ExposeInternal is a Service that selects
// pods (type=internal).
const (
	ExposeClusterIP    = "clusterip"
	ExposeHeadless     = "headless"
	ExposeNodePort     = "nodeport"
	ExposeLoadBalancer = "loadbalancer"
	ExposeInternal     = "internal"
)

func defaultServices() Services {
	return Services{
		Kubeconfig:     sysconfdir + "/slurmk8s-node.kubeconfig",
		Address:        AddressNode,
		RunDir:         "/run/slurmk8s",
		ReadyTimeout:   Duration(60 * time.Second),
		ReadyInterval:  Duration(10 * time.Second),
		RenewInterval:  Duration(30 * time.Second),
		ForbiddenPorts: []string{"10250", "10255", "6443", "2379", "2380", "6817-6819"},
	}
}

func defaultServiceRule() ServiceRule {
	return ServiceRule{
		Names:       []string{"*"},
		Ports:       []string{"1024-65535"},
		Expose:      []string{ExposeClusterIP, ExposeHeadless},
		Annotations: []string{},
		MaxServices: 8,
	}
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Has tells whether a port is in the range.
func (r PortRange) Has(port uint16) bool { return r.First <= port && port <= r.Last }

// ParsePortRange reads "8888" or "8000-8999".
func ParsePortRange(text string) (PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	lo, loErr := strconv.ParseUint(first, 10, 16)
	hi, hiErr := strconv.ParseUint(last, 10, 16)
	if loErr != nil || hiErr != nil || lo == 0 || hi < lo {
		return PortRange{}, fmt.Errorf("%s is neither a port from 1 to 65535 nor a range such as 8000-8999", quoted(text))
	}
	return PortRange{uint16(lo), uint16(hi)}, nil
}

func (d *document) validateServices(s *Services) error {
	if err := d.checkAddress(s.Address); err != nil {
		return err
	}
	for _, text := range s.ForbiddenPorts {
		if _, err := ParsePortRange(text); err != nil {
			return d.invalid("services.forbidden_ports", "%v", err)
		}
	}
	if s.ReadyInterval != 0 && s.ReadyInterval.Std() < time.Second {
		return d.invalid("services.ready_interval", "%s is out of range, 1s to 1h, or 0s", s.ReadyInterval)
	}
	if err := d.checkImpersonation("services", s.Impersonate, s.ImpersonateGroups); err != nil {
		return err
	}
	for i := range s.Allow {
		if err := d.validateRule(i, &s.Allow[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkImpersonation refuses Kubernetes's own users and groups: system:masters may do
// anything.
func (d *document) checkImpersonation(section, user string, asGroups []string) error {
	key, groups := section+".impersonate", section+".impersonate_groups"
	switch {
	case user == "" && len(asGroups) > 0:
		return d.invalid(groups, "has no effect without %s", key)
	case user == "":
		return nil
	case !strings.Contains(user, "{user}"):
		return d.invalid(key, "%s is the same user for all jobs: write for example \"slurmk8s:user:{user}\"", quoted(user))
	case !isKubernetesUser(strings.ReplaceAll(user, "{user}", "")):
		return d.invalid(key, "%s cannot be a user of Kubernetes", quoted(user))
	case strings.HasPrefix(user, "system:"):
		return d.invalid(key, "%s is one of Kubernetes's own users", quoted(user))
	}
	for _, name := range asGroups {
		if name == "" || !isKubernetesUser(name) {
			return d.invalid(groups, "%s cannot be a group of Kubernetes", quoted(name))
		}
		if strings.HasPrefix(name, "system:") {
			return d.invalid(groups, "%s is one of Kubernetes's own groups", quoted(name))
		}
	}
	return nil
}

func (d *document) checkAddress(address string) error {
	const key = "services.address"
	if name, ok := strings.CutPrefix(address, AddressInterface); ok {
		if !isInterfaceName(name) {
			return d.invalid(key, "%s cannot be the name of a network interface", quoted(name))
		}
		return nil
	}
	if cidr, ok := strings.CutPrefix(address, AddressSubnet); ok {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return d.invalid(key, "%s is not a subnet such as 10.1.0.0/16", quoted(cidr))
		}
		return nil
	}
	if address != AddressNode {
		return d.invalid(key, "%s must be one of %s, %sNAME, %sCIDR", quoted(address), AddressNode, AddressInterface, AddressSubnet)
	}
	return nil
}

func (d *document) validateRule(i int, r *ServiceRule) error {
	wrong := func(key, format string, args ...any) error {
		return d.invalidInRule("services", i, key, format, args...)
	}
	if err := checkSubjects(r.Subjects(), wrong); err != nil {
		return err
	}
	if err := checkPatterns("namespaces", r.Namespaces, wrong); err != nil {
		return err
	}
	if err := checkPatterns("names", r.Names, wrong); err != nil {
		return err
	}
	for _, pattern := range r.Annotations {
		if !isAnnotationPattern(pattern) {
			return wrong("annotations", "%s cannot match the key of an annotation, such as prometheus.io/* or example.org/name", quoted(pattern))
		}
	}
	for _, text := range r.Ports {
		if _, err := ParsePortRange(text); err != nil {
			return wrong("ports", "%v", err)
		}
	}
	kinds := []string{ExposeClusterIP, ExposeHeadless, ExposeNodePort, ExposeLoadBalancer, ExposeInternal}
	for _, kind := range r.Expose {
		if !slices.Contains(kinds, kind) {
			return wrong("expose", "%s must be one of %s", quoted(kind), strings.Join(kinds, ", "))
		}
	}
	if r.MaxServices < 1 || r.MaxServices > 1000 {
		return wrong("max_services", "%d is out of range, 1 to 1000", r.MaxServices)
	}
	return nil
}

// Subjects are whom a rule is for; one match is enough.
type Subjects struct{ Users, Groups, Accounts []string }

// Subjects are whom the rule is for.
func (r ServiceRule) Subjects() Subjects { return Subjects{r.Users, r.Groups, r.Accounts} }

// checkSubjects wants somebody whom a rule is for. wrong is the error about one of its keys.
func checkSubjects(s Subjects, wrong func(key, format string, args ...any) error) error {
	if len(s.Users)+len(s.Groups)+len(s.Accounts) == 0 {
		return wrong("", "applies to nobody: give users, groups or accounts; users = [\"*\"] is everybody")
	}
	for _, list := range []struct {
		key   string
		names []string
		is    func(string) bool
	}{{"users", s.Users, isUserName}, {"groups", s.Groups, isGroupName}, {"accounts", s.Accounts, isUserName}} {
		for _, name := range list.names {
			if !list.is(name) && (list.key != "users" || name != "*") {
				return wrong(list.key, "%s cannot be a name in %s", quoted(name), list.key)
			}
		}
	}
	return nil
}

// checkPatterns checks a list of patterns for Kubernetes names; namespaces must be given.
func checkPatterns(key string, patterns []string, wrong func(key, format string, args ...any) error) error {
	if key == "namespaces" && len(patterns) == 0 {
		return wrong(key, "not set: a rule must name namespaces")
	}
	for _, pattern := range patterns {
		if !isNamePattern(pattern) {
			return wrong(key, "%s cannot match a Kubernetes name: write lower-case letters, digits, \"-\", "+
				"\"*\" and \"{user}\"", quoted(pattern))
		}
	}
	return nil
}

// invalidInRule is invalid for a key of the i-th rule of [[section.allow]].
func (d *document) invalidInRule(section string, i int, key, format string, args ...any) error {
	return d.invalidInList(toml.Key{section, "allow"}, i, key, format, args...)
}

func (d *document) invalidInList(list toml.Key, i int, key, format string, args ...any) error {
	name := fmt.Sprintf("%s[%d]", list, i+1)
	if key != "" {
		name += "." + key
	}
	return &Error{Path: d.path, Line: d.ruleLine(list, i, key), Key: name, Msg: fmt.Sprintf(format, args...)}
}
