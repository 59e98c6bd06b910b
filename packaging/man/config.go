package main

import (
	"regexp"
	"strings"
)

var (
	tableLine = regexp.MustCompile(`^\[([a-z.]+)\]$`)
	// keyLine is a key with its default, commented out.
	keyLine = regexp.MustCompile(`^#([a-z_]+) = (.*)$`)
)

// configPage is slurmk8s.toml(5): a comment belongs to the keys right below it, or, before a
// blank line or a table, to what follows as a whole. What follows "#[[" is an example.
func configPage(date, example string) string {
	p := newPage("slurmk8s.toml", "5", date, "configuration of slurmk8s")
	p.section("DESCRIPTION")
	var comment, keys, lines []string
	flush := func() {
		switch {
		case len(lines) > 0:
			p.literal(lines)
		case len(keys) > 0:
			p.keys(keys, comment)
		case len(comment) > 0:
			p.prose(strings.Join(comment, "\n"))
		}
		comment, keys, lines = nil, nil, nil
	}
	for line := range strings.Lines(example) {
		line = strings.TrimSuffix(line, "\n")
		body := strings.TrimPrefix(line, "#")
		table := tableLine.FindStringSubmatch(line)
		switch {
		case table != nil:
			about := comment // right above a table it is about that
			comment = nil
			flush()
			p.section("[" + table[1] + "]")
			comment = about
			flush()
		case line == "":
			flush()
		case len(lines) > 0:
			lines = append(lines, body)
		case strings.HasPrefix(body, "[["):
			flush()
			lines = []string{body}
		case keyLine.MatchString(line):
			keys = append(keys, body)
		default:
			if len(keys) > 0 {
				flush()
			}
			comment = append(comment, strings.TrimPrefix(body, " "))
		}
	}
	flush()
	p.section("SEE ALSO")
	p.line(".BR slurmk8s (1),\n.BR slurmk8s (7)")
	return p.b.String()
}

// keys writes keys with their defaults, and the comment that they share.
func (p *page) keys(keys, comment []string) {
	if len(comment) == 0 { // the table's says all
		p.literal(keys)
		return
	}
	macro := ".TP"
	for _, line := range keys {
		name, value, _ := strings.Cut(line, " ")
		p.line(macro + "\n" + bold(name) + " " + escape(value))
		macro = ".TQ"
	}
	for first := true; len(comment) > 0; first = false {
		indented := strings.HasPrefix(comment[0], "  ")
		end := 0
		for end < len(comment) && strings.HasPrefix(comment[end], "  ") == indented {
			end++
		}
		switch part := comment[:end]; {
		case indented:
			p.literalInItem(part)
		case first:
			p.text(strings.Join(part, "\n"))
		default:
			p.line(".IP")
			p.text(strings.Join(part, "\n"))
		}
		comment = comment[end:]
	}
}
