package slurmconf

import (
	"fmt"
	"reflect"

	"github.com/BurntSushi/toml"
)

// decodeRules sets a list of tables, such as [[services.allow]]: each begins with
// the defaults, and its keys are as strict as those of other tables.
func decodeRules[R any](d *document, list *[]R, defaults func() R, key toml.Key, value any) error {
	tables, ok := tableList(value)
	if !ok {
		return d.errorAt(key, key.String(), nil, "want a list of tables, each begun by a line [[%s]]; found %s",
			key, describe(value))
	}
	*list = make([]R, len(tables))
	for i, table := range tables {
		(*list)[i] = defaults()
		rule := reflect.ValueOf(&(*list)[i]).Elem()
		for _, name := range d.ruleKeys(key, table) {
			full := append(append(toml.Key{}, key...), name)
			field, known := fieldByKey(rule, name)
			err := error(nil)
			if known {
				err = d.assign(field, full, table[name])
			} else {
				err = d.errorAt(nil, full.String(), nil, "unknown key%s", suggest(rule, full))
			}
			if wrong, isOurs := err.(*Error); isOurs {
				wrong.Line, wrong.Key = d.ruleLine(key, i, name), fmt.Sprintf("%s[%d].%s", key, i+1, name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func tableList(value any) ([]map[string]any, bool) {
	if tables, ok := value.([]map[string]any); ok {
		return tables, true
	}
	items, ok := value.([]any) // inline tables, or none at all
	tables := make([]map[string]any, 0, len(items))
	for _, item := range items {
		table, isTable := item.(map[string]any)
		tables, ok = append(tables, table), ok && isTable
	}
	return tables, ok
}

// ruleKeys are the keys of a rule of the list at, in the order of its lines.
func (d *document) ruleKeys(at toml.Key, table map[string]any) []string {
	keys := make([]string, 0, len(table))
	seen := map[string]bool{}
	for _, key := range d.md.Keys() { // those of all rules, in the order of the file
		if len(key) != 3 || key[0] != at[0] || key[1] != at[1] || seen[key[2]] {
			continue
		}
		if _, ok := table[key[2]]; ok {
			seen[key[2]] = true
			keys = append(keys, key[2])
		}
	}
	for name := range table { // an inline table's, which Keys may not list
		if !seen[name] {
			keys = append(keys, name)
		}
	}
	return keys
}

// ruleLine is the line of a key of the i-th rule of the list list, or of the rule.
func (d *document) ruleLine(list toml.Key, i int, key string) int {
	table := d.root
	var rules []map[string]toml.Primitive
	value, ok := table[list[0]]
	if !ok || d.md.PrimitiveDecode(value, &table) != nil {
		return 1
	}
	line := d.line(list)
	if d.md.PrimitiveDecode(table[list[1]], &rules) != nil || i >= len(rules) {
		return line
	}
	if at, ok := rules[i][key]; ok {
		return max(line, d.primitiveLine(at))
	}
	first := 0
	for _, at := range rules[i] {
		if n := d.primitiveLine(at); n > 1 && (first == 0 || n < first) {
			first = n
		}
	}
	return max(line, first)
}
