package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/version"
)

// site is the files of a host that is controller and node, all of them as they
// should be. What needs an API server is tested in tests/setup.
type site struct {
	t   *testing.T
	dir string
	o   Options
}

// needsAPI are the checks that cannot succeed here.
var needsAPI = map[string]bool{"controller credential": true, "DWS": true, "storage servers": true, "node credential": true, "admission policy": true, "kubelet credential": true}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.write("slurm.conf", `ClusterName=alps
SlurmUser=root
BurstBufferType=burst_buffer/lua
JobSubmitPlugins=partition,lua
PrologFlags=Alloc,DeferBatch
PrologEpilogTimeout=1100
BatchStartTimeout=1200
HealthCheckProgram=`+s.path("health.sh")+`
HealthCheckInterval=60
NodeName=c1 NodeAddr=10.1.0.1
`, 0o644)
	s.write("burst_buffer.conf", "Directive=DW\nFlags=TeardownFailure\n", 0o644)
	s.write("burst_buffer.lua", s.script("burst_buffer.lua"), 0o644)
	s.write("job_submit.lua", s.script("job_submit.lua"), 0o644)
	s.write("plugstack.conf", "optional "+s.path("slurmk8s_nodes_spank.so")+" nodes=on prolog_timeout_ms=1010000 config="+s.path("slurmk8s.toml")+" library="+s.path("libslurmk8s.so")+"\n", 0o644)
	s.write("slurmk8s.toml", fmt.Sprintf("slurm_conf = %q\nslurm_bin_dir = %q\nstate_dir = %q\n[nodes]\nreclaim = \"all\"\n"+
		"[[services.allow]]\nusers = [\"*\"]\nnamespaces = [\"jobs\"]\n", s.path("slurm.conf"), s.dir, s.path("state")), 0o644)
	s.slurm("slurm-wlm 24.11.5")
	s.write("slurmk8s", "", 0o755)
	s.write("health.sh", "#!/bin/sh\n/usr/bin/slurmk8s reconcile --node c1\n", 0o755)
	s.write("cron.d/slurmk8s", "* * * * * slurm /opt/slurmk8s/bin/slurmk8s reconcile\n", 0o644)
	require.NoError(t, os.Mkdir(s.path("state"), 0o700))
	objects := compiled(t)
	for _, name := range []string{"slurmk8s_nodes_spank.so", "libslurmk8s.so", "slurmk8s_lua.so", "burst_buffer_lua.so", "liblua5.1.so.0"} {
		s.write(name, string(objects[name]), 0o644)
	}
	s.o = Options{
		ConfigPath: s.path("slurmk8s.toml"), Roles: []Role{Controller, Node}, NodeName: "c1",
		Paths: Paths{PluginDirs: []string{s.path("usual")}, LibraryDirs: []string{s.dir}, TimerWants: []string{s.path("*.wants")}, CronFiles: []string{s.path("cron.d/*")}},
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	require.NoError(s.t, os.WriteFile(s.path(name), []byte(text), mode))
	require.NoError(s.t, os.Chmod(s.path(name), mode))
}

// edit replaces text in a file; a test that replaces nothing would break nothing.
func (s *site) edit(name, old, new string) {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	require.NoError(s.t, err)
	require.Contains(s.t, string(text), old)
	info, err := os.Stat(s.path(name))
	require.NoError(s.t, err)
	s.write(name, strings.ReplaceAll(string(text), old, new), info.Mode())
}

func (s *site) remove(name string) { require.NoError(s.t, os.RemoveAll(s.path(name))) }

func (s *site) chmod(name string, mode os.FileMode) {
	require.NoError(s.t, os.Chmod(s.path(name), mode))
}

func (s *site) chown(name string) {
	if os.Geteuid() != 0 {
		s.t.Skip("only root can give files away")
	}
	require.NoError(s.t, os.Chown(s.path(name), 4711, 4711))
}

func (s *site) slurm(answer string) { s.scontrol(answer, "echo PluginDir = "+s.dir) }

// scontrol answers with a version, or runs a command for its configuration.
func (s *site) scontrol(version, config string) {
	s.write("scontrol", "#!/bin/sh\n[ \"$1\" = show ] || { echo '"+version+"'; exit; }\n"+config+"\n", 0o755)
}

// script is a shipped script, installed here.
func (s *site) script(name string) string {
	text, err := os.ReadFile("../../lua/" + name + ".in")
	require.NoError(s.t, err)
	return strings.NewReplacer("@SYSCONFDIR@", s.dir, "@STATEDIR@", s.path("state"), "@BINDIR@", s.dir, "@LIBDIR@", s.dir, "@VERSION@", version.Version).Replace(string(text))
}

// sitesOwnScript makes burst_buffer.lua a site's own that runs slurmk8s's.
func (s *site) sitesOwnScript() {
	s.write("ours.lua", s.script("burst_buffer.lua"), 0o644)
	s.write("burst_buffer.lua", "-- dofile(\"/elsewhere.lua\") was before\ndofile(\""+s.path("ours.lua")+"\")\n", 0o644)
}

var (
	compileOnce sync.Once
	objectFiles map[string][]byte
)

// compiled are shared objects with what the checks look at; the note of the library
// is the library's own.
func compiled(t *testing.T) map[string][]byte {
	t.Helper()
	compileOnce.Do(func() {
		dir := t.TempDir()
		objectFiles = map[string][]byte{}
		cc := func(name, source string, args ...string) {
			path := filepath.Join(dir, name)
			if source != "" {
				require.NoError(t, os.WriteFile(path+".c", []byte(source), 0o600))
				args = append([]string{path + ".c"}, args...)
			}
			out, err := exec.Command("cc", append([]string{"-shared", "-fPIC", "-o", path}, args...)...).CombinedOutput()
			require.NoError(t, err, string(out))
			objectFiles[name], err = os.ReadFile(path)
			require.NoError(t, err)
		}
		entry, err := filepath.Abs("../../goffi")
		require.NoError(t, err)
		cc("libslurmk8s.so", "", "-I"+entry, filepath.Join(entry, "entry.c"))
		cc("slurmk8s_nodes_spank.so", "const unsigned plugin_version = 0x180b05; const char *d(void) { return \"/opt/x/libslurmk8s.so\"; }")
		cc("slurmk8s_nodes_spank-22.05.so", "const unsigned plugin_version = 0x160508;")
		cc("slurmk8s_lua.so", "int luaopen_slurmk8s(void *l) { return l != 0; }")
		cc("liblua5.1.so.0", "int lua_gettop;", "-Wl,-soname,liblua5.1.so.0")
		cc("liblua.so", "int lua_gettop;", "-Wl,-soname,liblua-5.4.so")
		cc("burst_buffer_lua.so", "extern int lua_gettop; int *p(void) { return &lua_gettop; }", filepath.Join(dir, "liblua5.1.so.0"))
	})
	return objectFiles
}

func (s *site) results() []Result {
	s.t.Helper()
	var results []Result
	for _, r := range Run(s.t.Context(), s.o) {
		if !needsAPI[r.Check] {
			results = append(results, r)
		}
	}
	return results
}

func TestASitesOwnScriptThatRunsOursIsHealthy(t *testing.T) {
	s := newSite(t)
	s.sitesOwnScript()
	for _, r := range s.results() {
		assert.Equal(t, OK, r.Status, "%s: %s", r.Check, r.Found)
	}
	assert.Contains(t, s.resultsOf("burst_buffer.lua")[0].Found, s.path("ours.lua"))
}

func TestAHealthyHostHasNothingToReport(t *testing.T) {
	s := newSite(t)
	seen := map[string]bool{}
	for _, r := range s.results() {
		assert.Equal(t, OK, r.Status, "%s: %s", r.Check, r.Found)
		seen[r.Check] = true
	}
	for _, c := range checks {
		assert.True(t, seen[c.name] || needsAPI[c.name], "%s says nothing", c.name)
	}
}

// TestEachCheckNamesWhatIsBroken breaks one thing at a time.
func TestEachCheckNamesWhatIsBroken(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken func(*site)
		check  string
		status Status
		says   string
		do     string
	}{
		{"unknown key in slurmk8s.toml", func(s *site) { s.edit("slurmk8s.toml", "state_dir", "stat_dir") }, "slurmk8s.toml", Failed, `did you mean "state_dir"`, ""},
		{"slurmk8s.toml that others write", func(s *site) { s.chmod("slurmk8s.toml", 0o666) }, "slurmk8s.toml", Failed, "writable by others", "fix it"},
		{"slurmk8s.toml of somebody else", func(s *site) { s.chown("slurmk8s.toml") }, "slurmk8s.toml", Failed, "owned by uid 4711", ""},
		{"slurm.conf that is not there", func(s *site) { s.remove("slurm.conf") }, "slurmk8s.toml", Failed, "slurm.conf", "fix it"},
		{"a key of an earlier version", func(s *site) {
			s.edit("slurmk8s.toml", "[[services", "[services]\nregister_timeout = \"10s\"\n[[services")
		},
			"slurmk8s.toml", Warning, "services.register_timeout no longer has an effect: set register_timeout_ms in plugstack.conf instead", "remove the line"},
		{"a rule for a bundle that is not there", func(s *site) { s.bundles("exporter", "summary = \"x\"\n") }, "bundles", Warning, "names bundle aok, which is not in", "install it"},
		{"a bundle that cannot be loaded", func(s *site) { s.bundles("aok", "sumary = \"x\"\n") }, "bundles", Warning, "sumary", "slurmk8s bundle check"},
		{"bundles without burst buffers", func(s *site) {
			s.bundles("aok", "summary = \"x\"\n")
			s.edit("slurm.conf", "BurstBufferType=burst_buffer/lua\n", "")
			s.remove("burst_buffer.lua")
		}, "bundles", Failed, "runs no burst_buffer.lua", "set BurstBufferType=burst_buffer/lua"},
		{"no scontrol", func(s *site) { s.remove("scontrol") }, "Slurm version", Failed, "scontrol is not in", "slurm_bin_dir"},
		{"Slurm that is too old", func(s *site) { s.slurm("slurm 21.08.8") }, "Slurm version", Failed, "Slurm 21.08.8", "22.05 or later"},
		{"Slurm 22.05 and its 128 stage-ins", func(s *site) { s.slurm("slurm 22.05.8") }, "Slurm version", Warning, "after 128 stage-ins were cancelled", "restart slurmctld"},
		{"Slurm 23.02.6 and its 128 stage-ins", func(s *site) { s.slurm("slurm 23.02.6") }, "Slurm version", Warning, "after 128 stage-ins were cancelled", "23.02.7"},
		{"another BurstBufferType", func(s *site) { s.edit("slurm.conf", "burst_buffer/lua", "burst_buffer/datawarp") }, "burst_buffer.conf", Failed, "BurstBufferType is burst_buffer/datawarp", "restart slurmctld"},
		{"no BurstBufferType", func(s *site) { s.edit("slurm.conf", "BurstBufferType=burst_buffer/lua\n", "") }, "burst_buffer.conf", Failed, "BurstBufferType is not set", ""},
		{"no burst_buffer.conf", func(s *site) { s.remove("burst_buffer.conf") }, "burst_buffer.conf", Failed, "burst_buffer.conf: no such file", "Flags=TeardownFailure"},
		{"no TeardownFailure", func(s *site) { s.edit("burst_buffer.conf", "TeardownFailure", "PrivateData") }, "burst_buffer.conf", Failed, "no TeardownFailure", "add Flags=TeardownFailure"},
		{"another Directive", func(s *site) {
			s.edit("slurmk8s.toml", "[nodes]", "[workflows]\ndirective = \"DW\"\n[nodes]")
			s.edit("burst_buffer.conf", "Directive=DW", "Directive=XY")
		}, "burst_buffer.conf", Failed, "Directive is XY for Slurm", "make both equal"},
		{"an epilog with less time than it waits for mounts", func(s *site) {
			s.edit("slurmk8s.toml", "[nodes]", "[workflows]\nunmount_timeout = \"5m\"\n[nodes]")
		}, "plugstack.conf", Failed, "epilog_timeout_ms is 10s, but workflows.unmount_timeout is 5m0s", "set epilog_timeout_ms=310000"},
		{"no burst_buffer.lua", func(s *site) { s.remove("burst_buffer.lua") }, "burst_buffer.lua", Failed, "no such file", "in the directory of slurm.conf"},
		{"somebody else's burst_buffer.lua", func(s *site) { s.write("burst_buffer.lua", "-- dws-slurm-bb-plugin\n", 0o644) }, "burst_buffer.lua", Failed, "is not slurmk8s's burst_buffer.lua", "install"},
		{"a burst_buffer.lua that runs nothing", func(s *site) { s.write("burst_buffer.lua", "dofile(\""+s.path("absent.lua")+"\")\n", 0o644) }, "burst_buffer.lua", Failed, "absent.lua: no such file", "install"},
		{"a site's own burst_buffer.lua that runs one that others write", func(s *site) {
			s.sitesOwnScript()
			s.chmod("ours.lua", 0o666)
		}, "burst_buffer.lua", Failed, "ours.lua is writable by others", "chmod go-w"},
		{"a site's own burst_buffer.lua that runs one of another version", func(s *site) {
			s.sitesOwnScript()
			s.edit("ours.lua", "-- slurmk8s "+version.Version, "-- slurmk8s 0.0.1")
		}, "burst_buffer.lua", Failed, "ours.lua is of version 0.0.1", ""},
		{"burst_buffer.lua of another version", func(s *site) { s.edit("burst_buffer.lua", "-- slurmk8s "+version.Version, "-- slurmk8s 0.0.1") }, "burst_buffer.lua", Failed, "is of version 0.0.1", ""},
		{"burst_buffer.lua that others write", func(s *site) { s.chmod("burst_buffer.lua", 0o664) }, "burst_buffer.lua", Failed, "writable by others", "chmod go-w"},
		{"burst_buffer.lua with another configuration", func(s *site) { s.edit("burst_buffer.lua", s.path("slurmk8s.toml"), "/etc/other.toml") }, "burst_buffer.lua", Failed, `"/etc/other.toml"`, "set config"},
		{"burst_buffer.lua with another state_dir", func(s *site) { s.edit("burst_buffer.lua", s.path("state"), "/var/other") }, "burst_buffer.lua", Failed, `"/var/other"`, "set state_dir"},
		{"no program", func(s *site) { s.remove("slurmk8s") }, "burst_buffer.lua", Failed, "slurmk8s: no such file", "set program"},
		{"no JobSubmitPlugins", func(s *site) { s.edit("slurm.conf", "JobSubmitPlugins=partition,lua\n", "") },
			"job_submit.lua", Warning, "JobSubmitPlugins has no lua: Slurm refuses", "set JobSubmitPlugins=lua"},
		{"other plugins alone", func(s *site) { s.edit("slurm.conf", "partition,lua", "all_partitions,luau") },
			"job_submit.lua", Warning, "JobSubmitPlugins has no lua", "link slurmk8s's job_submit.lua"},
		{"no job_submit.lua", func(s *site) { s.remove("job_submit.lua") }, "job_submit.lua", Warning, "no such file", "link slurmk8s's job_submit.lua"},
		{"a site's own job_submit.lua without ours", func(s *site) { s.write("job_submit.lua", "function slurm_job_submit() end\n", 0o644) },
			"job_submit.lua", Warning, "is not slurmk8s's job_submit.lua", "call its check()"},
		{"job_submit.lua of another version", func(s *site) { s.edit("job_submit.lua", "-- slurmk8s "+version.Version, "-- slurmk8s 0.0.1") },
			"job_submit.lua", Failed, "is of version 0.0.1", ""},
		{"job_submit.lua with another directive", func(s *site) {
			s.write("submit.lua", s.script("job_submit.lua"), 0o644)
			s.write("job_submit.lua", "local slurmk8s = dofile(\""+s.path("submit.lua")+"\")\nslurmk8s.directive = \"BB_LUA\"\n", 0o644)
		}, "job_submit.lua", Warning, `is "BB_LUA", but workflows.directive of slurmk8s.toml is "DW"`, `slurmk8s.directive = "DW"`},
		{"job_submit.lua that others write", func(s *site) { s.chmod("job_submit.lua", 0o666) }, "job_submit.lua", Failed, "writable by others", "chmod go-w"},
		{"Slurm without burst_buffer/lua", func(s *site) { s.remove("burst_buffer_lua.so") }, "Lua", Failed, "no burst_buffer_lua.so", "slurm-wlm-basic-plugins"},
		{"a PluginDir of slurm.conf without burst_buffer/lua", func(s *site) {
			s.scontrol("slurm 24.11.5", "exit 1")
			s.edit("slurm.conf", "SlurmUser", "PluginDir="+s.path("old")+":"+s.path("older")+"\nSlurmUser")
		}, "Lua", Failed, "no burst_buffer_lua.so in ", "slurm-wlm-basic-plugins"},
		{"a slurmctld that does not say where its plugins are", func(s *site) { s.scontrol("slurm 24.11.5", "exit 1") },
			"Lua", Warning, "cannot tell which Lua Slurm uses: no burst_buffer_lua.so in", "while slurmctld runs"},
		{"an answer without PluginDir", func(s *site) { s.scontrol("slurm 24.11.5", "echo PrologFlags = Alloc") },
			"Lua", Warning, "cannot tell which Lua Slurm uses", "while slurmctld runs"},
		{"no liblua", func(s *site) { s.remove("liblua5.1.so.0") }, "Lua", Failed, "needs liblua5.1.so.0", "install the package"},
		{"liblua.so of another version", func(s *site) { s.write("liblua.so", string(compiled(s.t)["liblua.so"]), 0o644) }, "Lua", Warning, "liblua.so is Lua 5.4", "development package"},
		{"no Lua module", func(s *site) { s.remove("slurmk8s_lua.so") }, "Lua", Failed, "slurmk8s_lua.so: no such file", ""},
		{"another file as Lua module", func(s *site) { s.write("slurmk8s_lua.so", string(compiled(s.t)["libslurmk8s.so"]), 0o644) }, "Lua", Failed, "is not slurmk8s's Lua module", ""},
		{"teardown longer than OtherTimeout", func(s *site) {
			s.edit("slurmk8s.toml", "[nodes]", "[workflows.timeouts]\nteardown = \"300s\"\n[nodes]")
		}, "burst buffer timeouts", Failed, "teardown is 5m0s, but Slurm kills the hook after 5m0s (OtherTimeout)", "OtherTimeout"},
		{"data_in longer than StageInTimeout", func(s *site) {
			s.edit("slurmk8s.toml", "[nodes]", "[workflows.timeouts]\ndata_in = \"2h\"\n[nodes]")
			s.edit("burst_buffer.conf", "Directive", "StageInTimeout=3600\nDirective")
		}, "burst buffer timeouts", Failed, "data_in is 2h0m0s", "StageInTimeout"},
		{"OtherTimeout that no Teardown meets", func(s *site) { s.edit("burst_buffer.conf", "Directive", "OtherTimeout=5\nDirective") }, "burst buffer timeouts", Warning, "OtherTimeout is 5s", "raise OtherTimeout"},
		{"no state_dir", func(s *site) { s.remove("state") }, "state_dir", Failed, "no such file", "install -d"},
		{"state_dir that others write", func(s *site) { s.chmod("state", 0o777) }, "state_dir", Failed, "writable by others", "chmod 0700"},
		{"state_dir of somebody else than a SlurmUser given as a number", func(s *site) {
			s.edit("slurm.conf", "SlurmUser=root", "SlurmUser=65534")
		}, "state_dir", Failed, "owned by uid 0, so the hooks, which run as 65534, cannot write", "chown 65534"},
		{"a SlurmUser that nobody knows", func(s *site) { s.edit("slurm.conf", "SlurmUser=root", "SlurmUser=nosuch") }, "state_dir", Failed, "SlurmUser nosuch does not exist on this host", "create the account"},
		{"state_dir of somebody else", func(s *site) { s.chown("state") }, "state_dir", Failed, "owned by uid 4711", "chown root"},
		{"no line in plugstack.conf", func(s *site) { s.write("plugstack.conf", "# none\n", 0o644) }, "plugstack.conf", Failed, "does not name slurmk8s_spank.so", "add a line"},
		{"no plugstack.conf", func(s *site) { s.remove("plugstack.conf") }, "plugstack.conf", Failed, "plugstack.conf: no such file", "add a line"},
		{"required", func(s *site) { s.edit("plugstack.conf", "optional", "required") }, "plugstack.conf", Warning, "every job drains its node", "optional"},
		{"nodes=on is missing", func(s *site) { s.edit("plugstack.conf", " nodes=on", "") }, "plugstack.conf", Failed, "nodes=on is missing", "add nodes=on"},
		{"the plugin's other configuration", func(s *site) { s.edit("plugstack.conf", "config="+s.path("slurmk8s.toml"), "config=/etc/other.toml") }, "plugstack.conf", Failed, "/etc/other.toml", "same file"},
		{"plugstack.conf that others write", func(s *site) { s.chmod("plugstack.conf", 0o666) }, "plugstack.conf", Failed, "writable by others", "chmod"},
		{"nodes=on for the plugin without a prolog", func(s *site) { s.edit("plugstack.conf", "slurmk8s_nodes_spank.so", "slurmk8s_spank.so") }, "plugstack.conf", Failed, "has no prolog", "slurmk8s_nodes_spank.so"},
		{"nodes=on for the plugin without an epilog", func(s *site) { s.edit("plugstack.conf", "slurmk8s_nodes_spank.so", "slurmk8s_noepilog_spank.so") }, "plugstack.conf", Failed, "slurmk8s_noepilog_spank.so has no prolog", "slurmk8s_nodes_spank.so"},
		{"no plugin", func(s *site) { s.remove("slurmk8s_nodes_spank.so") }, "SPANK plugin", Failed, "no such file", "install"},
		{"plugin of another release", func(s *site) {
			s.write("slurmk8s_nodes_spank.so", string(compiled(s.t)["slurmk8s_nodes_spank-22.05.so"]), 0o644)
		}, "SPANK plugin", Failed, "built for Slurm 22.05, but 24.11.5 is installed", "for this release"},
		{"plugin that others write", func(s *site) { s.chmod("slurmk8s_nodes_spank.so", 0o666) }, "SPANK plugin", Failed, "writable by others", "chmod go-w"},
		{"plugin of somebody else", func(s *site) { s.chown("slurmk8s_nodes_spank.so") }, "SPANK plugin", Failed, "owned by uid 4711", "chown root"},
		{"plugin that is a text", func(s *site) { s.write("slurmk8s_nodes_spank.so", "not ELF", 0o644) }, "SPANK plugin", Failed, "is not a shared object", "install it again"},
		{"no PrologFlags", func(s *site) { s.edit("slurm.conf", "PrologFlags=Alloc,DeferBatch\n", "") }, "PrologFlags", Failed, "no Alloc", "PrologFlags=Alloc"},
		{"no DeferBatch", func(s *site) { s.edit("slurm.conf", "Alloc,DeferBatch", "Contain") }, "PrologFlags", Warning, "no DeferBatch", "DeferBatch"},
		{"prolog_timeout_ms shorter than an eviction", func(s *site) { s.edit("plugstack.conf", "prolog_timeout_ms=1010000", "prolog_timeout_ms=249000") }, "prolog timeouts", Failed, "freeing a node may take 4m10s", "raise prolog_timeout_ms"},
		{"prolog_timeout_ms shorter than what a job may ask for", func(s *site) { s.edit("plugstack.conf", " prolog_timeout_ms=1010000", " prolog_timeout_ms=300000") }, "prolog timeouts", Warning, "a job may ask for 16m40s", "max_evict_timeout"},
		{"PrologEpilogTimeout shorter than our prolog", func(s *site) { s.edit("slurm.conf", "PrologEpilogTimeout=1100", "PrologEpilogTimeout=1010") }, "prolog timeouts", Failed, "but Slurm kills it after 16m50s (PrologEpilogTimeout)", "raise PrologEpilogTimeout"},
		{"PrologTimeout of 25.05 shorter than our prolog", func(s *site) { s.edit("slurm.conf", "PrologFlags", "PrologTimeout=60\nPrologFlags") }, "prolog timeouts", Failed, "after 1m0s (PrologTimeout)", "raise PrologTimeout"},
		{"PrologEpilogTimeout shorter than our epilog", func(s *site) { s.edit("slurm.conf", "PrologFlags", "EpilogTimeout=10\nPrologFlags") }, "prolog timeouts", Failed, "the epilog may take 10s", "epilog_timeout_ms"},
		{"BatchStartTimeout not above PrologEpilogTimeout", func(s *site) { s.edit("slurm.conf", "BatchStartTimeout=1200", "BatchStartTimeout=1100") }, "prolog timeouts", Failed, "considers a batch job lost", "raise BatchStartTimeout"},
		{"BatchStartTimeout not set", func(s *site) { s.edit("slurm.conf", "BatchStartTimeout=1200", "") }, "prolog timeouts", Failed, "after 10s (BatchStartTimeout)", "raise BatchStartTimeout"},
		{"no library", func(s *site) { s.remove("libslurmk8s.so") }, "libslurmk8s.so", Failed, "no such file", "install"},
		{"library of another ABI", func(s *site) {
			number := []byte("slurmk8s\x00\x00\x00\x00\x01\x00\x00\x00")
			text := bytes.Replace(compiled(s.t)["libslurmk8s.so"], number, append(number[:12:12], 9, 0, 0, 0), 1)
			s.write("libslurmk8s.so", string(text), 0o644)
		}, "libslurmk8s.so", Failed, "has ABI 9", "one version"},
		{"another file as library", func(s *site) { s.write("libslurmk8s.so", string(compiled(s.t)["slurmk8s_lua.so"]), 0o644) }, "libslurmk8s.so", Failed, "has no ABI note", "one version"},
		{"library that others write", func(s *site) { s.chmod("libslurmk8s.so", 0o666) }, "libslurmk8s.so", Failed, "writable by others", "chmod go-w"},
		{"no timer and no cron", func(s *site) { s.remove("cron.d") }, "reconcile", Failed, "nothing runs slurmk8s reconcile", "systemctl enable"},
		{"a cron line that is commented out", func(s *site) { s.edit("cron.d/slurmk8s", "* * * * *", "# * * * * *") }, "reconcile", Failed, "nothing runs slurmk8s reconcile", ""},
		{"a node without HealthCheckProgram", func(s *site) {
			s.nodeOnly()
			s.edit("slurm.conf", "HealthCheckProgram="+s.path("health.sh"), "")
		}, "reconcile", Warning, "no HealthCheckProgram", "set HealthCheckProgram"},
		{"a HealthCheckProgram without us", func(s *site) {
			s.nodeOnly()
			s.write("health.sh", "#!/bin/sh\nexit 0\n", 0o755)
		}, "reconcile", Warning, "does not run slurmk8s reconcile", "add"},
		{"slurmk8s itself as HealthCheckProgram, which gets no arguments", func(s *site) {
			s.nodeOnly()
			s.edit("slurm.conf", s.path("health.sh"), s.path("slurmk8s"))
		}, "reconcile", Failed, "runs slurmk8s without arguments", "exec slurmk8s reconcile"},
		{"a HealthCheckProgram that cannot be executed", func(s *site) {
			s.nodeOnly()
			s.chmod("health.sh", 0o644)
		}, "reconcile", Failed, "is not executable (mode 0644)", "script"},
		{"a HealthCheckProgram with arguments", func(s *site) {
			s.nodeOnly()
			s.edit("slurm.conf", s.path("health.sh"), `"`+s.path("health.sh")+` reconcile"`)
		}, "reconcile", Failed, "no such file", "script"},
		{"a HealthCheckProgram by its relative path", func(s *site) {
			s.nodeOnly()
			s.edit("slurm.conf", s.path("health.sh"), "health.sh")
		}, "reconcile", Failed, "not an absolute path", "script"},
		{"a HealthCheckProgram that is no script", func(s *site) {
			s.nodeOnly()
			s.write("health.sh", "\x7fELF\x00", 0o755)
		}, "reconcile", Warning, "doctor cannot tell what it runs", "slurmk8s reconcile"},
		{"a HealthCheckProgram with a dry run only", func(s *site) {
			s.nodeOnly()
			s.edit("health.sh", "reconcile", "reconcile --dry-run")
		}, "reconcile", Warning, "does not run slurmk8s reconcile", "add"},
		{"a timer for one node on the controller", func(s *site) {
			s.remove("cron.d")
			s.enable("slurmk8s-node-reconcile")
		}, "reconcile", Failed, "nothing runs slurmk8s reconcile for all nodes", "slurmk8s-reconcile.timer"},
		{"a PrologSlurmctld without an EpilogSlurmctld", func(s *site) {
			s.edit("slurm.conf", "PrologFlags", "PrologSlurmctld="+s.path("slurmk8s")+"\nPrologFlags")
		}, "PrologSlurmctld", Failed, "EpilogSlurmctld does not: nothing gives nodes back", "set EpilogSlurmctld"},
		{"an EpilogSlurmctld that cannot be executed", func(s *site) {
			s.controllerTakes()
			s.chmod("epilog.sh", 0o644)
		}, "PrologSlurmctld", Failed, "epilog.sh: is not executable", "slurmctld can run"},
		{"nodes=on beside a PrologSlurmctld", func(s *site) {
			s.controllerTakes()
			s.edit("plugstack.conf", "config=", "nodes=on config=")
		}, "plugstack.conf", Warning, "PrologSlurmctld reclaims nodes too", "remove nodes=on"},
		{"no nodes=on, and a PrologSlurmctld that is not on this node", func(s *site) {
			s.controllerTakes()
			s.o.Roles = []Role{Node}
			s.edit("slurm.conf", "PrologSlurmctld="+s.path("slurmk8s"), "PrologSlurmctld=/opt/site/prolog")
		}, "plugstack.conf", Warning, "PrologSlurmctld=/opt/site/prolog: no such file", "unless PrologSlurmctld reclaims nodes"},
		{"a HealthCheckProgram that never runs", func(s *site) {
			s.nodeOnly()
			s.edit("slurm.conf", "HealthCheckInterval=60", "")
		}, "reconcile", Warning, "HealthCheckInterval is 0", "set HealthCheckInterval"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.broken(s)
			found := false
			var all []string
			for _, r := range s.results() {
				all = append(all, fmt.Sprint(r))
				found = found || r.Check == c.check && r.Status == c.status && strings.Contains(r.Found, c.says) && strings.Contains(r.Do, c.do)
				assert.NotContains(t, r.Found+r.Do, "\n")
				if r.Status != OK {
					assert.NotEmpty(t, r.Do, r.Found)
				}
			}
			assert.True(t, found, "no %s of %q says %q (do %q):\n%s", c.status, c.check, c.says, c.do, strings.Join(all, "\n"))
		})
	}
}

// bundles allows the bundle aok, and installs one of a name.
func (s *site) bundles(name, manifest string) {
	s.edit("slurmk8s.toml", "[[services", fmt.Sprintf("[bundles]\ndirs = [%q]\n[[bundles.allow]]\nusers = [\"*\"]\nbundles = [\"aok\"]\nnamespaces = [\"jobs\"]\n[[services", s.path("bundles")))
	require.NoError(s.t, os.MkdirAll(s.path("bundles/"+name), 0o755))
	s.write("bundles/"+name+"/bundle.toml", manifest+"[[phase]]\nname = \"all\"\nfiles = [\"map.yaml\"]\n", 0o644)
	s.write("bundles/"+name+"/map.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: \"${name}\"}}", 0o644)
}

// nodeOnly makes a compute node, where HealthCheckProgram is what reconciles.
func (s *site) nodeOnly() {
	s.remove("cron.d")
	s.o.Roles = []Role{Node}
}

// enable enables a timer that is shipped.
func (s *site) enable(name string) {
	for _, unit := range []string{name + ".timer", name + ".service"} {
		text, err := os.ReadFile("../../packaging/systemd/" + unit)
		require.NoError(s.t, err)
		s.write("lib/"+unit, string(text), 0o644)
	}
	require.NoError(s.t, os.MkdirAll(s.path("timers.target.wants"), 0o755))
	require.NoError(s.t, os.Symlink(s.path("lib/"+name+".timer"), s.path("timers.target.wants/"+name+".timer")))
}

// controllerTakes is the set-up of a site without a Kubernetes credential on its nodes:
// the program itself by one line of slurm.conf, a script around it by the other.
func (s *site) controllerTakes() {
	s.write("epilog.sh", "#!/bin/sh\nexec "+s.path("slurmk8s")+"\n", 0o755)
	s.edit("slurm.conf", "PrologFlags=Alloc,DeferBatch", "PrologSlurmctld="+s.path("slurmk8s")+"\nEpilogSlurmctld="+s.path("epilog.sh"))
	s.edit("plugstack.conf", "nodes=on ", "")
}

func (s *site) resultsOf(check string) []Result {
	return slices.DeleteFunc(s.results(), func(r Result) bool { return r.Check != check })
}

func TestAnEnabledTimerThatReconcilesIsFound(t *testing.T) {
	for name, role := range map[string]Role{"slurmk8s-reconcile": Controller, "slurmk8s-node-reconcile": Node} {
		s := newSite(t)
		s.nodeOnly()
		s.o.Roles = []Role{role}
		s.enable(name)
		assert.Equal(t, []Result{{Check: "reconcile", Status: OK, Found: s.path("timers.target.wants/" + name + ".timer")}}, s.resultsOf("reconcile"))
	}
}

func TestASiteWhoseControllerTakesNodesNeedsNothingOnItsNodes(t *testing.T) {
	s := newSite(t)
	s.controllerTakes()
	for _, r := range s.results() {
		assert.Equal(t, OK, r.Status, "%s: %s", r.Check, r.Found)
	}
	assert.Equal(t, "slurmctld reclaims nodes and gives them back", s.resultsOf("PrologSlurmctld")[0].Found)
}

func TestAHostIsWhatSlurmConfSays(t *testing.T) {
	s := newSite(t)
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, c := range []struct {
		conf string
		want []Role
	}{
		{"ClusterName=alps\nSlurmctldHost=other\nSlurmctldHost=" + host + "(10.0.0.1)\n", []Role{Controller}},
		{"ClusterName=alps\nSlurmctldHost=" + host + "\nNodeName=c1\n", []Role{Controller, Node}},
		{"ClusterName=alps\nSlurmctldHost=x\nNodeName=c1\n", []Role{Node}},
		{"ClusterName=alps\nSlurmctldHost=x\nNodeName=c2\n", []Role{Login}},
	} {
		s.write("slurm.conf", c.conf, 0o644)
		o := s.o
		o.Roles = nil
		assert.Equal(t, c.want, newHost(o).o.Roles, c.conf)
	}
}

// TestASiteWithoutADutyIsNotBotheredWithIt: what is not configured is no fault.
func TestASiteWithoutADutyIsNotBotheredWithIt(t *testing.T) {
	s := newSite(t)
	s.write("slurmk8s.toml", fmt.Sprintf("slurm_conf = %q\nslurm_bin_dir = %q\nstate_dir = %q\n", s.path("slurm.conf"), s.dir, s.path("state")), 0o644)
	s.write("slurm.conf", "ClusterName=alps\nNodeName=c1\n", 0o644)
	s.remove("plugstack.conf")
	s.remove("burst_buffer.lua")
	s.remove("burst_buffer.conf")
	for _, r := range s.results() {
		assert.Equal(t, OK, r.Status, "%s: %s", r.Check, r.Found)
	}
}

func TestTheReportIsReadByPeopleAndPrograms(t *testing.T) {
	results := []Result{{"a", OK, "fine", ""}, {"longer", Failed, "broken\x1b[31m\nx", "fix it"}, {"c", Warning, "odd", "look"}}
	assert.Equal(t, Failed, Worst(results))
	assert.Equal(t, Warning, Worst([]Result{results[0], results[2]}))
	assert.Equal(t, OK, Worst(results[:1]))
	var text, asJSON bytes.Buffer
	Print(&text, results)
	assert.Equal(t, "ok       a       fine\nfailed   longer  broken [31m x\n                 -> fix it\nwarning  c       odd\n                 -> look\n"+
		"doctor: 1 failed, 1 warnings, 1 ok\n", text.String())
	require.NoError(t, PrintJSON(&asJSON, results))
	var back struct {
		Status Status
		Checks []Result
	}
	require.NoError(t, json.Unmarshal(asJSON.Bytes(), &back))
	assert.Equal(t, results, back.Checks)
	assert.Equal(t, Failed, back.Status)
}

func TestTheABIIsThatOfTheHeader(t *testing.T) {
	text, err := os.ReadFile("../../goffi/slurmk8s.h")
	require.NoError(t, err)
	m := regexp.MustCompile(`#define SLURMK8S_ABI (\d+)`).FindSubmatch(text)
	require.NotNil(t, m)
	assert.Equal(t, strconv.Itoa(version.ABI), string(m[1]))
}

func TestMirroredDrainsNeedAReturnToServiceWithoutReasons(t *testing.T) {
	for mirror, want := range map[string]Status{"off": OK, "to-kubernetes": OK, "to-slurm": Warning, "both": Warning} {
		s := newSite(t)
		s.edit("slurmk8s.toml", "[nodes]\n", fmt.Sprintf("[nodes]\nmirror = %q\n", mirror))
		s.edit("slurm.conf", "SlurmUser=root\n", "SlurmUser=root\nReturnToService=1\n")
		require.Equal(t, want, Worst(s.resultsOf("mirror")), mirror)
		s.edit("slurm.conf", "ReturnToService=1", "ReturnToService=2")
		require.Equal(t, OK, Worst(s.resultsOf("mirror")), mirror)
	}
}
