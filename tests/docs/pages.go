// Package docs reads README.md and docs/ for the tests that hold them against what they
// describe: here links, flags, make targets, options and configuration; in tests/e2e every
// command is run.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Page is a text of the documentation.
type Page struct {
	Name   string // README.md, docs/nodes.md
	Text   string
	Blocks []Block
}

// Block is a fenced part of a page.
type Block struct{ Language, Text string }

// Command is what a person is to type.
type Command struct {
	Text string // without prompt and comment
	// Output is what the page shows below the command; most show nothing.
	Output string
}

var (
	fence = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	span  = regexp.MustCompile("`([^`]+)`")
	// typed is a program that people call, with at least one argument: its name alone is no command.
	typed = regexp.MustCompile(`^(sudo (-u \S+ )?|\$ )?(slurmk8s|kubectl|scontrol|scancel|sbatch|srun|salloc|squeue|make|apt|apt-get|rpm|systemctl|journalctl|install|ln) \S`)
	// schedule is what a crontab has before the command: times and a user.
	schedule = regexp.MustCompile(`^(\S+ ){6}`)
)

// Read returns the pages README.md and docs/*.md of the repository at top.
func Read(top string) ([]Page, error) {
	paths, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	var all []Page
	for _, path := range append([]string{filepath.Join(top, "README.md")}, paths...) {
		page, err := ReadPage(top, path)
		if err != nil {
			return nil, err
		}
		all = append(all, page)
	}
	return all, nil
}

// ReadPage returns one page of the repository at top.
func ReadPage(top, path string) (Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Page{}, err
	}
	name, err := filepath.Rel(top, path)
	if err != nil {
		return Page{}, err
	}
	p := Page{Name: name, Text: string(text)}
	for _, found := range fence.FindAllStringSubmatch(p.Text, -1) {
		p.Blocks = append(p.Blocks, Block{Language: found[1], Text: found[2]})
	}
	return p, nil
}

// Commands are those of the page in its order: in blocks of sh, console and cron, then in code
// spans of its text.
func (p Page) Commands() []Command {
	var all []Command
	for _, b := range p.Blocks {
		switch b.Language {
		case "console":
			all = append(all, b.session()...)
		case "sh", "cron":
			for line := range strings.Lines(b.Text) {
				line = withoutComment(line)
				if b.Language == "cron" {
					line = schedule.ReplaceAllString(line, "")
				}
				if line != "" {
					all = append(all, Command{Text: line})
				}
			}
		}
	}
	for _, found := range span.FindAllStringSubmatch(fence.ReplaceAllString(p.Text, ""), -1) {
		if text := strings.Join(strings.Fields(found[1]), " "); typed.MatchString(text) {
			all = append(all, Command{Text: text})
		}
	}
	return all
}

// session reads a block that shows what was typed after "$ ", and the answers.
func (b Block) session() []Command {
	var all []Command
	for line := range strings.Lines(b.Text) {
		if text, isCommand := strings.CutPrefix(strings.TrimSpace(line), "$ "); isCommand {
			all = append(all, Command{Text: withoutComment(text)})
		} else if len(all) > 0 {
			all[len(all)-1].Output += line
		}
	}
	return all
}

// Hidden are lines that look like commands, in blocks whose language does not say so.
func (p Page) Hidden() []string {
	var all []string
	for _, b := range p.Blocks {
		for line := range strings.Lines(b.Text) {
			if line = strings.TrimSpace(line); b.Language == "" && (typed.MatchString(line) || strings.HasPrefix(line, "$ ")) {
				all = append(all, line)
			}
		}
	}
	return all
}

// Scripts are the job scripts that the page shows whole.
func (p Page) Scripts() []string {
	var all []string
	for _, b := range p.Blocks {
		if b.Language == "bash" && strings.HasPrefix(b.Text, "#!") {
			all = append(all, b.Text)
		}
	}
	return all
}

func withoutComment(line string) string {
	line, _, _ = strings.Cut(line, " #")
	return strings.TrimSpace(line)
}
