package slurmconf

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxConfigBytes bounds slurmk8s.toml.
const maxConfigBytes = 1 << 20

// Error is a mistake in slurmk8s.toml. Its text is one line that begins
// with "path:line: ".
type Error struct {
	Path string
	Line int    // from 1; 1 when the file as a whole is meant
	Key  string // dotted, "workflows.submit"; "" when no key is meant
	Msg  string
	Err  error // the cause, or nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d: ", e.Path, max(e.Line, 1))
	if e.Key != "" {
		s += e.Key + ": "
	}
	return oneLine(s + e.Msg)
}

func (e *Error) Unwrap() error { return e.Err }

// retired are keys of earlier versions, which files may still have, and what counts
// instead. They are accepted: an upgrade keeps the configuration.
var retired = map[string]string{
	"workflows.submit_timeout":    "submit_timeout_ms of burst_buffer.lua",
	"services.register_timeout":   "register_timeout_ms in plugstack.conf",
	"services.deregister_timeout": "deregister_timeout_ms in plugstack.conf",
}

// Retired returns a line for each key of the file that no longer has an effect.
func Retired(path string) []string {
	data, err := readRegular(path, maxConfigBytes)
	if err != nil {
		return nil // Load says it
	}
	d, err := parseDocument(path, data)
	if err != nil {
		return nil
	}
	var told []string
	for _, key := range d.md.Keys() {
		if instead := retired[key.String()]; instead != "" {
			told = append(told, fmt.Sprintf("%s no longer has an effect: set %s instead", key, instead))
		}
	}
	return told
}

// Load reads slurmk8s.toml strictly and fills in the defaults, those that come
// from Slurm's own files (Cluster, Workflows.Directive) included. The first thing
// that is wrong, in the order of the file, is returned as an *Error.
//
// The file must be owned by root or the effective uid and not be writable by
// others. A file that does not exist is an error (errors.Is fs.ErrNotExist).
func Load(path string) (*Config, error) {
	fileError := func(err error) error {
		return &Error{Path: path, Line: 1, Msg: err.Error(), Err: err}
	}
	f, st, err := openRegular(path)
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	if err := checkTrustedConfig(path, st); err != nil {
		return nil, fileError(err)
	}
	data, err := readAtMost(f, maxConfigBytes)
	if err != nil {
		return nil, fileError(err)
	}
	d, err := parseDocument(path, data)
	if err != nil {
		return nil, err
	}
	c := Default()
	if err := d.decode(c); err != nil {
		return nil, err
	}
	if err := d.validate(c); err != nil {
		return nil, err
	}
	if err := d.fillFromSlurm(c); err != nil {
		return nil, err
	}
	return c, nil
}

// fillFromSlurm sets what slurmk8s.toml leaves to Slurm's files.
func (d *document) fillFromSlurm(c *Config) error {
	if c.Cluster == "" {
		slurm, err := ReadSlurmConf(c.SlurmConf)
		switch {
		case slurm.ClusterName == "" && err != nil:
			return d.errorAt(nil, "cluster", err, "not set, and ClusterName cannot be read: %v", err)
		case slurm.ClusterName == "":
			return d.errorAt(nil, "cluster", nil, "not set, and %s has no ClusterName", c.SlurmConf)
		case !isDNSLabel(slurm.ClusterName, maxClusterBytes):
			return d.errorAt(nil, "cluster", nil, "ClusterName %s of %s cannot be part of a Kubernetes name: "+
				"set cluster to a name of at most %d lower-case letters, digits and \"-\"",
				quoted(slurm.ClusterName), c.SlurmConf, maxClusterBytes)
		}
		c.Cluster = slurm.ClusterName
	}
	if c.Workflows.Directive == "" {
		c.Workflows.Directive = "DW"
		// Not there, not readable: Slurm is without it too, or we are on a node
		// that does not need it.
		if bb, err := ReadBurstBufferConf(c.SlurmConf); err == nil || bb.Path != "" {
			c.Workflows.Directive = bb.Directive
		}
	}
	return nil
}

// document is a parsed slurmk8s.toml.
type document struct {
	path string
	md   toml.MetaData
	tree map[string]any
	root map[string]toml.Primitive // the same tree, for line only
}

func parseDocument(path string, data []byte) (*document, error) {
	d := &document{path: path}
	if err := CheckNesting(data); err != nil {
		return nil, &Error{Path: path, Line: 1, Msg: err.Error()}
	}
	md, err := toml.Decode(string(data), &d.root)
	d.md, d.tree = md, make(map[string]any, len(d.root))
	for key, value := range d.root {
		if err != nil {
			break
		}
		var tree any
		err = d.md.PrimitiveDecode(value, &tree)
		d.tree[key] = tree
	}
	if err != nil {
		e := &Error{Path: path, Line: 1, Msg: err.Error(), Err: err}
		if pe := (toml.ParseError{}); errors.As(err, &pe) {
			e.Line, e.Key, e.Msg = pe.Position.Line, pe.LastKey, pe.Message
		}
		return nil, e
	}
	return d, nil
}

// maxNesting bounds how deep brackets and dotted keys nest: the time of the toml
// package grows with the cube of it, to minutes for a file of the allowed size.
const maxNesting = 50

// CheckNesting refuses TOML that nests deeper than any of our files, before the toml package
// spends minutes on it.
func CheckNesting(data []byte) error {
	if deepest(data) > maxNesting {
		return errors.New("brackets or dotted keys are nested too deeply")
	}
	return nil
}

// deepest tells how deep data nests. It knows comments by the "#" at the start of
// their line only and texts not at all; more than maxNesting dots between two
// commas, or opening brackets without closing ones, are not expected there.
func deepest(data []byte) int {
	open, dots, most := 0, 0, 0
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
			continue
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				open++
				dots = 0
			case ']', '}':
				open = max(open-1, 0)
			case '.':
				dots++
			case '\n', ',', '=':
				dots = 0
			}
			most = max(most, open+dots)
		}
	}
	return most
}

// errorAt is an *Error at the line of key in the file, else at line 1.
func (d *document) errorAt(key toml.Key, name string, cause error, format string, args ...any) error {
	return &Error{Path: d.path, Line: d.line(key), Key: name, Msg: fmt.Sprintf(format, args...), Err: cause}
}

// lineProbe refuses whatever it is given: the toml package tells the line of a
// key in the error of its value only.
type lineProbe struct{}

var errProbe = errors.New("probe")

func (*lineProbe) UnmarshalTOML(any) error { return errProbe }

// line returns where key is, as far as it exists, or 1.
func (d *document) line(key toml.Key) int {
	line, table := 1, d.root
	for _, name := range key {
		value, ok := table[name]
		if !ok {
			break
		}
		if n := d.primitiveLine(value); n > 0 {
			line = n
		}
		table = nil
		if d.md.PrimitiveDecode(value, &table) != nil {
			break
		}
	}
	return line
}

// primitiveLine is where a value is, or 0.
func (d *document) primitiveLine(value toml.Primitive) int {
	var pe toml.ParseError
	if err := d.md.PrimitiveDecode(value, &lineProbe{}); errors.As(err, &pe) {
		return pe.Position.Line
	}
	return 0
}

// decode sets the fields of c that the file has, in the order of the file. It is
// not left to the toml package, which takes "Cluster" for "cluster", does not tell
// the line of an unknown key, and names Go types in its errors.
func (d *document) decode(c *Config) error {
	for _, key := range d.md.Keys() {
		if err := d.decodeKey(reflect.ValueOf(c).Elem(), key); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) decodeKey(field reflect.Value, key toml.Key) error {
	var value any = d.tree
	for i, name := range key {
		table, isTable := value.(map[string]any)
		if field.Kind() != reflect.Struct || !isTable {
			return d.wrongType(key, key[:i], field, value)
		}
		next, ok := fieldByKey(field, name)
		if !ok && retired[key.String()] != "" {
			return nil
		}
		if !ok {
			return d.errorAt(key, key[:i+1].String(), nil, "unknown key%s", suggest(field, key[:i+1]))
		}
		field, value = next, table[name]
		if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct {
			if i+1 < len(key) {
				return nil // was set with its list
			}
			switch list := field.Addr().Interface().(type) {
			case *[]ServiceRule:
				return decodeRules(d, list, defaultServiceRule, key, value)
			case *[]BundleRule:
				return decodeRules(d, list, defaultBundleRule, key, value)
			case *[]StorageRule:
				return decodeRules(d, list, defaultStorageRule, key, value)
			case *[]Preset:
				return decodeRules(d, list, defaultPreset, key, value)
			}
		}
	}
	return d.assign(field, key, value)
}

func (d *document) assign(field reflect.Value, key toml.Key, value any) error {
	switch p := field.Addr().Interface().(type) {
	case *Duration:
		if text, ok := value.(string); ok {
			if err := p.UnmarshalText([]byte(text)); err != nil {
				return d.errorAt(key, key.String(), nil, "%v", err)
			}
			return nil
		}
	case *string:
		if text, ok := value.(string); ok {
			*p = text
			return nil
		}
	case *[]string:
		if list, ok := stringList(value); ok {
			*p = list
			return nil
		}
	case *int:
		if n, ok := value.(int64); ok && n == int64(int(n)) {
			*p = int(n)
			return nil
		}
	case *map[string]any: // with keys that nobody knows before
		if table, ok := value.(map[string]any); ok {
			*p = table
			return nil
		}
	default: // a table: its keys come one by one
		if _, ok := value.(map[string]any); ok && field.Kind() == reflect.Struct {
			return nil
		}
	}
	return d.wrongType(key, key, field, value)
}

func stringList(value any) ([]string, bool) {
	items, ok := value.([]any)
	if !ok {
		return nil, false
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

// wrongType says what is expected at name, with an example.
func (d *document) wrongType(at, name toml.Key, field reflect.Value, value any) error {
	want := ""
	switch field.Interface().(type) {
	case Duration:
		want = `want a duration such as "30s"`
		switch n := value.(type) {
		case int64:
			want = fmt.Sprintf("a duration needs a unit, write \"%ds\"", n)
		case float64:
			want = fmt.Sprintf("a duration needs a unit, write \"%gs\"", n)
		}
	case string:
		want = fmt.Sprintf("want a quoted string, such as %s = %q", name[len(name)-1], exampleText(field))
	case int:
		want = fmt.Sprintf("want a number, such as %s = 8", name[len(name)-1])
	case []string:
		want = fmt.Sprintf(`want a list of strings, such as %s = ["alice", "bob"]`, name[len(name)-1])
	default:
		want = fmt.Sprintf("want a table, begun by a line [%s]", name)
	}
	return d.errorAt(at, name.String(), nil, "%s; found %s", want, describe(value))
}

func exampleText(field reflect.Value) string {
	if s := field.String(); s != "" && len(s) < 60 {
		return s // the default: fields are decoded over it
	}
	return "text"
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "the string " + quoted(v)
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case bool:
		return fmt.Sprintf("%v", v)
	case []any:
		for _, item := range v {
			if _, ok := item.(string); !ok {
				return "a list with " + describe(item)
			}
		}
		return "a list"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "a list of tables"
	}
	return "a date"
}

// quoted is s in quotes, shortened: the start is enough to find it.
func quoted(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}

// besideSlurmConf is a file in the directory of slurm.conf, as Slurm's
// get_extra_conf_path finds it.
func besideSlurmConf(slurmConf, name string) string {
	return filepath.Join(filepath.Dir(slurmConf), name)
}
