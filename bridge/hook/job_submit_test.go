package hook

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// daemon, uid and gid 1, is on every host.
const rulesOfDaemon = `
[services]
[[services.allow]]
users = ["daemon"]
namespaces = ["physics"]
ports = ["8000-8999"]
[[services.allow]]
groups = ["bin"]
accounts = ["p1"]
namespaces = ["biology"]
[[bundles.allow]]
users = ["daemon"]
bundles = ["greeter-*"]
namespaces = ["physics"]
[[bundles.allow]]
groups = ["bin"]
accounts = ["p1"]
bundles = ["argo"]
namespaces = ["biology"]
[nodes]
reclaim = "request"
evict_timeout = "1m"
max_evict_timeout = "1m"
job_policies = ["fail"]
`

func TestASubmissionIsJudgedBySyntaxAndRules(t *testing.T) {
	s := newSite(t, "/nonexistent", rulesOfDaemon)
	for _, tt := range []struct {
		name   string
		fields []string
		want   string // "": accepted
	}{
		{"nothing", nil, ""},
		{"a service", []string{"K8S_REGISTER=a:8888"}, ""},
		{"a port", []string{"K8S_REGISTER=a:22"}, "service a: user daemon may use node ports"},
		{"each value of an option", []string{"K8S_REGISTER=a:8888", "K8S_REGISTER_2=a:22"}, "not 22"},
		{"the last value of an option", []string{"K8S_IMPORT=a", "K8S_IMPORT_4=kube-system/dns"}, "namespace kube-system: user daemon may use physics"},
		{"in each namespace", []string{"K8S_REGISTER=a:8888", "K8S_NAMESPACE=physics", "K8S_NAMESPACE_2=kube-system"}, "namespace kube-system"},
		{"a namespace without a service", []string{"K8S_NAMESPACE=../x"}, `--k8s-namespace: namespace "../x"`},
		{"an empty value", []string{"K8S_REGISTER="}, "--k8s-register: empty"},
		{"an array with a plain name", []string{"K8S_REGISTER=worker:8786", "ARRAY=0-3"},
			"the tasks of --array=0-3 cannot all have the service worker: write %a, the task's index, into the name, such as worker-%a"},
		{"an array with the array's id only", []string{"K8S_REGISTER=b:8001;w-%A:8786", "ARRAY=1,5"}, "cannot all have the service b"},
		{"an array with the task's index", []string{"K8S_REGISTER=worker-%a:8786", "ARRAY=0-3"}, ""},
		{"an array that runs one task after the other", []string{"K8S_REGISTER=worker:8786", "ARRAY=0-3%1"}, ""},
		{"a task's index without an array", []string{"K8S_REGISTER=worker-%a:8786"}, "the job is not in an array"},
		{"a name of the user and the job", []string{"K8S_REGISTER=%u-%j:8786"}, ""},
		{"an unknown pattern", []string{"K8S_REGISTER=worker-%N:8786"}, `name "worker-%N": the patterns in a name are %a, %A, %j and %u`},
		{"variables that the script may set", []string{"K8S_REGISTER=env"}, ""},
		{"what nodes are asked for", []string{"K8S_NODES=reclaim", "K8S_EVICT_TIMEOUT=30:fail", "K8S_EVICT_GRACE=30"}, ""},
		{"an unknown wish about nodes", []string{"K8S_NODES=mine"}, "--k8s-nodes=mine"},
		{"too long a wait for pods", []string{"K8S_EVICT_TIMEOUT=61"}, "--k8s-evict-timeout=61"},
		{"a bundle", []string{"K8S_BUNDLE=greeter-a,ns=physics"}, ""},
		{"a bundle of others", []string{"K8S_BUNDLE=argo"}, "bundle argo: user daemon may use greeter-*"},
		{"a bundle of an account", []string{"K8S_BUNDLE=argo", "ACCOUNT=P1"}, ""},
		{"a bundle of an account that is not known", []string{"K8S_BUNDLE=argo"}, ""},
		{"a bundle's namespace", []string{"K8S_BUNDLE=greeter-a,ns=biology"}, "bundle greeter-a: namespace biology: user daemon may use physics"},
		{"a bundle of another user", []string{"K8S_BUNDLE=argo", "UID=3", "GID=3"}, "user sys may not have bundles"},
		{"another user", []string{"K8S_REGISTER=a:8888", "UID=2", "GID=1"}, "user bin may not have services"},
		{"a group", []string{"K8S_REGISTER=name=a,port=8888,ns=biology", "UID=2", "GID=2"}, ""},
		{"an account", []string{"K8S_REGISTER=name=a,port=8888,ns=biology", "UID=1", "GID=1", "ACCOUNT=P1"}, ""},
		{"another account", []string{"K8S_REGISTER=name=a,port=8888,ns=biology", "UID=1", "GID=1", "ACCOUNT=p2"}, "namespace biology"},
		{"an account that is not known", []string{"K8S_REGISTER=name=a,port=8888,ns=biology", "UID=1", "GID=1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fields := wire.Fields{wire.KeyConfig: s.config, wire.KeyUID: "1", wire.KeyGID: "1", wire.KeyAccount: "none"}
			for _, field := range tt.fields {
				key, value, _ := strings.Cut(field, "=")
				fields[key] = value
			}
			if strings.HasSuffix(tt.name, "not known") {
				delete(fields, wire.KeyAccount)
			}
			code, reply := Run(t.Context(), "k8s_submit", fields)
			if tt.want == "" {
				assert.Equal(t, wire.OK, code, reply[wire.KeyMessage])
				assert.Empty(t, reply[wire.KeyMessage])
				return
			}
			assert.Equal(t, wire.Refused, code)
			assert.Contains(t, reply[wire.KeyMessage], tt.want)
			oneLine(t, reply[wire.KeyMessage])
		})
	}
}

func TestASubmissionOfWhichTheRulesAreNotKnownIsJudgedBySyntaxOnly(t *testing.T) {
	s := newSite(t, "/nonexistent", rulesOfDaemon)
	for name, fields := range map[string]wire.Fields{
		"no configuration":     {wire.KeyConfig: "/nonexistent/slurmk8s.toml", wire.KeyUID: "1", wire.KeyGID: "1"},
		"a mistake in it":      {wire.KeyConfig: s.write("bad.toml", "x = 1\n"), wire.KeyUID: "1", wire.KeyGID: "1"},
		"a uid without a name": {wire.KeyConfig: s.config, wire.KeyUID: "4294967294", wire.KeyGID: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			fields[wire.KeyRegister] = "a:22"
			code, reply := Run(t.Context(), "k8s_submit", fields)
			assert.Equal(t, wire.OK, code)
			assert.True(t, strings.HasPrefix(reply[wire.KeyMessage], "checked on the node only: "), reply[wire.KeyMessage])
			fields[wire.KeyRegister] = "a"
			code, reply = Run(t.Context(), "k8s_submit", fields)
			assert.Equal(t, wire.Refused, code)
			assert.Contains(t, reply[wire.KeyMessage], "no port")
		})
	}
}

func TestASubmissionNamesItsUser(t *testing.T) {
	s := newSite(t, "/nonexistent", rulesOfDaemon)
	code, reply := Run(t.Context(), "k8s_submit", wire.Fields{wire.KeyConfig: s.config, wire.KeyRegister: "a:22"})
	assert.Equal(t, wire.Failed, code)
	assert.Contains(t, reply[wire.KeyMessage], "without UID")
}

func TestNodesOfAPartitionMayBeAskedForBeforeThePartitionIsKnown(t *testing.T) {
	s := newSite(t, "/nonexistent", "[nodes]\nreclaim = \"none\"\nreclaim_partitions = [\"shared\"]\n")
	fields := wire.Fields{wire.KeyConfig: s.config, wire.KeyUID: "1", wire.KeyGID: "1", wire.KeyNodesOption: "reclaim"}
	code, reply := Run(t.Context(), "k8s_submit", fields)
	assert.Equal(t, wire.OK, code, reply[wire.KeyMessage])
}
