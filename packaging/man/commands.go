package main

import (
	"fmt"
	"regexp"
	"strings"
)

// commandLine is how --help lists a command; two that share a page are "a|b".
var commandLine = regexp.MustCompile(`(?m)^  slurmk8s ([a-z][a-z|-]*)`)

// commandPage is slurmk8s(1); ask runs the program.
func commandPage(date string, ask func(args ...string) (string, error)) (string, error) {
	top, err := ask("--help")
	if err != nil {
		return "", err
	}
	about, rest, ok := strings.Cut(top, "\nUsage:\n")
	if !ok {
		return "", fmt.Errorf("--help has no line \"Usage:\"")
	}
	usage, notes, _ := strings.Cut(rest, "\n\n")
	p := newPage("slurmk8s", "1", date, "share workflows, services and nodes between Slurm and Kubernetes")
	p.section("SYNOPSIS")
	p.literal(strings.Split(strings.Trim(usage, "\n"), "\n"))
	p.section("DESCRIPTION")
	p.prose(about)
	p.prose(notes)
	found := commandLine.FindAllStringSubmatch(usage, -1)
	if len(found) == 0 {
		return "", fmt.Errorf("--help lists no command")
	}
	for _, match := range found {
		name, _, _ := strings.Cut(match[1], "|")
		help, err := ask(name, "--help")
		if err != nil {
			return "", err
		}
		p.section("slurmk8s " + strings.ReplaceAll(match[1], "|", ", "))
		usage, text, _ := strings.Cut(help, "\n\n")
		var lines []string
		for line := range strings.Lines(strings.TrimPrefix(usage, "Usage:")) {
			lines = append(lines, strings.TrimSpace(line))
		}
		p.literal(lines)
		p.prose(text)
	}
	p.section("FILES")
	p.tagged("/etc/slurm/slurmk8s.toml", "the configuration: slurmk8s.toml(5)")
	p.tagged("/var/spool/slurmk8s", "local state of the hooks on the controller")
	p.tagged("/run/slurmk8s", "marks of a node's jobs")
	p.section("SEE ALSO")
	p.line(".BR slurmk8s.toml (5),\n.BR slurmk8s (7),\n.BR burst_buffer.conf (5),\n.BR spank (8)")
	return p.b.String(), nil
}
