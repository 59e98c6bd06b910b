// Command man writes slurmk8s(1) from what the program's --help says, and slurmk8s.toml(5)
// from the comments of the example configuration: neither can differ from its source.
//
//	man -program build/bin/slurmk8s -config packaging/slurmk8s.toml -date 2026-11-22 -out DIR
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	program := flag.String("program", "", "the built program")
	config := flag.String("config", "", "the example configuration")
	date := flag.String("date", "", "of the pages")
	out := flag.String("out", "", "the directory to write to")
	flag.Parse()
	if err := run(*program, *config, *date, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(program, config, date, out string) error {
	commands, err := commandPage(date, func(args ...string) (string, error) {
		output, err := exec.Command(program, args...).Output()
		if err != nil {
			return "", fmt.Errorf("%s %q: %w", program, args, err)
		}
		return string(output), nil
	})
	if err != nil {
		return err
	}
	example, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"slurmk8s.1": commands, "slurmk8s.toml.5": configPage(date, string(example))} {
		if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
