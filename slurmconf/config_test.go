package slurmconf

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writeConfig makes a directory with a slurm.conf and a slurmk8s.toml that points
// to it, and returns the path of the latter.
func writeConfig(t testing.TB, text string) string {
	t.Helper()
	dir := t.TempDir()
	slurm := filepath.Join(dir, "slurm.conf")
	require.NoError(t, os.WriteFile(slurm, []byte("ClusterName=Alps\n"), 0o644))
	path := filepath.Join(dir, "slurmk8s.toml")
	text = strings.ReplaceAll(text, "SLURM_CONF", slurm)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

const withSlurmConf = "slurm_conf = 'SLURM_CONF'\n"

func TestLoadFillsInDefaults(t *testing.T) {
	c, err := Load(writeConfig(t, withSlurmConf))
	require.NoError(t, err)
	want := Default()
	want.SlurmConf = c.SlurmConf
	want.Cluster = "alps"
	want.Workflows.Directive = "DW"
	assert.Equal(t, want, c)
}

func TestLoadReadsEveryKey(t *testing.T) {
	c, err := Load(writeConfig(t, `
cluster = "c1"
slurm_conf = "/a/slurm.conf"
slurm_bin_dir = "/a/bin"
state_dir = "/a/state"
kubernetes = { kubeconfig = "/a/kubeconfig", request_timeout = "100ms" }
[log]
level = "debug"
file = "/a/log"
[workflows]
namespace = "ns"
directive = "BB_LUA"
submit = "create"
on_unreachable = "refuse"
breaker = "0s"
busy_wait = "1m30s"
transient_grace = "24h"
max_requeues = 0
health = "feature"
node_feature = "rabbit"
data_out_timeout_action = "teardown"
compute_names = "hostname"
unmount_timeout = "18s"
rabbit_feature = "on-{rabbit}"
placement = "storage-first"
pool = "rabbits"
token = "job"
operators = ["alice", "bob@site"]
timeouts.proposal = "1s"
timeouts.setup = "2s"
timeouts.data_in = "3s"
timeouts.pre_run = "4s"
timeouts.post_run = "5s"
timeouts.data_out = "6s"
timeouts.teardown = "576h"
[[workflows.allow]]
users = ["*"]
groups = ["g"]
accounts = ["p1"]
directives = ["jobdw"]
profiles = ["small-*"]
max = ["xfs=1TiB"]
[[workflows.allow]]
groups = ["g"]
[[workflows.presets]]
name = "small"
directives = ["#DW jobdw type=xfs capacity=1GiB name=a"]
[services]
kubeconfig = "/a/node"
address = "subnet:10.0.0.0/8"
run_dir = "/a/run"
ready_timeout = "3s"
ready_interval = "7s"
renew_interval = "6s"
forbidden_ports = []
impersonate = "slurm:{user}"
impersonate_groups = ["slurm"]
[[services.allow]]
users = ["*"]
namespaces = ["user-{user}"]
[[services.allow]]
users = ["alice"]
groups = ["domain users", "CORP\\team one"]
accounts = ["p1"]
namespaces = ["a", "b-*"]
names = ["{user}-*"]
ports = ["80", "8000-8999"]
expose = ["loadbalancer"]
annotations = ["prometheus.io/*", "team"]
max_services = 3
[bundles]
dirs = ["/a/bundles"]
kubeconfig = "/a/maker"
max_timeout = "18s"
max_bundles = 2
[[bundles.allow]]
users = ["*"]
groups = ["g"]
accounts = ["p1"]
bundles = ["arkouda-*"]
namespaces = ["a"]

[nodes]
reclaim = "request"
reclaim_partitions = ["hpc"]
reclaim_features = ["big"]
kubeconfig = "/a/nodes"
node_name = "suffix:.example.org"
block = "both"
taint = "example.org/slurm=job"
lend_taint = "example.org/lent"
evict_grace = "11s"
min_evict_grace = "10s"
max_evict_grace = "12s"
evict_timeout = "13s"
max_evict_timeout = "14s"
evict_policy = "delete"
job_policies = ["delete"]
daemonsets = "evict"
tolerating = "fail"
unmanaged = "evict"
emptydir = "keep"
settle = "0s"
api_timeout = "15s"
on_error = "proceed"
kubelet = "stop"
units = ["kubelet.service"]
units_timeout = "16s"
dbus_socket = "/a/bus"
parallel = 3
mirror = "both"
mirror_max_nodes = "5"
mirror_after = "19s"
mirror_conditions = ["KernelDeadlock"]
[reconcile]
max_removals = 7
min_age = "17s"
`))
	require.NoError(t, err)
	s := func(n int) Duration { return Duration(time.Duration(n) * time.Second) }
	assert.Equal(t, &Config{
		Cluster: "c1", SlurmConf: "/a/slurm.conf", SlurmBinDir: "/a/bin", StateDir: "/a/state",
		Kubernetes: Kubernetes{Kubeconfig: "/a/kubeconfig", RequestTimeout: Duration(100 * time.Millisecond)},
		Log:        Log{Level: "debug", File: "/a/log"},
		Workflows: Workflows{
			Namespace: "ns", Directive: "BB_LUA", Submit: "create",
			OnUnreachable: "refuse", Breaker: 0, BusyWait: s(90), TransientGrace: s(86400), Health: "feature", NodeFeature: "rabbit", DataOutTimeoutAction: "teardown", ComputeNames: "hostname", UnmountTimeout: s(18), RabbitFeature: "on-{rabbit}", Placement: "storage-first", Pool: "rabbits", Token: "job",
			Operators: []string{"alice", "bob@site"},
			Timeouts: Timeouts{Proposal: s(1), Setup: s(2), DataIn: s(3), PreRun: s(4), PostRun: s(5), DataOut: s(6),
				Teardown: s(2073600)},
			Allow: []StorageRule{
				{Users: []string{"*"}, Groups: []string{"g"}, Accounts: []string{"p1"}, Directives: []string{"jobdw"}, Profiles: []string{"small-*"}, Max: []string{"xfs=1TiB"}},
				{Groups: []string{"g"}, Directives: []string{"jobdw", "persistentdw", "destroy_persistent", "copy_in", "copy_out", "container"}, Profiles: []string{"*"}},
			},
			Presets: []Preset{{"small", []string{"#DW jobdw type=xfs capacity=1GiB name=a"}}},
		},
		Bundles: Bundles{
			Dirs: []string{"/a/bundles"}, Kubeconfig: "/a/maker", MaxTimeout: s(18), MaxBundles: 2,
			Allow: []BundleRule{{Users: []string{"*"}, Groups: []string{"g"}, Accounts: []string{"p1"}, Bundles: []string{"arkouda-*"}, Namespaces: []string{"a"}}},
		},
		Services: Services{
			Kubeconfig: "/a/node", Address: "subnet:10.0.0.0/8", RunDir: "/a/run",
			ReadyTimeout: s(3), ReadyInterval: s(7), RenewInterval: s(6), ForbiddenPorts: []string{},
			Impersonate: "slurm:{user}", ImpersonateGroups: []string{"slurm"},
			Allow: []ServiceRule{
				{Users: []string{"*"}, Namespaces: []string{"user-{user}"}, Names: []string{"*"},
					Ports: []string{"1024-65535"}, Expose: []string{"clusterip", "headless"}, Annotations: []string{}, MaxServices: 8},
				{Users: []string{"alice"}, Groups: []string{"domain users", `CORP\team one`}, Accounts: []string{"p1"},
					Namespaces: []string{"a", "b-*"}, Names: []string{"{user}-*"},
					Ports: []string{"80", "8000-8999"}, Expose: []string{"loadbalancer"}, Annotations: []string{"prometheus.io/*", "team"}, MaxServices: 3},
			},
		},
		Nodes: NodeSettings{
			Reclaim: "request", ReclaimPartitions: []string{"hpc"}, ReclaimFeatures: []string{"big"},
			Kubeconfig: "/a/nodes", NodeName: "suffix:.example.org",
			Block: "both", Taint: "example.org/slurm=job", LendTaint: "example.org/lent",
			EvictGrace: s(11), MinEvictGrace: s(10), MaxEvictGrace: s(12), EvictTimeout: s(13), MaxEvictTimeout: s(14),
			EvictPolicy: "delete", JobPolicies: []string{"delete"},
			DaemonSets: "evict", Tolerating: "fail", Unmanaged: "evict", EmptyDir: "keep",
			Settle: 0, APITimeout: s(15), OnError: "proceed",
			Kubelet: "stop", Units: []string{"kubelet.service"}, UnitsTimeout: s(16), DBusSocket: "/a/bus", Parallel: 3,
			Mirror: "both", MirrorMaxNodes: "5", MirrorAfter: s(19), MirrorConditions: []string{"KernelDeadlock"},
		},
		Reconcile: Reconcile{MaxRemovals: 7, MinAge: s(17)},
	}, c)
}

func TestLoadTakesDotsAndBracketsThatDoNotNest(t *testing.T) {
	users := make([]string, 200)
	for i := range users {
		users[i] = fmt.Sprintf("'first.last%d'", i)
	}
	c, err := Load(writeConfig(t, withSlurmConf+" # "+strings.Repeat(".", 100)+"\n"+strings.Repeat("# [\n", 100)+
		"[workflows]\noperators = ["+strings.Repeat("\n", 2)+strings.Join(users, ", ")+"]\n"))
	require.NoError(t, err)
	assert.Len(t, c.Workflows.Operators, 200)
}

func TestLoadTakesTheDirectiveOfBurstBufferConf(t *testing.T) {
	path := writeConfig(t, withSlurmConf)
	bb := filepath.Join(filepath.Dir(path), "burst_buffer.conf")
	for text, want := range map[string]string{"Directive=BB\n": "BB", "Flags=TeardownFailure\n": "BB_LUA"} {
		require.NoError(t, os.WriteFile(bb, []byte(text), 0o644))
		c, err := Load(path)
		require.NoError(t, err)
		assert.Equal(t, want, c.Workflows.Directive, text)
	}
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key, a letter missing", "[workflows]\nbusy_wit = '1s'",
			`2: workflows.busy_wit: unknown key, did you mean "busy_wait"?`},
		{"unknown key in capitals", "Cluster = 'a'", `1: Cluster: unknown key, did you mean "cluster"?`},
		{"known key in the wrong table", "\nnamespace = 'a'",
			`2: namespace: unknown key, did you mean "namespace" in table [workflows]?`},
		{"top-level key in a table", "[log]\nstate_dir = '/a'",
			`2: log.state_dir: unknown key, did you mean "state_dir" before the first table?`},
		{"unknown key like no other", "[log]\nfrobnicate = 1", `2: log.frobnicate: unknown key, known here: level, file`},
		{"unknown table", "\n\n[workflow]\nsubmit = 'local'", `3: workflow: unknown key, did you mean "workflows"?`},
		{"unknown key with line feed", "\"a\\nb\" = 1", `1: "a\nb": unknown key, known here: cluster`},
		{"the first of several is told", "[log]\nlevle = 1\nfiel = 2", `2: log.levle: unknown key, did you mean "level"?`},
		{"syntax", "cluster = \"a\"\nstate_dir = /var\n", `2: state_dir: expected value but found '/' instead`},
		{"duplicate key", "cluster = 'a'\ncluster = 'b'", `2: cluster: Key 'cluster' has already been defined.`},
		{"number for text", "[workflows]\nnamespace = 3",
			`2: workflows.namespace: want a quoted string, such as namespace = "slurm"; found the number 3`},
		{"number for duration", "[kubernetes]\nrequest_timeout = 30",
			`2: kubernetes.request_timeout: a duration needs a unit, write "30s"; found the number 30`},
		{"duration without unit", "[workflows]\nbreaker = '30'", `2: workflows.breaker: 30 has no unit, write "30s"`},
		{"duration that is none", "[workflows]\nbreaker = 'soon'",
			`2: workflows.breaker: "soon" is not a duration, write for example "30s"`},
		{"truth for duration", "[workflows]\nbreaker = true", `2: workflows.breaker: want a duration such as "30s"; found true`},
		{"text for list", "[workflows]\noperators = 'a'",
			`2: workflows.operators: want a list of strings, such as operators = ["alice", "bob"]; found the string "a"`},
		{"number in list", "[workflows]\noperators = [\n'a', 1]",
			`2: workflows.operators: want a list of strings, such as operators = ["alice", "bob"]; found a list with the number 1`},
		{"text for table", "workflows = 'a'", `1: workflows: want a table, begun by a line [workflows]; found the string "a"`},
		{"list of tables", "[[workflows.timeouts]]\nsetup = '1s'",
			`1: workflows.timeouts: want a table, begun by a line [workflows.timeouts]; found a list of tables`},
		{"table for text", "[cluster]\nname = 'a'", `1: cluster: want a quoted string, such as cluster = "text"; found a table`},
		{"dotted key under text", "cluster.name = 'a'", `1: cluster: want a quoted string, such as cluster = "text"; found a table`},
		{"date", "cluster = 2026-01-01", `1: cluster: want a quoted string, such as cluster = "text"; found a date`},
		{"relative path", "state_dir = 'var'", `1: state_dir: "var" is not an absolute path such as "/etc/slurm/..."`},
		{"relative path that may be unset", "slurm_bin_dir = 'bin'", `1: slurm_bin_dir: "bin" is not an absolute path`},
		{"relative log file", "[log]\nfile = 'log'", `2: log.file: "log" is not an absolute path`},
		{"empty path", "[kubernetes]\nkubeconfig = ''", `2: kubernetes.kubeconfig: "" is not an absolute path`},
		{"one file for two credentials", "[kubernetes]\nkubeconfig = '/a/k'\n[bundles]\nkubeconfig = '/a//k'", `4: bundles.kubeconfig: "/a//k" is kubernetes.kubeconfig`},
		{"unknown choice", "[workflows]\nsubmit = 'dryrun'", `2: workflows.submit: "dryrun" must be one of dry-run, create, local`},
		{"a health without its feature", "[workflows]\nhealth = 'feature'", `2: workflows.health: "feature" needs workflows.node_feature`},
		{"a feature that a constraint cannot have", "[workflows]\nnode_feature = 'a&b'", `2: workflows.node_feature: "a&b" is not a feature of Slurm`},
		{"unknown level", "[log]\nlevel = 'warn'", `2: log.level: "warn" must be one of error, warning, info, debug`},
		{"negative duration", "[workflows.timeouts]\nsetup = '-1s'", `2: workflows.timeouts.setup: -1s is out of range`},
		{"longer than Slurm allows", "workflows.timeouts.setup = '577h'", `1: workflows.timeouts.setup: 577h0m0s is out of range`},
		{"cluster with underscore", "cluster = 'a_b'", `1: cluster: "a_b" is not a name of at most 40 lower-case letters`},
		{"namespace in capitals", "[workflows]\nnamespace = 'Slurm'", `2: workflows.namespace: "Slurm" cannot be a Kubernetes namespace`},
		{"directive with #", "[workflows]\ndirective = '#DW'", `2: workflows.directive: "#DW" cannot be the word of a directive`},
		{"operators in one text", "[workflows]\noperators = ['a,b']", `2: workflows.operators: "a,b" cannot be a user name`},
		{"operator twice", "[workflows]\noperators = ['a', 'a']", `2: workflows.operators: "a" is given twice`},
		{"refuse without asking", "[workflows]\nsubmit = 'local'\n\non_unreachable = 'refuse'",
			`4: workflows.on_unreachable: "refuse" has no effect with submit = "local"`},
		{"unknown key in a rule", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\n\n[[services.allow]]\nuser=['a']",
			`6: services.allow[2].user: unknown key, did you mean "users"?`},
		{"text for a list in a rule", "[[services.allow]]\n\nusers='a'",
			`3: services.allow[1].users: want a list of strings, such as users = ["alice", "bob"]; found the string "a"`},
		{"text for a number in a rule", "[[services.allow]]\nmax_services='8'",
			`2: services.allow[1].max_services: want a number, such as max_services = 8; found the string "8"`},
		{"one table for the list of rules", "[services.allow]\nusers=['a']",
			`1: services.allow: want a list of tables, each begun by a line [[services.allow]]; found a table`},
		{"a group that begins with a blank", "[[services.allow]]\ngroups=[' domain users']\nnamespaces=['a']", `2: services.allow[1].groups: " domain users" cannot be a name in groups`},
		{"a list of groups in one text", "[[services.allow]]\ngroups=['domain users,wheel']\nnamespaces=['a']", `2: services.allow[1].groups: "domain users,wheel" cannot be a name in groups`},
		{"a bundle's rule for nobody", "[bundles]\nmax_bundles=2\n[[bundles.allow]]\nbundles=['a']\nnamespaces=['a']", `4: bundles.allow[1]: applies to nobody`},
		{"a bundle's rule without bundles", "[[bundles.allow]]\nusers=['*']\nnamespaces=['a']", `2: bundles.allow[1].bundles: not set: a rule must name bundles`},
		{"a bundle's rule without namespaces", "[[bundles.allow]]\nusers=['*']\nbundles=['*']", `2: bundles.allow[1].namespaces: not set`},
		{"a bundle that can have no such name", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\n[[bundles.allow]]\nusers=['a']\nnamespaces=['a']\nbundles=['{user}']",
			`7: bundles.allow[1].bundles: "{user}" cannot match the name of a bundle`},
		{"a bundle's rule with no image", "[[bundles.allow]]\nusers=['a']\nnamespaces=['a']\nbundles=['a']\nimages=[]", `5: bundles.allow[1].images: empty: leave it out`},
		{"a pattern of images that is none", "[[bundles.allow]]\nusers=['a']\nnamespaces=['a']\nbundles=['a']\nimages=['a/[']", `5: bundles.allow[1].images: "a/[" cannot match an image`},
		{"a limit that is no number", "[[bundles.allow]]\nusers=['a']\nnamespaces=['a']\nbundles=['a']\nlimits={a=1.5}", `5: bundles.allow[1].limits: a: want a number or a quoted text`},
		{"limits that are no table", "[[bundles.allow]]\nusers=['a']\nnamespaces=['a']\nbundles=['a']\nlimits=3", `5: bundles.allow[1].limits: want`},
		{"an unknown key of a bundle's rule", "[[bundles.allow]]\nuser=['a']", `2: bundles.allow[1].user: unknown key, did you mean "users"?`},
		{"too many bundles", "bundles.max_bundles=9", `1: bundles.max_bundles: 9 is out of range, 1 to 8`},
		{"no directory of bundles", "bundles.dirs=[]", `1: bundles.dirs: empty`},
		{"a relative directory of bundles", "bundles.dirs=['a']", `1: bundles.dirs: "a" is not an absolute path`},
		{"rule for nobody", "[[services.allow]]\nnamespaces=['a']", `2: services.allow[1]: applies to nobody: give users, groups or accounts`},
		{"rule without namespaces", "[[services.allow]]\nusers=['a']", `2: services.allow[1].namespaces: not set`},
		{"inline rules", "services.allow = [{users=['a'], namespaces=['A']}]", `1: services.allow[1].namespaces: "A" cannot match`},
		{"namespace with a slash", "[[services.allow]]\nusers=['a']\nnamespaces=['../b']", `3: services.allow[1].namespaces: "../b" cannot match`},
		{"port 0", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\nports=['0-9']", `4: services.allow[1].ports: "0-9" is neither a port`},
		{"ports backwards", "services.forbidden_ports=['9-8']", `1: services.forbidden_ports: "9-8" is neither a port`},
		{"unknown kind", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\nexpose=['externalip']", `4: services.allow[1].expose: "externalip" must be one of`},
		{"annotations of every domain", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\nannotations=['a/b/c']", `4: services.allow[1].annotations: "a/b/c" cannot match the key of an annotation`},
		{"too many services", "[[services.allow]]\nusers=['a']\nnamespaces=['a']\nmax_services=1001", `4: services.allow[1].max_services: 1001 is out of range`},
		{"address by the user's word", "services.address='10.0.0.1'", `1: services.address: "10.0.0.1" must be one of node, interface:NAME, subnet:CIDR`},
		{"subnet that is none", "services.address='subnet:10.0.0.1'", `1: services.address: "10.0.0.1" is not a subnet`},
		{"short ready_interval", "services.ready_interval='500ms'", `1: services.ready_interval: 500ms is out of range, 1s to 1h, or 0s`},
		{"one user of Kubernetes for all", "services.impersonate='slurm'", `1: services.impersonate: "slurm" is the same user for all jobs`},
		{"Kubernetes's own user", "services.impersonate='system:{user}'", `1: services.impersonate: "system:{user}" is one of Kubernetes's own users`},
		{"a newline in a user of Kubernetes", "services.impersonate=\"a\\n{user}\"", `1: services.impersonate: "a\n{user}" cannot be a user of Kubernetes`},
		{"Kubernetes's own group", "[services]\nimpersonate='x:{user}'\nimpersonate_groups=['a', 'system:masters']",
			`3: services.impersonate_groups: "system:masters" is one of Kubernetes's own groups`},
		{"one user of Kubernetes for the bundles of all", "[bundles]\nimpersonate='slurm'", `2: bundles.impersonate: "slurm" is the same user for all jobs`},
		{"the users of services, for bundles", "[bundles]\nimpersonate='slurmk8s:user:{user}'", `2: bundles.impersonate: "slurmk8s:user:{user}" is for services`},
		{"groups of nobody, for bundles", "bundles.impersonate_groups=['a']", `1: bundles.impersonate_groups: has no effect without bundles.impersonate`},
		{"groups of nobody", "services.impersonate_groups=['a']", `1: services.impersonate_groups: has no effect without services.impersonate`},
		{"short renew_interval", "services.renew_interval='4s'", `1: services.renew_interval: 4s is out of range, 5s to 10m0s`},
		{"no slurm.conf", "slurm_conf = '/nonexistent/slurm.conf'",
			`1: cluster: not set, and ClusterName cannot be read: /nonexistent/slurm.conf: no such file or directory`},
		{"brackets without end", "cluster = " + strings.Repeat("{a=", 1000), `1: brackets or dotted keys are nested too deeply`},
		{"a dotted key without end", strings.Repeat("a.", 1000) + "a = 1", `1: brackets or dotted keys are nested too deeply`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeConfig(t, tt.text)
			c, err := Load(path)
			require.Error(t, err)
			assert.Nil(t, c)
			got := err.Error()
			require.True(t, strings.HasPrefix(got, path+":"), got)
			got = strings.TrimPrefix(got, path+":")
			assert.True(t, strings.HasPrefix(got, tt.want), "got  %s\nwant %s", got, tt.want)
		})
	}
}

func TestLoadRefusesAClusterNameThatKubernetesCannotHave(t *testing.T) {
	path := writeConfig(t, withSlurmConf)
	slurm := filepath.Join(filepath.Dir(path), "slurm.conf")
	require.NoError(t, os.WriteFile(slurm, []byte("ClusterName=my_cluster\n"), 0o644))
	_, err := Load(path)
	require.ErrorContains(t, err, path+`:1: cluster: ClusterName "my_cluster" of `)
	require.NoError(t, os.WriteFile(slurm, []byte("SlurmUser=slurm\n"), 0o644))
	_, err = Load(path)
	require.ErrorContains(t, err, path+":1: cluster: not set, and "+slurm+" has no ClusterName")
}

func TestLoadRefusesFilesItCannotTrust(t *testing.T) {
	tests := []struct {
		name, want string
		damage     func(t *testing.T, path string)
	}{
		{"absent", ":1: no such file or directory", func(t *testing.T, p string) { require.NoError(t, os.Remove(p)) }},
		{"writable by group", `is writable by others (mode 0664): run "chmod go-w `, func(t *testing.T, p string) {
			require.NoError(t, os.Chmod(p, 0o664))
		}},
		{"writable by all", `is writable by others (mode 0646): run "chmod go-w `, func(t *testing.T, p string) {
			require.NoError(t, os.Chmod(p, 0o646))
		}},
		{"directory", ":1: is not a regular file (d", func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Mkdir(p, 0o755))
		}},
		{"FIFO, without waiting for a writer", ":1: is not a regular file (p", func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, syscall.Mkfifo(p, 0o644))
		}},
		{"device", ":1: is not a regular file (D", func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Symlink("/dev/zero", p))
		}},
		{"too large", ":1: is larger than 1024 KiB", func(t *testing.T, p string) {
			require.NoError(t, os.WriteFile(p, []byte(strings.Repeat("#", maxConfigBytes+1)), 0o644))
		}},
		{"owned by another", `is owned by uid 12345, must be owned by root: run "chown root `, func(t *testing.T, p string) {
			chownOrSkip(t, p)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeConfig(t, withSlurmConf)
			tt.damage(t, path)
			_, err := Load(path)
			require.ErrorContains(t, err, path+":1: ")
			require.ErrorContains(t, err, tt.want)
			if tt.name == "absent" {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
		})
	}
}

func chownOrSkip(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	require.NoError(t, os.Chown(path, 12345, 12345))
}

func TestCheckSecretFile(t *testing.T) {
	check := func(t *testing.T, mode os.FileMode, prepare func(path string), trusted ...uint32) error {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chmod(path, mode))
		if prepare != nil {
			prepare(path)
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		require.NoError(t, err)
		defer f.Close()
		return CheckSecretFile(f, trusted...)
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o700} {
		assert.NoError(t, check(t, mode, nil), "%o", mode)
	}
	for _, mode := range []os.FileMode{0o640, 0o620, 0o604, 0o602, 0o777} {
		err := check(t, mode, nil)
		assert.ErrorContains(t, err, fmt.Sprintf(`kubeconfig: holds a secret but is open to others (mode %04o): run "chmod 600 /`, mode))
	}
	assert.ErrorContains(t, check(t, 0o600, func(p string) {
		require.NoError(t, os.Remove(p))
		require.NoError(t, os.Mkdir(p, 0o700))
	}), "is not a regular file")
	t.Run("owner", func(t *testing.T) {
		other := func(p string) { chownOrSkip(t, p) }
		assert.ErrorContains(t, check(t, 0o600, other), `owned by uid 12345: run "chown 0 /`)
		assert.NoError(t, check(t, 0o600, other, 12345), "SlurmUser's own file")
		assert.Error(t, check(t, 0o640, other, 12345), "open to a group all the same")
	})
}

// uncommented is the shipped example with all its keys in force.
func uncommented(t *testing.T) string {
	data, err := os.ReadFile("../packaging/slurmk8s.toml")
	require.NoError(t, err)
	return regexp.MustCompile(`(?m)^#([a-z]|\[\[)`).ReplaceAllString(string(data), "$1")
}

func TestExampleHasEveryKeyWithItsDefault(t *testing.T) {
	text := uncommented(t)
	d, err := parseDocument("example", []byte(text))
	require.NoError(t, err)
	c := Default()
	c.Workflows.Operators = []string{}
	c.Nodes.ReclaimPartitions, c.Nodes.ReclaimFeatures, c.Nodes.MirrorConditions = []string{}, []string{}, []string{}
	c.Services.ImpersonateGroups, c.Bundles.ImpersonateGroups = []string{}, []string{}
	want := *c
	// The one rule of the example has the defaults where there are any.
	rule := defaultServiceRule()
	rule.Users, rule.Groups, rule.Accounts = []string{"alice"}, []string{"physics"}, []string{"p1234"}
	rule.Namespaces = []string{"physics", "user-{user}"}
	want.Services.Allow = []ServiceRule{rule}
	want.Bundles.Allow = []BundleRule{{
		Users: []string{"alice"}, Groups: []string{"physics"}, Accounts: []string{"p1234"},
		Bundles: []string{"arkouda-exporter"}, Namespaces: []string{"physics"},
		Limits: map[string]any{"locales": int64(16), "memory": "64Gi"}, Images: []string{"registry.example.org/physics/*"},
	}}
	want.Workflows.Allow = []StorageRule{{
		Users: []string{"alice"}, Groups: []string{"physics"}, Accounts: []string{"p1234"}, Directives: []string{"jobdw", "create_persistent"},
		Profiles: []string{"*"}, Max: []string{"xfs=1TiB", "lustre=50TiB", "persistent=100TiB"},
	}}
	want.Workflows.Presets = []Preset{{"small", []string{"#DW jobdw type=xfs capacity=100GiB name=scratch"}}}
	require.NoError(t, d.decode(c))
	require.NoError(t, d.validate(c))
	assert.Equal(t, &want, c)

	in := map[string]bool{}
	for _, key := range d.md.Keys() {
		in[key.String()] = true
	}
	for _, key := range allKeys(reflect.TypeFor[Config](), nil) {
		assert.True(t, in[key.String()], "%s is not in the example", key)
	}
}

func TestExampleAsShippedIsValid(t *testing.T) {
	data, err := os.ReadFile("../packaging/slurmk8s.toml")
	require.NoError(t, err)
	_, err = Load(writeConfig(t, withSlurmConf+string(data)))
	require.NoError(t, err)
}

func FuzzLoad(f *testing.F) {
	if data, err := os.ReadFile("../packaging/slurmk8s.toml"); err == nil {
		f.Add(string(data))
		f.Add(strings.ReplaceAll(string(data), "\n#", "\n"))
	}
	for _, seed := range []string{"a", "[[a]]\n[a.b]", "a.b.c=1\n[a.b]", "workflows={timeouts={setup='1s'}}", "cluster=''", "\x00",
		"\"\\u0001\\n\" = 1", "cluster = '''\n\x1b'''", "log.level = 1e400", "workflows.operators=[['a'],1979-05-27]"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "slurmk8s.toml")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(path, []byte("slurm_conf = '/nonexistent'\n"+text), 0o644))
		c, err := Load(path)
		if err != nil {
			assertOneLine(t, err)
			assert.Regexp(t, `^`+regexp.QuoteMeta(path)+`:[1-9][0-9]*: `, err.Error())
			return
		}
		assert.True(t, filepath.IsAbs(c.StateDir))
		assert.NotEmpty(t, c.Cluster)
		assert.NotEmpty(t, c.Workflows.Directive)
	})
}

func assertOneLine(t *testing.T, err error) {
	t.Helper()
	s := err.Error()
	assert.NotEmpty(t, s)
	assert.Less(t, len(s), maxMessageBytes+100)
	assert.Regexp(t, `^[^[:cntrl:]]*$`, s)
}

func TestAKeyOfAnEarlierVersionIsAcceptedAndTold(t *testing.T) {
	for key := range retired {
		table, name, _ := strings.Cut(key, ".")
		path := writeConfig(t, withSlurmConf+"["+table+"]\n"+name+" = \"10s\"\n")
		_, err := Load(path)
		require.NoError(t, err)
		require.Len(t, Retired(path), 1)
		assert.Contains(t, Retired(path)[0], key+" no longer has an effect: ")
	}
}
