package slurmconf

import (
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// StorageRule allows some users some directives of storage. It needs at least one of Users,
// Groups and Accounts; one match is enough.
type StorageRule struct {
	Users    []string `toml:"users"`    // user names; "*" is everybody
	Groups   []string `toml:"groups"`   // names of Unix groups
	Accounts []string `toml:"accounts"` // Slurm accounts
	// Directives are the words after #DW that they may use. Default: all of
	// StorageDirectives but create_persistent.
	Directives []string `toml:"directives"`
	// Profiles are the values of profile= that they may use; "*" stands for any text. A
	// directive without profile= needs none. Default: "*".
	Profiles []string `toml:"profiles"`
	// Max are the largest capacities of one directive: "xfs=1TiB". For xfs, gfs2 and raw it is
	// that of each node, for lustre that of the file system; "persistent" is the largest
	// persistent instance of any type. Default: no limit but the storage's.
	Max []string `toml:"max"`
}

// StorageDirectives are the words after #DW of DWS's directives.
var StorageDirectives = []string{"jobdw", "persistentdw", "create_persistent", "destroy_persistent", "copy_in", "copy_out", "container"}

// Subjects are whom the rule is for.
func (r StorageRule) Subjects() Subjects { return Subjects{r.Users, r.Groups, r.Accounts} }

// Most is the largest capacity in bytes that a directive of this kind may have: "xfs",
// "persistent"; 0: there is no limit.
func (r StorageRule) Most(kind string) int64 {
	for _, limit := range r.Max {
		if name, size, _ := strings.Cut(limit, "="); name == kind {
			bytes, _ := Capacity(size)
			return bytes
		}
	}
	return 0
}

func defaultStorageRule() StorageRule {
	return StorageRule{
		Directives: slices.DeleteFunc(slices.Clone(StorageDirectives), func(word string) bool { return word == "create_persistent" }),
		Profiles:   []string{"*"},
	}
}

// Preset is a name for directives that a site's users write often.
type Preset struct {
	Name       string   `toml:"name"`       // the word after #DW
	Directives []string `toml:"directives"` // what stands for it, each with "#DW"
}

func defaultPreset() Preset { return Preset{} }

// Capacity reads a capacity as DWS's directives have it, an integer with a unit: "50GB". NNF
// takes no other form (config/dws/nnf-ruleset.yaml of nnf-sos).
func Capacity(text string) (bytes int64, ok bool) {
	digits := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit := map[string]int64{
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[text[len(digits):]]
	if err != nil || n < 0 || unit == 0 || n > (1<<63-1)/unit {
		return 0, false
	}
	return n * unit, true
}

func (d *document) validateStorageRules(w *Workflows) error {
	for i, r := range w.Allow {
		wrong := func(key, format string, args ...any) error {
			return d.invalidInRule("workflows", i, key, format, args...)
		}
		if err := checkSubjects(r.Subjects(), wrong); err != nil {
			return err
		}
		for _, word := range r.Directives {
			if !slices.Contains(StorageDirectives, word) {
				return wrong("directives", "%s must be one of %s", quoted(word), strings.Join(StorageDirectives, ", "))
			}
		}
		for _, limit := range r.Max {
			kind, size, _ := strings.Cut(limit, "=")
			if _, ok := Capacity(size); !ok || !slices.Contains([]string{"xfs", "gfs2", "raw", "lustre", "persistent"}, kind) {
				return wrong("max", "%s is not a limit: write for example \"xfs=1TiB\"; the kinds are xfs, gfs2, raw, lustre and persistent", quoted(limit))
			}
		}
	}
	names := map[string]bool{}
	for i, p := range w.Presets {
		wrong := func(key, format string, args ...any) error {
			return d.invalidInList(toml.Key{"workflows", "presets"}, i, key, format, args...)
		}
		switch {
		case !isNamePattern(p.Name) || strings.ContainsAny(p.Name, "*{"):
			return wrong("name", "%s is not a name of lower-case letters, digits and \"-\"", quoted(p.Name))
		case slices.Contains(StorageDirectives, p.Name) || p.Name == "bundle":
			return wrong("name", "%s is a directive already", quoted(p.Name))
		case names[p.Name]:
			return wrong("name", "%s is given twice", quoted(p.Name))
		case len(p.Directives) == 0:
			return wrong("directives", "not set: a preset stands for at least one directive")
		}
		names[p.Name] = true
		for _, line := range p.Directives {
			if words := strings.Fields(line); len(words) < 2 || words[0] != "#DW" || strings.ContainsAny(line, "\n\r\\") {
				return wrong("directives", "%s is not a directive: write for example \"#DW jobdw type=xfs capacity=100GiB name=scratch\"", quoted(line))
			}
		}
	}
	return nil
}
