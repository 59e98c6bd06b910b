// Package packages tests what make install does to files that a site has already. The packages
// themselves are tested by the scripts here.
package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle"
)

// host is a directory that make installs into: of files that stand for what is built.
type host struct {
	t        *testing.T
	build    string
	dest     string
	prefix   string
	settings string
}

func newHost(t *testing.T) *host {
	h := &host{t: t, build: t.TempDir(), dest: t.TempDir(), prefix: "/opt/slurmk8s", settings: "/etc/slurm"}
	for _, file := range []string{
		"bin/slurmk8s", "lib/libslurmk8s.so", "lib/slurmk8s_lua.so", "etc/burst_buffer.lua", "etc/job_submit.lua",
	} {
		h.write(filepath.Join(h.build, file), "built "+file)
	}
	return h
}

func (h *host) write(path, text string) {
	require.NoError(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(h.t, os.WriteFile(path, []byte(text), 0o644))
}

func (h *host) path(installed string) string { return filepath.Join(h.dest, installed) }

// install returns what make says.
func (h *host) install() string {
	h.t.Helper()
	cmd := exec.Command("make", "--silent", "--old-file=all", "install", "B="+h.build, "DESTDIR="+h.dest,
		"PREFIX="+h.prefix, "SYSCONFDIR="+h.settings, "SLURM_INCLUDE=/nowhere")
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	require.NoError(h.t, err, string(out))
	return string(out)
}

func (h *host) read(path string) string {
	h.t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(h.t, err)
	return string(text)
}

func TestInstallLinksBurstBufferScript(t *testing.T) {
	h := newHost(t)
	for range 2 { // the second time is an upgrade
		assert.NotContains(t, h.install(), "kept")
		target, err := os.Readlink(h.path("etc/slurm/burst_buffer.lua"))
		require.NoError(t, err)
		assert.Equal(t, "/opt/slurmk8s/share/burst_buffer.lua", target)
		assert.Equal(t, "built etc/burst_buffer.lua", h.read(h.path(target)))
	}
}

func TestInstallKeepsBurstBufferScriptOfSite(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		said       bool
	}{
		{"its own", "-- ours\n", true},
		{"one that calls slurmk8s's", "dofile(\"/usr/local/share/burst_buffer.lua\")\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.prefix, h.settings = "/usr/local", "/opt/slurm/etc"
			sites := h.path("opt/slurm/etc/burst_buffer.lua")
			h.write(sites, tt.text)
			said := h.install()
			assert.Equal(t, tt.text, h.read(sites))
			assert.Equal(t, "built etc/burst_buffer.lua", h.read(h.path("usr/local/share/burst_buffer.lua")))
			line := "slurmk8s: kept the site's own " + sites + ": call /usr/local/share/burst_buffer.lua from it, see docs/installation.md\n"
			assert.Equal(t, tt.said, strings.Contains(said, line), said)
		})
	}
}

// The script that the documentation shows, with each Lua that Slurm may have.
func TestSitesBurstBufferScriptCallsOurs(t *testing.T) {
	_, block, _ := strings.Cut(newHost(t).read("../../docs/installation.md"), "```lua\n")
	block, _, _ = strings.Cut(block, "```")
	script := strings.Replace(block, "/usr/share/slurmk8s/burst_buffer.lua", "../../lua/burst_buffer.lua.in", 1)
	script = "slurm = {}\n" + strings.Replace(script, "-- your own code", `print("job " .. job_id)`, 1) + `
		for name in pairs(_G) do
			if name:match("^slurm_bb_") then print(name) end
		end
		slurm.SUCCESS, slurm.ERROR = 0, -1
		slurm.log_error, slurm.log_info = function() end, function() end
		print(slurm_bb_setup(7, 1000, 1000, "dws", 0, "/job"))`
	for _, version := range []string{"5.1", "5.2", "5.3", "5.4"} {
		t.Run(version, func(t *testing.T) {
			out, err := exec.Command("lua"+version, "-e", script).CombinedOutput()
			require.NoError(t, err, string(out))
			assert.Contains(t, string(out), "job 7\n-1\tslurmk8s: cannot load its Lua module")
			for _, name := range []string{"job_process", "pools", "paths", "data_in", "pre_run", "post_run", "data_out", "job_teardown", "get_status"} {
				assert.Contains(t, string(out), "slurm_bb_"+name+"\n")
			}
		})
	}
}

func TestInstallKeepsConfiguration(t *testing.T) {
	h := newHost(t)
	h.write(h.path("etc/slurm/slurmk8s.toml"), "cluster = \"ours\"\n")
	h.install()
	assert.Equal(t, "cluster = \"ours\"\n", h.read(h.path("etc/slurm/slurmk8s.toml")))
}

func TestInstallBringsTheBundles(t *testing.T) {
	h := newHost(t)
	h.install()
	for _, name := range []string{"arkouda-exporter", "arkouda-on-kubernetes", "argo", "jupyter-proxy", "service-monitor"} {
		b, err := bundle.LoadUntrusted(h.path("/opt/slurmk8s/share/bundles/" + name))
		require.NoError(t, err)
		assert.NotEmpty(t, b.Summary)
	}
	info, err := os.Stat(h.path("/opt/slurmk8s/share/bundles/argo/bundle.toml"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
}
