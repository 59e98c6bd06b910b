package slurmconf

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// fieldByKey finds the field of a table by its exact key.
func fieldByKey(table reflect.Value, key string) (reflect.Value, bool) {
	for i := range table.NumField() {
		if table.Type().Field(i).Tag.Get("toml") == key {
			return table.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// tableKeys lists the keys of a table in the order of the struct.
func tableKeys(table reflect.Type) []string {
	keys := make([]string, 0, table.NumField())
	for i := range table.NumField() {
		keys = append(keys, table.Field(i).Tag.Get("toml"))
	}
	return keys
}

// allKeys lists the dotted names of every table and value below table.
func allKeys(table reflect.Type, prefix toml.Key) []toml.Key {
	var keys []toml.Key
	for i := range table.NumField() {
		field := table.Field(i)
		key := append(append(toml.Key{}, prefix...), field.Tag.Get("toml"))
		keys = append(keys, key)
		table := field.Type
		if table.Kind() == reflect.Slice {
			table = table.Elem()
		}
		if table.Kind() == reflect.Struct {
			keys = append(keys, allKeys(table, key)...)
		}
	}
	return keys
}

// suggest ends the message about an unknown key: the same name in another table,
// else the most similar one of its own table, else that table's keys.
func suggest(table reflect.Value, unknown toml.Key) string {
	name := strings.ToLower(unknown[len(unknown)-1])
	nearest := Nearest(name, tableKeys(table.Type()))
	if nearest != name {
		for _, key := range allKeys(reflect.TypeFor[Config](), nil) {
			if len(key) > 1 && key[len(key)-1] == name {
				return fmt.Sprintf(", did you mean %q in table [%s]?", name, key[:len(key)-1])
			}
			if len(key) == 1 && key[0] == name {
				return fmt.Sprintf(", did you mean %q before the first table?", name)
			}
		}
	}
	if nearest != "" {
		return fmt.Sprintf(", did you mean %q?", nearest)
	}
	return ", known here: " + strings.Join(tableKeys(table.Type()), ", ")
}

// Nearest returns the most similar of the known words; "" if none is near.
func Nearest(word string, known []string) string {
	nearest, best := "", 1+max(2, len(word)/3)
	for _, k := range known {
		if n := distance(word, k); n < best {
			nearest, best = k, n
		}
	}
	return nearest
}

// distance is the number of edits (insert, delete, replace) from a to b.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a) // no known key is near
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
