package policy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func rule(change func(*slurmconf.ServiceRule)) slurmconf.ServiceRule {
	r := slurmconf.ServiceRule{Namespaces: []string{"physics"}, Names: []string{"*"}, Ports: []string{"1024-65535"},
		Expose: []string{"clusterip", "headless"}, MaxServices: 2}
	change(&r)
	return r
}

func services(rules ...slurmconf.ServiceRule) *slurmconf.Services {
	s := slurmconf.Default().Services
	s.Allow = rules
	return &s
}

func TestAdmit(t *testing.T) {
	alice := rule(func(r *slurmconf.ServiceRule) { r.Users = []string{"alice"} })
	open := rule(func(r *slurmconf.ServiceRule) {
		r.Users, r.Namespaces, r.Names = []string{"*"}, []string{"user-{user}", "shared-*"}, []string{"{user}-*", "{user}"}
	})
	own := rule(func(r *slurmconf.ServiceRule) {
		r.Users, r.Namespaces = []string{"*"}, []string{"user-{user}"}
	})
	edge := rule(func(r *slurmconf.ServiceRule) {
		r.Users, r.Namespaces, r.Ports, r.Expose = []string{"alice"}, []string{"edge"}, []string{"80", "10000-11000"}, []string{"loadbalancer", "internal"}
	})
	scraped := alice
	scraped.Annotations = []string{"prometheus.io/*"}
	tests := []struct {
		name, user, text, namespace string
		others                      []string
		rules                       []slurmconf.ServiceRule
		want                        string // NAMESPACE/NAME, or what the refusal says
	}{
		{"nothing is open", "alice", "a:8888", "", nil, nil, "services are not enabled on this cluster"},
		{"no rule for the user", "bob", "a:8888", "", nil, []slurmconf.ServiceRule{alice}, "user bob may not have services"},
		{"the first namespace", "alice", "a:8888", "", nil, []slurmconf.ServiceRule{alice}, "physics/a"},
		{"asked by --k8s-namespace", "alice", "alice-a:8888", "user-alice", nil, []slurmconf.ServiceRule{alice, open}, "user-alice/alice-a"},
		{"asked by ns=", "alice", "name=alice,port=8888,ns=shared-x", "physics", nil, []slurmconf.ServiceRule{alice, open}, "shared-x/alice"},
		{"another user's namespace", "alice", "name=alice,port=8888,ns=user-bob", "", nil, []slurmconf.ServiceRule{alice, open},
			"service alice: namespace user-bob: user alice may use physics, user-alice, shared-*"},
		{"kube-system", "alice", "name=a,port=8888,ns=kube-system", "", nil, []slurmconf.ServiceRule{alice}, "namespace kube-system: user alice may use physics"},
		{"another user's name", "alice", "name=bob-a,port=8888,ns=shared-x", "", nil, []slurmconf.ServiceRule{open},
			"user alice may use the names alice-*, alice in namespace shared-x"},
		{"a star in the user's name is no pattern", "a*", "name=abc,port=8888,ns=shared-x", "", nil, []slurmconf.ServiceRule{open}, "user a* may use the names a-a4a87d31-*"},
		{"a user of a directory, by default", "j.doe", "j-doe-d50cd4b1:8888", "", nil, []slurmconf.ServiceRule{own}, "user-j-doe-d50cd4b1/j-doe-d50cd4b1"},
		{"a user of a domain who asks for a namespace", `CORP\jdoe`, "name=jup,port=8888,ns=jdoe", "", nil, []slurmconf.ServiceRule{own},
			`user CORP\jdoe may use user-corp-jdoe-f00e1404 (corp-jdoe-f00e1404 stands for CORP\jdoe: a Kubernetes name cannot have "C")`},
		{"a user called as another one's label", "j-doe-d50cd4b1", "name=jup,port=8888,ns=user-j-doe-d50cd4b1", "", nil, []slurmconf.ServiceRule{own}, "may use user-j-doe-d50cd4b1-"},
		{"a low port of the node", "alice", "a:80:22", "", nil, []slurmconf.ServiceRule{alice}, "user alice may use node ports 1024-65535, not 22"},
		{"a low port of the Service only", "alice", "a:80:8080", "", nil, []slurmconf.ServiceRule{alice}, "physics/a"},
		{"kubelet", "alice", "a:80:10250", "", nil, []slurmconf.ServiceRule{alice}, "no job may publish node port 10250"},
		{"kubelet where a rule has it", "alice", "name=a,port=10250,ns=edge,expose=loadbalancer", "", nil, []slurmconf.ServiceRule{edge}, "no job may publish node port"},
		{"slurmd", "alice", "a:6818", "", nil, []slurmconf.ServiceRule{alice}, "no job may publish node port"},
		{"the second port of a service", "alice", "name=a,port=8000,port=6443", "", nil, []slurmconf.ServiceRule{alice}, "no job may publish node port 6443"},
		{"node port", "alice", "name=a,port=8000,expose=nodeport", "", nil, []slurmconf.ServiceRule{alice}, "user alice may not use expose=nodeport in namespace physics, only clusterip, headless"},
		{"load balancer in one namespace", "alice", "name=a,port=80,ns=edge,expose=loadbalancer", "", nil, []slurmconf.ServiceRule{alice, edge}, "edge/a"},
		{"internal has no port of a node", "alice", "name=a,port=1,ns=edge,type=internal,app=x", "", nil, []slurmconf.ServiceRule{edge}, "edge/a"},
		{"internal that no rule has", "alice", "name=a,port=1,type=internal,app=x", "", nil, []slurmconf.ServiceRule{alice}, "may not use type=internal"},
		{"an annotation that no rule has", "alice", "name=a,port=8888,annotation=prometheus.io/scrape=true", "", nil, []slurmconf.ServiceRule{alice}, "user alice may not annotate services in namespace physics"},
		{"an annotation by a pattern", "alice", "name=a,port=8888,annotation=prometheus.io/scrape=true", "", nil, []slurmconf.ServiceRule{scraped}, "physics/a"},
		{"another annotation", "alice", "name=a,port=8888,annotation=prometheus.io/port=1,annotation=metallb.io/ip=10.0.0.1", "", nil, []slurmconf.ServiceRule{scraped},
			"user alice may use the annotations prometheus.io/* in namespace physics, not metallb.io/ip"},
		{"annotations of internal services too", "alice", "name=a,port=1,ns=edge,type=internal,app=x,annotation=b=c", "", nil, []slurmconf.ServiceRule{edge}, "may not annotate services"},
		{"a name that is not known yet may fit", "alice", "name=alice-%j,port=8888,ns=shared-x", "", nil, []slurmconf.ServiceRule{open}, "shared-x/alice-%j"},
		{"the user's name is known already", "alice", "name=%u-%a,port=8888,ns=shared-x", "", nil, []slurmconf.ServiceRule{open}, "shared-x/%u-%a"},
		{"a name that can never fit", "alice", "name=bob-%j,port=8888,ns=shared-x", "", nil, []slurmconf.ServiceRule{open}, "user alice may use the names alice-*, alice in"},
		{"as many as allowed", "alice", "a:8888;b:8889", "", nil, []slurmconf.ServiceRule{alice}, "physics/a"},
		{"the same again", "alice", "a:8888;b:8889", "", []string{"physics/a", "physics/b"}, []slurmconf.ServiceRule{alice}, "physics/a"},
		{"one too many", "alice", "a:8888;b:8889", "", []string{"physics/c"}, []slurmconf.ServiceRule{alice}, "a job of user alice may have 2 services, not 3"},
		{"twice, once by default", "alice", "a:8888;name=a,port=8889,ns=physics", "", nil, []slurmconf.ServiceRule{alice}, "service physics/a is given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			specs, err := service.Parse(tt.text, nil)
			require.NoError(t, err)
			p, err := For(t.Context(), services(tt.rules...), &Subject{User: tt.user})
			require.NoError(t, err)
			admitted, err := p.Admit(specs, tt.namespace)
			if err == nil {
				err = p.Count(admitted, tt.others)
			}
			if strings.Contains(tt.want, "/") && !strings.Contains(tt.want, " ") {
				require.NoError(t, err)
				assert.Equal(t, tt.want, admitted[0].Namespace+"/"+admitted[0].Name)
				return
			}
			var wrong *job.Refused
			require.ErrorAs(t, err, &wrong)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAPortThatTheBridgeChoosesIsOneThatTheUserMayUse(t *testing.T) {
	narrow := rule(func(r *slurmconf.ServiceRule) { r.Users, r.Ports = []string{"alice"}, []string{"9000-9010"} })
	cfg := services(narrow)
	cfg.ForbiddenPorts = []string{"9005"}
	p, err := For(t.Context(), cfg, &Subject{User: "alice"})
	require.NoError(t, err)
	specs, err := service.Parse("a:80:auto", nil)
	require.NoError(t, err)
	specs, err = p.Admit(specs, "")
	require.NoError(t, err, "before it is chosen")
	for port, want := range map[uint16]bool{9000: true, 9005: false, 9011: false, 20000: false} {
		assert.Equal(t, want, p.MayUse(specs[0], port), port)
	}
	assert.Zero(t, specs[0].Ports[0].Target)
}

func TestWhomARuleIsFor(t *testing.T) {
	asked := 0
	account := func(context.Context) (string, error) { asked++; return "p1", nil }
	group := rule(func(r *slurmconf.ServiceRule) { r.Groups = []string{"no-such-group", "daemon"} }) // gid 1 everywhere
	accounts := rule(func(r *slurmconf.ServiceRule) { r.Accounts = []string{"p1", "p2"} })
	tests := []struct {
		name string
		who  Subject
		rule slurmconf.ServiceRule
		want bool
	}{
		{"primary group", Subject{User: "u", GID: 1}, group, true},
		{"supplementary group", Subject{User: "u", GID: 100, Groups: []uint32{5, 1}}, group, true},
		{"no group", Subject{User: "u", GID: 100}, group, false},
		{"account", Subject{User: "u", GID: 100, Account: account}, accounts, true},
		{"account at the prompt", Subject{User: "u", Lenient: true}, accounts, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := For(t.Context(), services(tt.rule, tt.rule), &tt.who)
			require.NoError(t, err)
			assert.Equal(t, tt.want, len(p.rules) == 2)
		})
	}
	assert.Equal(t, 1, asked, "Slurm is asked once, and only for a rule that needs it")

	failing := &Subject{User: "u", Account: func(context.Context) (string, error) { return "", errors.New("no answer in time") }}
	_, err := For(t.Context(), services(accounts), failing)
	require.EqualError(t, err, "account of the job: no answer in time")
	_, err = For(t.Context(), services(accounts), &Subject{User: "u"})
	require.Error(t, err, "what is not known is not allowed")
}

// At the prompt the account is not known, and so not which rule is the user's first.
func TestADefaultNamespaceThatIsNotKnownRefusesNothing(t *testing.T) {
	account := rule(func(r *slurmconf.ServiceRule) {
		r.Accounts, r.Namespaces, r.Names = []string{"p1"}, []string{"p1"}, []string{"p1-*"}
	})
	alice := rule(func(r *slurmconf.ServiceRule) { r.Users = []string{"alice"} })
	admit := func(who Subject, text string) error {
		p, err := For(t.Context(), services(account, alice), &who)
		require.NoError(t, err)
		specs, err := service.Parse(text, nil)
		require.NoError(t, err)
		_, err = p.Admit(specs, "")
		_, imported := p.Namespace("", "")
		require.NoError(t, imported)
		return err
	}
	require.NoError(t, admit(Subject{User: "alice", Lenient: true}, "a:8888"), "in physics, if alice is not of p1")
	require.Error(t, admit(Subject{User: "alice", Lenient: true}, "name=a,port=8888,ns=p1"))
	require.Error(t, admit(Subject{User: "alice", Lenient: true}, "a:8001;b:8002;c:8003"), "that is too many anywhere")
	known := func(context.Context) (string, error) { return "p1", nil }
	require.Error(t, admit(Subject{User: "alice", Account: known}, "a:8888"), "in p1")
}
