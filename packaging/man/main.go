// Command man writes slurmk8s.toml(5) from the comments of the example configuration, so that
// it cannot differ from it. The pages of the commands are written by the program's own tree of
// commands (bridge/cmd/slurmk8s/man.go).
//
//	man -config packaging/slurmk8s.toml -date 2026-11-22 -out DIR
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	config := flag.String("config", "", "the example configuration")
	date := flag.String("date", "", "of the page")
	out := flag.String("out", "", "the directory to write to")
	flag.Parse()
	if err := run(*config, *date, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(config, date, out string) error {
	example, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "slurmk8s.toml.5"), []byte(configPage(date, string(example))), 0o644)
}
