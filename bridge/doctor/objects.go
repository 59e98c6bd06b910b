package doctor

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/setup"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func lookPlugstack(_ context.Context, h *host, r *report) {
	path := slurmconf.PlugstackPath(h.cfg.SlurmConf)
	plugins, err := slurmconf.ReadPlugstack(path)
	i := slices.IndexFunc(plugins, func(p slurmconf.SpankPlugin) bool { return setup.IsPlugin(p.Path) })
	if i < 0 {
		switch {
		case !h.services() && !h.takesNode():
			r.ok("not used: no job has services or reclaims nodes here")
		case err != nil:
			r.fail("add a line \"optional DIRECTORY/"+setup.PluginFile+"\" to it", "%v", err)
		default:
			r.fail("add a line \"optional DIRECTORY/"+setup.PluginFile+"\" to it", "%s does not name %s: --k8s-register and the other options are unknown here", path, setup.PluginFile)
		}
		return
	}
	h.plugin = &plugins[i]
	p := h.plugin
	if !filepath.IsAbs(p.Path) {
		r.fail("use its absolute path", "%s:%d: %s is relative, so Slurm looks for it in PluginDir", p.File, p.Line, p.Path)
	}
	if p.Required {
		r.warn("use \"optional\": a failed registration fails its job anyway", "%s:%d: required: if the plugin is missing or built for another release, every Slurm command fails and every job drains its node", p.File, p.Line)
	}
	reclaims := slices.Contains(p.Args, "nodes=on")
	if h.takesNode() && !reclaims && h.is([]Role{Node}) {
		if _, err := h.slurmctldRuns(prologSlurmctld); err != nil { // on the controller only, perhaps
			r.warn("add nodes=on to the line, unless PrologSlurmctld reclaims nodes", "%s:%d: nodes=on is missing, and %v", p.File, p.Line, err)
		} else {
			r.fail("add nodes=on to the line", "%s:%d: nodes=on is missing: [nodes] of slurmk8s.toml has no effect", p.File, p.Line)
		}
	}
	if h.controllerTakes() && reclaims {
		r.warn("remove nodes=on from the line", "%s:%d: nodes=on is set, but PrologSlurmctld reclaims nodes too: use only one of them", p.File, p.Line)
	}
	if file := filepath.Base(p.Path); reclaims && file != setup.NodesPluginFile {
		r.fail("use "+setup.NodesPluginFile+" instead", "%s:%d: nodes=on: %s has no prolog, and every job with its options fails", p.File, p.Line, file)
	}
	const margin = 2 * time.Second // for what the epilog does after that
	if limit, wait := pluginMilliseconds(p, "epilog_timeout_ms", 10*time.Second), h.cfg.Workflows.UnmountTimeout.Std(); wait > 0 && limit < wait+margin {
		r.fail(fmt.Sprintf("set epilog_timeout_ms=%d on the line, or lower workflows.unmount_timeout", (wait+10*time.Second).Milliseconds()),
			"%s:%d: epilog_timeout_ms is %s, but workflows.unmount_timeout is %s: the epilog ends before that, and drains no node", p.File, p.Line, limit, wait)
	}
	if config := argument(p, "config"); config != "" && config != h.o.ConfigPath {
		r.fail("use the same file for both", "%s:%d: the plugin reads %s, but doctor checks %s", p.File, p.Line, config, h.o.ConfigPath)
	}
	h.trusted(r, p.File, "")
	r.good("%s:%d: %s", p.File, p.Line, p.Path)
}

func argument(p *slurmconf.SpankPlugin, key string) string {
	for _, a := range p.Args {
		if value, ok := strings.CutPrefix(a, key+"="); ok {
			return value
		}
	}
	return ""
}

func pluginMilliseconds(p *slurmconf.SpankPlugin, key string, otherwise time.Duration) time.Duration {
	n, err := strconv.Atoi(argument(p, key))
	if err != nil {
		return otherwise
	}
	return time.Duration(n) * time.Millisecond
}

// opened is an object of slurmk8s, to be closed; false: it cannot be read. The report says so,
// and whether somebody else could change it.
func (h *host) opened(r *report, path, missing string) (object, bool) {
	if !h.trusted(r, path, missing) {
		return object{}, false
	}
	o, err := openObject(path)
	if err != nil {
		r.fail("install it again", "%s: %v", path, err)
	}
	return o, err == nil
}

// lookPlugin wants the plugin of Slurm's own release: Slurm loads no other.
func lookPlugin(_ context.Context, h *host, r *report) {
	if h.plugin == nil {
		return
	}
	path := h.plugin.Path
	o, ok := h.opened(r, path, "install slurmk8s's SPANK plugin there")
	if !ok {
		return
	}
	defer o.Close()
	number, err := o.number("plugin_version")
	if err != nil {
		r.fail("install it again", "%s is not a Slurm plugin: it %v", path, err)
		return
	}
	built := [2]int{int(number >> 16 & 0xff), int(number >> 8 & 0xff)}
	if v := h.version; v.Major != 0 && built != [2]int{v.Major, v.Minor} {
		r.fail("install the plugin for this release", "%s is built for Slurm %d.%02d, but %s is installed, which does not load it", path, built[0], built[1], v)
	}
	r.good("%s, for Slurm %d.%02d", path, built[0], built[1])
}

// lookLibrary checks each libslurmk8s.so that is configured on this host.
func lookLibrary(_ context.Context, h *host, r *report) {
	var paths []string
	if s, err := readScript(h.script(), burstBufferTable); err == nil && h.is([]Role{Controller}) {
		paths = append(paths, s.settings["library"])
	}
	if h.plugin != nil {
		library := argument(h.plugin, "library")
		if library == "" {
			library = defaultLibrary(h.plugin.Path)
		}
		if library != "" {
			paths = append(paths, library)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		h.library(r, path)
	}
}

// defaultLibrary is the path that was compiled into the plugin; "" if it has none.
func defaultLibrary(plugin string) string {
	o, err := openObject(plugin)
	if err != nil {
		return "" // lookPlugin says it
	}
	defer o.Close()
	section := o.Section(".rodata")
	if section == nil {
		return ""
	}
	data, err := section.Data()
	if err != nil {
		return ""
	}
	for text := range bytes.SplitSeq(data, []byte{0}) {
		if bytes.HasPrefix(text, []byte("/")) && bytes.HasSuffix(text, []byte("/libslurmk8s.so")) {
			return string(text)
		}
	}
	return ""
}

func (h *host) library(r *report, path string) {
	o, ok := h.opened(r, path, "install slurmk8s's library there")
	if !ok {
		return
	}
	defer o.Close()
	abi, err := o.abi()
	switch {
	case err != nil:
		r.fail("install program, plugin and library of one version", "%s %v", path, err)
	case abi != version.ABI:
		r.fail("install program, plugin and library of one version", "%s has ABI %d, this program has ABI %d", path, abi, version.ABI)
	default:
		r.ok("%s, ABI %d", path, abi)
	}
}

// luaName compiles here and not at the start of each hook.
func luaName() *regexp.Regexp { return regexp.MustCompile(`^liblua[-.]?(\d\.\d)?.*\.so`) }

// lookLua finds out which Lua Slurm runs, and that our module can be loaded there.
func lookLua(ctx context.Context, h *host, r *report) {
	if !h.workflows() {
		return
	}
	const name = "burst_buffer_lua.so"
	dirs, sure := h.pluginDirs(ctx)
	plugin := find(dirs, name)
	if plugin == "" && !sure {
		r.warn("run doctor again while slurmctld runs: it knows its PluginDir", "cannot tell which Lua Slurm uses: no %s in %s", name, strings.Join(dirs, ", "))
		return
	}
	if plugin == "" {
		r.fail("install it (Debian: slurm-wlm-basic-plugins), or build Slurm with Lua's headers there", "Slurm has no %s in %s", name, strings.Join(dirs, ", "))
		return
	}
	o, err := openObject(plugin)
	if err != nil {
		r.fail("install Slurm's plugins again", "%s: %v", plugin, err)
		return
	}
	defer o.Close()
	needed, _ := o.ImportedLibraries()
	lua := ""
	for _, name := range needed {
		if luaName().MatchString(name) {
			lua = name
		}
	}
	if lua != "" && find(h.o.Paths.LibraryDirs, lua) == "" {
		r.fail("install the package that has "+lua, "%s needs %s, which is not in %s", plugin, lua, strings.Join(h.o.Paths.LibraryDirs, ", "))
	}
	// Slurm opens "liblua.so" first, whatever its version, and for all to see.
	if stray := find(h.o.Paths.LibraryDirs, "liblua.so"); stray != "" && lua != "" && luaVersion(stray) != "" && luaVersion(stray) != luaVersionOf(lua) {
		r.warn("remove the development package that owns it", "%s is Lua %s, but %s is built with %s: slurmctld loads both", stray, luaVersion(stray), plugin, lua)
	}
	s, err := readScript(h.script(), burstBufferTable)
	if err != nil {
		return // lookScript says it
	}
	module := s.settings["module"]
	m, ok := h.opened(r, module, "install slurmk8s's Lua module there")
	if !ok {
		return
	}
	defer m.Close()
	if _, ok := m.symbol("luaopen_slurmk8s"); !ok {
		r.fail("install it again", "%s is not slurmk8s's Lua module", module)
	}
	if lua == "" {
		lua = "the liblua that is installed"
	}
	r.good("%s uses %s; %s supports Lua 5.1 to 5.4", plugin, lua, module)
}

// pluginDirs are the directories of Slurm's plugins, and whether Slurm itself says so. The
// default is compiled into Slurm, so that only slurmctld knows it.
func (h *host) pluginDirs(ctx context.Context) (dirs []string, sure bool) {
	set := h.values["plugindir"]
	if settings, err := h.commands.Config(ctx); err == nil && settings["PluginDir"] != "" {
		set = settings["PluginDir"]
	}
	if set != "" {
		return strings.Split(set, ":"), true
	}
	return h.o.Paths.PluginDirs, false
}

// find is the first file of that name in directories, which may be patterns.
func find(dirs []string, name string) string {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func luaVersionOf(soname string) string {
	if m := luaName().FindStringSubmatch(soname); m != nil {
		return m[1]
	}
	return ""
}

// luaVersion reads it off the object's own name, since liblua.so is a link.
func luaVersion(path string) string {
	o, err := openObject(path)
	if err != nil {
		return ""
	}
	defer o.Close()
	names, err := o.DynString(elf.DT_SONAME)
	if err != nil || len(names) == 0 {
		return ""
	}
	return luaVersionOf(names[0])
}
