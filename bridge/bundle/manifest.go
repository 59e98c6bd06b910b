package bundle

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// manifestName is the file that makes a folder a bundle.
const manifestName = "bundle.toml"

// Defaults of bundle.toml.
const (
	defaultTimeout       = 2 * time.Minute
	defaultDeleteTimeout = time.Minute
)

// manifest is bundle.toml while it is read: what is not part of a Bundle, too.
type manifest struct {
	kinds []schema.GroupVersionKind // beyond the usual ones
}

// readManifest sets what bundle.toml says. An unknown key is an error.
func (b *Bundle) readManifest(data []byte) (manifest, error) {
	if err := slurmconf.CheckNesting(data); err != nil {
		return manifest{}, fmt.Errorf("%s: %v", manifestName, err)
	}
	var tree map[string]any
	md, err := toml.Decode(string(data), &tree)
	if err != nil {
		if pe := (toml.ParseError{}); errors.As(err, &pe) {
			return manifest{}, fmt.Errorf("%s:%d: %s", manifestName, pe.Position.Line, pe.Message)
		}
		return manifest{}, fmt.Errorf("%s: %v", manifestName, err)
	}
	t := &table{values: tree}
	b.Summary = t.text("summary", "")
	b.When = t.oneOf("when", WhenStage, WhenStage, WhenStart)
	b.Timeout = t.duration("timeout", defaultTimeout)
	b.DeleteTimeout = t.duration("delete_timeout", defaultDeleteTimeout)
	b.OnFailure = t.oneOf("on_failure", OnFailureHold, OnFailureHold, OnFailureCancel, OnFailureProceed)
	b.Images = t.list("images")
	m := manifest{kinds: t.kinds("kinds")}
	b.readParams(t.table("param"), order(md))
	for i, phase := range t.tables("phase") {
		b.Phases = append(b.Phases, phase.phase(i))
	}
	env := t.table("env")
	for _, name := range slices.Sorted(maps.Keys(env.values)) {
		if b.Env == nil {
			b.Env = map[string]string{}
		}
		if !isVariable(name) {
			env.fail(name, "a variable has upper-case letters, digits and \"_\", and does not begin with SLURM or LD_")
		}
		b.Env[name] = env.text(name, "")
	}
	return m, t.finish()
}

// order lists the parameters as the file does.
func order(md toml.MetaData) []string {
	var names []string
	for _, key := range md.Keys() {
		if len(key) > 1 && key[0] == "param" && !slices.Contains(names, key[1]) {
			names = append(names, key[1])
		}
	}
	return names
}

func isVariable(name string) bool {
	return name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (name[0] < '0' || name[0] > '9') &&
		!strings.HasPrefix(name, "SLURM") && !strings.HasPrefix(name, "LD_")
}

// nameDefault is what the parameter "name" is if nobody says otherwise.
const nameDefault = "${instance}-${job}"

func (b *Bundle) readParams(t *table, names []string) {
	if _, declared := t.values["name"]; !declared {
		b.Params = append(b.Params, &Param{
			Name: "name", Type: Name, Default: nameDefault, HasDefault: true, Help: "begins the names of the objects", room: maxNameBytes,
		})
	}
	for _, name := range names {
		if !isParamName(name) {
			t.fail(name, "a parameter's name has at most %d lower-case letters, digits and \"_\", a letter first", maxParamNameBytes)
		}
		if isReserved(name) {
			t.fail(name, "no parameter can have this name: it has a meaning in every bundle")
		}
		b.Params = append(b.Params, t.table(name).param(name, b.Images))
	}
}

// param reads [param.NAME]. Each type has keys of its own; another one is unknown.
func (t *table) param(name string, images []string) *Param {
	p := &Param{Name: name, Help: t.text("help", ""), images: images, room: maxNameBytes}
	if _, given := t.values["type"]; !given {
		t.fail("type", "missing")
	}
	choices := make([]string, len(types))
	for i, kind := range types {
		choices[i] = string(kind)
	}
	p.Type = Type(t.oneOf("type", string(String), choices...))
	if p.Type == Derived {
		p.From, p.Plus = t.text("from", ""), t.number("plus", 0)
		return p
	}
	if p.Type != Arguments && p.Type != Label {
		p.Default, p.HasDefault = t.scalar("default")
		p.Optional = t.boolean("optional")
		if p.HasDefault && p.Optional {
			t.fail("optional", "a parameter with a default always has a value")
		}
	}
	if p.Type.ordered() {
		p.Min, _ = t.scalar("min")
		p.Max, _ = t.scalar("max")
		t.checkBound("min", p, p.Min)
		t.checkBound("max", p, p.Max)
	}
	switch p.Type {
	case String:
		p.Pattern = t.pattern("pattern")
		if most := t.number("max", maxValueBytes); most < 1 || most > maxValueBytes {
			t.fail("max", "from 1 to %d bytes", maxValueBytes)
		} else {
			p.Max = strconv.FormatInt(most, 10)
		}
		p.Match = t.list("match")
	case Name:
		p.Match = t.list("match")
		if name == "name" && !p.HasDefault && !p.Optional {
			p.Default, p.HasDefault = nameDefault, true
		}
	case Enum:
		if p.Choices = t.list("choices"); len(p.Choices) == 0 {
			t.fail("choices", "missing")
		}
		for _, choice := range p.Choices {
			if err := checkPlain(choice); err != nil {
				t.fail("choices", "%s: %v", wire.Quote(choice), err)
			}
		}
	case Image:
		if len(images) == 0 {
			t.fail("type", "image needs a list images at the top of the file")
		}
	case Arguments:
		p.Pattern = t.pattern("pattern")
		own := t.table("patterns")
		for name := range own.values {
			if p.Patterns == nil {
				p.Patterns = map[string]string{}
			}
			p.Patterns[name] = own.pattern(name)
		}
	}
	return p
}

func (t *table) checkBound(key string, p *Param, text string) {
	if text == "" {
		return
	}
	if _, _, err := p.Type.read(text); err != nil {
		t.fail(key, "%s: %v", wire.Quote(text), err)
	}
}

func (t *table) pattern(key string) string {
	pattern := t.text(key, "")
	if _, err := whole(pattern); err != nil {
		t.fail(key, "%v", err)
	}
	return pattern
}

func (t *table) phase(i int) *PhaseTemplate {
	p := &PhaseTemplate{
		Name:     t.text("name", "phase"+strconv.Itoa(i+1)),
		Files:    t.list("files"),
		Wait:     t.text("wait", WaitReady),
		OnlyIf:   t.text("only_if", ""),
		OnDelete: t.oneOf("on", "create", "create", "delete") == "delete",
	}
	if len(validation.IsDNS1123Label(p.Name)) > 0 {
		t.fail("name", "want lower-case letters, digits and \"-\"")
	}
	if len(p.Files) == 0 {
		t.fail("files", "missing")
	}
	for _, file := range p.Files {
		if file == "" || strings.Contains(file, "/") || file == manifestName || strings.HasPrefix(file, ".") {
			t.fail("files", "%s: want the names of files in the folder", wire.Quote(file))
		}
	}
	condition, isCondition := strings.CutPrefix(p.Wait, WaitCondition)
	kind, status, both := strings.Cut(condition, "=")
	switch {
	case isCondition && (!both || kind == "" || status != "True" && status != "False" && status != "Unknown"):
		t.fail("wait", "want condition:TYPE=STATUS, such as condition:Available=True")
	case !isCondition && p.Wait != WaitReady && p.Wait != WaitNone && p.Wait != WaitEndpoints:
		t.fail("wait", "must be %s, %s, %s or condition:TYPE=STATUS", WaitReady, WaitNone, WaitEndpoints)
	}
	return p
}

// table is a table of bundle.toml while it is read. The first mistake is kept.
type table struct {
	name   string // dotted, with a dot at its end
	values map[string]any
	known  []string
	below  []*table
	err    error
}

func (t *table) fail(key, format string, args ...any) {
	if t.err == nil {
		t.err = fmt.Errorf("%s: %s%s: %s", manifestName, t.name, key, fmt.Sprintf(format, args...))
	}
}

func (t *table) take(key string) (any, bool) {
	t.known = append(t.known, key)
	value, ok := t.values[key]
	return value, ok
}

func take[V any](t *table, key string, otherwise V, want string) V {
	value, ok := t.take(key)
	if !ok {
		return otherwise
	}
	v, ok := value.(V)
	if !ok {
		t.fail(key, "want %s", want)
		return otherwise
	}
	return v
}

func (t *table) text(key, otherwise string) string { return take(t, key, otherwise, "a quoted string") }
func (t *table) boolean(key string) bool           { return take(t, key, false, "true or false") }
func (t *table) number(key string, otherwise int64) int64 {
	return take(t, key, otherwise, "a number")
}

// scalar is a value as a user would write it.
func (t *table) scalar(key string) (text string, given bool) {
	value, given := t.take(key)
	switch v := value.(type) {
	case nil:
	case string, int64, bool:
		text = textOf(v)
	default:
		t.fail(key, "want a string, a number, true or false")
	}
	return text, given
}

func (t *table) oneOf(key, otherwise string, choices ...string) string {
	text := t.text(key, otherwise)
	if !slices.Contains(choices, text) {
		t.fail(key, "must be one of %s", strings.Join(choices, ", "))
	}
	return text
}

func (t *table) duration(key string, otherwise time.Duration) time.Duration {
	d, err := time.ParseDuration(t.text(key, otherwise.String()))
	if err != nil || d <= 0 {
		t.fail(key, "want a time such as \"2m\"")
	}
	return d
}

func (t *table) list(key string) []string {
	var list []string
	for _, element := range take(t, key, []any(nil), "a list of strings") {
		text, ok := element.(string)
		if !ok {
			t.fail(key, "want a list of strings")
		}
		list = append(list, text)
	}
	return list
}

func (t *table) kinds(key string) []schema.GroupVersionKind {
	var kinds []schema.GroupVersionKind
	for _, text := range t.list(key) {
		version, kind, ok := strings.Cut(text, " ")
		gv, err := schema.ParseGroupVersion(version)
		if !ok || err != nil || kind == "" || path.Base(version) == "" {
			t.fail(key, "%s: want GROUP/VERSION KIND, such as \"example.org/v1 Widget\"", wire.Quote(text))
		}
		kinds = append(kinds, gv.WithKind(kind))
	}
	return kinds
}

func (t *table) table(key string) *table {
	below := &table{name: t.name + key + ".", values: take(t, key, map[string]any(nil), "a table")}
	t.below = append(t.below, below)
	return below
}

func (t *table) tables(key string) []*table {
	var tables []*table
	for i, values := range take(t, key, []map[string]any(nil), "a list of tables, each begun by [["+key+"]]") {
		below := &table{name: fmt.Sprintf("%s%s[%d].", t.name, key, i+1), values: values}
		t.below = append(t.below, below)
		tables = append(tables, below)
	}
	return tables
}

// finish returns the first mistake of a table and those below it, a key that nobody took
// last.
func (t *table) finish() error {
	if t.err != nil {
		return t.err
	}
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(t.known, key) {
			return fmt.Errorf("%s: %s%s: unknown key%s", manifestName, t.name, key, nearest(key, t.known))
		}
	}
	for _, below := range t.below {
		if err := below.finish(); err != nil {
			return err
		}
	}
	return nil
}
