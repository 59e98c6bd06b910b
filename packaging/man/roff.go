package main

import (
	"fmt"
	"regexp"
	"strings"
)

// page is a manual page in the man(7) macros, which groff and mandoc both know.
type page struct{ b strings.Builder }

func newPage(name, section, date, what string) *page {
	p := &page{}
	fmt.Fprintf(&p.b, ".TH %s %s %s slurmk8s\n", strings.ToUpper(name), section, date)
	p.section("NAME")
	p.line(fmt.Sprintf("%s \\- %s", escape(name), escape(what)))
	return p
}

func (p *page) line(text string)        { p.b.WriteString(text + "\n") }
func (p *page) section(title string)    { p.line(".SH " + escape(title)) }
func (p *page) text(text string)        { p.line(escape(strings.TrimSpace(text))) }
func (p *page) tagged(tag, text string) { p.line(".TP\n" + bold(tag)); p.text(text) }
func (p *page) literal(lines []string)  { p.verbatim("4", lines) }

// literalInItem is literal below the text of a tag, which is indented by 7.
func (p *page) literalInItem(lines []string) { p.verbatim("11", lines) }

func (p *page) verbatim(indent string, lines []string) {
	p.gap()
	p.line(".RS " + indent + "\n.nf")
	for _, line := range lines {
		p.line(escape(strings.TrimPrefix(line, "  ")))
	}
	p.line(".fi\n.RE")
}

// gap is that between paragraphs; a section has its own before the first.
func (p *page) gap() {
	all := strings.TrimSuffix(p.b.String(), "\n")
	if last := all[strings.LastIndexByte(all, '\n')+1:]; !strings.HasPrefix(last, ".SH") {
		p.line(".PP")
	}
}

func (p *page) paragraph(text string) { p.gap(); p.text(text) }

func bold(text string) string { return `\fB` + escape(text) + `\fR` }

// escape makes text mean itself: a hyphen that can be copied, and nothing that roff reads.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// item is a line such as "  --limit TIME  how long": a tag, two spaces or more, a text.
var item = regexp.MustCompile(`^ {1,3}(\S+(?: \S+)*?)(?: {2,}(\S.*))?$`)

// prose writes text as --help and comments have it: paragraphs with blank lines between
// them; one whose lines are all indented is a list of tags, or else literal.
func (p *page) prose(text string) {
	for _, block := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		// A paragraph may be followed by indented lines at once.
		indented := len(lines)
		for indented > 0 && strings.HasPrefix(lines[indented-1], "  ") {
			indented--
		}
		if indented > 0 {
			p.paragraph(strings.Join(lines[:indented], "\n"))
		}
		if lines = lines[indented:]; len(lines) == 0 {
			continue
		}
		if tags, ok := tagList(lines); ok {
			for _, tag := range tags {
				p.tagged(tag[0], tag[1])
			}
		} else {
			p.literal(lines)
		}
	}
}

// tagList takes a block of items apart; continuation lines are indented further.
func tagList(lines []string) (tags [][2]string, ok bool) {
	texts := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "     ") && len(tags) > 0 {
			last := &tags[len(tags)-1]
			last[1] = strings.TrimSpace(last[1] + "\n" + strings.TrimSpace(line))
			texts++
			continue
		}
		match := item.FindStringSubmatch(line)
		if match == nil {
			return nil, false
		}
		if match[2] != "" {
			texts++
		}
		tags = append(tags, [2]string{match[1], match[2]})
	}
	for _, tag := range tags {
		if tag[1] == "" {
			return nil, false
		}
	}
	return tags, texts > 0
}
