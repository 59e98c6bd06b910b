// Command runcwrap runs runc without CAP_SYS_RESOURCE in any container's capabilities.
//
// Docker gives a privileged container every capability the kernel knows. Where the
// machine itself lacks one, runc cannot apply the set and fails. This wrapper is the
// default runtime there: it removes the capability from what runc is about to read,
// which is config.json for "create" and the file after --process for "exec".
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	runc    = "/usr/sbin/runc"
	missing = "CAP_SYS_RESOURCE"
)

func main() {
	args := os.Args[1:]
	var err error
	switch {
	case slices.Contains(args, "create"):
		err = edit(filepath.Join(option(args, "--bundle", "-b"), "config.json"), "process")
	case slices.Contains(args, "exec"):
		if file := option(args, "--process", "-p"); file != "" {
			err = edit(file)
		}
	}
	if err == nil {
		err = syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "runcwrap:", err)
	os.Exit(1)
}

// option returns the value of the named option, or "" where args does not have it.
func option(args []string, names ...string) string {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if joined {
			return value
		}
		if i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// edit removes the capability from file, in the object that path leads to.
func edit(file string, path ...string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber() // device and limit numbers do not fit a float64
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	process := spec
	for _, key := range path {
		process, _ = process[key].(map[string]any)
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		capabilities, _ := set.([]any)
		sets[name] = slices.DeleteFunc(capabilities, func(c any) bool { return c == missing })
	}
	text, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
