package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// PluginFile is the name of our SPANK plugin, wherever it is installed. Next to it are
// NodesPluginFile, which has the prolog that nodes=on needs, and NoEpilogPluginFile, for
// which Slurm runs no process after each job.
const (
	PluginFile         = "slurmk8s_spank.so"
	NodesPluginFile    = "slurmk8s_nodes_spank.so"
	NoEpilogPluginFile = "slurmk8s_noepilog_spank.so"
)

// IsPlugin tells whether a file is our SPANK plugin, any of the three.
func IsPlugin(path string) bool {
	return slices.Contains([]string{PluginFile, NodesPluginFile, NoEpilogPluginFile}, filepath.Base(path))
}

// slurmLine is a line that a file of Slurm's is to have.
type slurmLine struct {
	file  string
	text  string
	there bool
	clash string // what stands against adding it, and what to do
}

// slurm says which lines Slurm's files lack, or appends them. A line that is there
// with another value is the administrator's to change.
func (o *Options) slurm(p *printer) error {
	lines, err := o.slurmLines()
	if err != nil {
		return err
	}
	missing := map[string][]string{}
	var files []string
	for _, l := range lines {
		switch {
		case l.there:
			p.did(Unchanged, fmt.Sprintf("line %q of %s", l.text, l.file))
		case l.clash != "":
			p.later("- %s: %s", l.file, l.clash)
		default:
			if missing[l.file] == nil {
				files = append(files, l.file)
			}
			missing[l.file] = append(missing[l.file], l.text)
		}
	}
	for _, file := range files {
		if !o.WriteSlurmConf {
			p.later("- add to %s (or run setup with --write-slurm-conf):\n    %s", file, strings.Join(missing[file], "\n    "))
			continue
		}
		change, err := appendLines(file, missing[file])
		if err != nil {
			return err
		}
		p.did(change, fmt.Sprintf("%s: %s", file, strings.Join(missing[file], "; ")))
		p.later("- restart slurmctld, and slurmd on the nodes: %s was changed", file)
	}
	return nil
}

func (o *Options) slurmLines() ([]slurmLine, error) {
	path := o.Config.SlurmConf
	conf, err := slurmconf.ReadSlurmConf(path)
	if err != nil {
		return nil, err
	}
	burst := slurmLine{file: path, text: "BurstBufferType=burst_buffer/lua", there: conf.BurstBufferType == "burst_buffer/lua"}
	if conf.BurstBufferType != "" && !burst.there {
		burst.clash = fmt.Sprintf("BurstBufferType is %s, and Slurm supports only one: change it to burst_buffer/lua for #DW lines", conf.BurstBufferType)
	}
	lines := append([]slurmLine{burst}, o.burstBufferLines()...)
	if !o.nodes() && !o.Config.Nodes.Reclaims() {
		return lines, nil
	}
	plugstack := slurmconf.PlugstackPath(path)
	plugin := slurmLine{file: plugstack, text: "optional " + o.Plugin}
	if o.Config.Nodes.Reclaims() {
		plugin.text = "optional " + filepath.Join(filepath.Dir(o.Plugin), NodesPluginFile) + " nodes=on"
	}
	if o.nodes() {
		plugin.text += " workflows=on" // with the credential that nodes have then
	}
	plugins, err := slurmconf.ReadPlugstack(plugstack)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, l := range plugins {
		if IsPlugin(l.Path) {
			plugin.there, plugin.file, plugin.text = true, l.File, l.String() // its arguments are the administrator's
		}
	}
	if _, err := os.Stat(o.Plugin); err != nil && !plugin.there {
		plugin.clash = fmt.Sprintf("add %q once the plugin is installed (%v)", plugin.text, err)
	}
	return append(lines, plugin), nil
}

func (o *Options) burstBufferLines() []slurmLine {
	file := filepath.Join(filepath.Dir(o.Config.SlurmConf), "burst_buffer.conf")
	if bb, err := slurmconf.ReadBurstBufferConf(o.Config.SlurmConf); err == nil && bb.Path != "" {
		file = bb.Path
	}
	values, _ := slurmconf.Values(file)
	word := o.Config.Workflows.Directive
	if values["directive"] == "" && word == "BB_LUA" { // Slurm's own default, which nobody chose
		word = "DW"
	}
	directive := slurmLine{file: file, text: "Directive=" + word, there: values["directive"] == word}
	if values["directive"] != "" && !directive.there {
		directive.clash = fmt.Sprintf("Directive is %s but workflows.directive of slurmk8s.toml is %s: make them equal", values["directive"], word)
	}
	bb := slurmconf.BurstBuffer{Flags: strings.Split(values["flags"], ",")}
	flags := slurmLine{file: file, text: "Flags=TeardownFailure", there: bb.HasFlag("TeardownFailure")}
	if values["flags"] != "" && !flags.there {
		flags.clash = fmt.Sprintf("add TeardownFailure to Flags=%s: without it a job whose stage-in or stage-out fails is held and keeps its storage", values["flags"])
	}
	return []slurmLine{directive, flags}
}

// appendLines adds lines to a file, which keeps its owner and mode; one that is not
// there is made.
func appendLines(path string, lines []string) (Change, error) {
	// A link stays a link: the file may be kept elsewhere.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	added := "# Added by slurmk8s setup.\n" + strings.Join(lines, "\n") + "\n"
	had, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Created, writeFile(path, []byte(added), 0o644, nil)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	of, err := ownerOf(path)
	if err != nil {
		return "", err
	}
	if len(had) > 0 && had[len(had)-1] != '\n' {
		added = "\n" + added
	}
	return Changed, writeFile(path, append(had, added...), info.Mode().Perm(), of)
}
