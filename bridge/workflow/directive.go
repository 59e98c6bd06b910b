package workflow

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Bounds of Directives. MaxScriptBytes is Slurm's default max_script_size.
const (
	MaxScriptBytes    = 4 << 20
	MaxDirectives     = 64
	MaxDirectiveBytes = 64 << 10
	// MaxDirectivesBytes bounds all directives of a job together. Kubernetes stores
	// nothing above 1.5 MiB, and slurmctld waits while DWS judges them.
	MaxDirectivesBytes = 256 << 10
)

// dwsWord begins every directive that DWS takes, whatever the site's word is.
const dwsWord = "#DW"

// DirectiveError is a mistake in a job script, for its author.
type DirectiveError struct {
	Line int    // of the script that Slurm has, from 1; 0: the script as a whole
	Msg  string // one line, printable
}

func (e *DirectiveError) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
}

// Directives returns the directives of a job script in the form that DWS takes,
// "#DW command arguments". word is what Directive of burst_buffer.conf says ("DW");
// a site's "#BB_LUA jobdw ..." becomes "#DW jobdw ...", since DWS knows no other
// word. A script without directives is not an error. Every error about the script is a
// *DirectiveError.
//
// The script is read as Slurm 22.05 to 26.05 read it (_xlate_batch and
// _parse_bb_opts of burst_buffer_lua.c), so that both see the same directives:
//   - only the leading comment block counts: the first line that does not begin
//     with "#" ends it, but an empty line does not;
//   - "#DW" is case-sensitive and stands at the start of the line;
//   - a "\" at the end continues the directive on the next line, if that begins
//     with "#DW" again, which is left out ("#DW jobdw \" + "#DW type=xfs" is
//     "#DW jobdw type=xfs"). A blank before the "\" stands for all blanks after
//     the second "#DW"; without it they are kept, and without any blank the words
//     grow together. If the next line is another comment, or none, the "\" is
//     dropped;
//   - the text of --bb and --bbf is part of the script already: Slurm has put it
//     after the first line, so line numbers count it.
//
// A line that Slurm accepts but DWS cannot understand is refused here: "#DW" without a
// command (it would crash DWS's webhook), "#DWfoo" without a space (a directive for
// Slurm, so ignoring it would start the job without its storage), and unprintable
// characters. A carriage return at the end of a line is dropped, and so is the word
// pool=NAME, which is for Slurm. Everything else, including quotes, "%" and "\", is passed
// on unchanged, except for spaces at both ends.
func Directives(script []byte, word string) ([]string, error) {
	if word == "" {
		return nil, fmt.Errorf("workflows.directive is empty: set it, for example to \"DW\"")
	}
	if len(script) > MaxScriptBytes {
		return nil, &DirectiveError{Msg: fmt.Sprintf("the job script is larger than %d MiB", MaxScriptBytes>>20)}
	}
	p := &directiveParser{prefix: "#" + word}
	for number, rest := 1, script; len(rest) > 0; number++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(line) == 0 {
			continue // Slurm's strtok_r does not see empty lines
		}
		if line[0] != '#' {
			break
		}
		if err := p.line(number, line); err != nil {
			return nil, err
		}
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return p.directives, nil
}

// Expand replaces each directive that is the name of a preset, and nothing else, by what stands
// for it.
func Expand(directives []string, presets []slurmconf.Preset) []string {
	if len(presets) == 0 {
		return directives
	}
	var expanded []string
	for _, directive := range directives {
		words := strings.Fields(directive)
		at := slices.IndexFunc(presets, func(p slurmconf.Preset) bool { return len(words) == 2 && p.Name == words[1] })
		if at < 0 {
			expanded = append(expanded, directive)
		} else {
			expanded = append(expanded, presets[at].Directives...)
		}
	}
	return expanded
}

// directiveParser joins lines to directives.
type directiveParser struct {
	prefix     string // "#" and the site's word
	directives []string
	bytes      int // of all directives

	// The directive that is being read.
	body      strings.Builder // what follows prefix
	firstLine int             // 0: none is open
	continued bool            // its last line ended in "\"
	blankEnd  bool            // with a blank before the "\"
}

// line takes one line of the comment block.
func (p *directiveParser) line(number int, line []byte) error {
	if bytes.IndexByte(line, 0) >= 0 {
		return &DirectiveError{number, "NUL byte in a comment at the top of the script"}
	}
	text := strings.TrimSuffix(string(line), "\r")
	if !strings.HasPrefix(text, p.prefix) {
		return p.finish()
	}
	if err := checkCharacters(number, text); err != nil {
		return err
	}
	body := text[len(p.prefix):]
	if p.continued {
		if p.blankEnd {
			body = strings.TrimLeft(body, " \t")
		}
	} else {
		if err := p.finish(); err != nil {
			return err
		}
		if len(p.directives) == MaxDirectives {
			return &DirectiveError{number, fmt.Sprintf("more than %d %q directives", MaxDirectives, p.prefix)}
		}
		p.firstLine = number
	}
	p.continued = strings.HasSuffix(body, `\`)
	if p.continued {
		body = body[:len(body)-1]
		// Of the line, not of body: for Slurm the blank may be one skipped above.
		before := text[len(text)-2]
		p.blankEnd = before == ' ' || before == '\t'
	}
	if p.body.Len()+len(body) > MaxDirectiveBytes {
		return &DirectiveError{p.firstLine, fmt.Sprintf("directive is longer than %d KiB", MaxDirectiveBytes>>10)}
	}
	if p.bytes += len(body); p.bytes > MaxDirectivesBytes {
		return &DirectiveError{p.firstLine, fmt.Sprintf("the %q directives are longer than %d KiB together", p.prefix, MaxDirectivesBytes>>10)}
	}
	p.body.WriteString(body)
	return nil
}

// finish ends the open directive, if there is one.
func (p *directiveParser) finish() error {
	if p.firstLine == 0 {
		return nil
	}
	line, body := p.firstLine, p.body.String()
	p.body.Reset()
	p.firstLine, p.continued = 0, false

	command := withoutPool(strings.Trim(body, " \t"))
	switch {
	case command == "":
		return &DirectiveError{line, fmt.Sprintf("%q has no command", p.prefix)}
	case body[0] != ' ' && body[0] != '\t':
		return &DirectiveError{line, fmt.Sprintf("no space after %q in %s", p.prefix, excerpt(p.prefix+body, 0))}
	}
	p.directives = append(p.directives, dwsWord+" "+command)
	return nil
}

// withoutPool drops the words pool=NAME. Slurm wants one beside every capacity=
// (_parse_bb_opts of burst_buffer_lua.c); DWS refuses the word, which it does not
// know.
func withoutPool(command string) string {
	for {
		at := strings.Index(command, " pool=")
		if tab := strings.Index(command, "\tpool="); at < 0 || tab >= 0 && tab < at {
			at = tab
		}
		if at < 0 {
			return command
		}
		end := strings.IndexAny(command[at+1:], " \t")
		if end < 0 {
			return strings.TrimRight(command[:at], " \t")
		}
		command = command[:at] + command[at+1+end:]
	}
}

// checkCharacters refuses what is not text: it would reach logs, terminals and
// Kubernetes, and a no-break space (pasted from a web page) looks like a blank but
// is none to Slurm.
func checkCharacters(number int, text string) error {
	for i, r := range text {
		kind := ""
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			return &DirectiveError{number, "invalid UTF-8 in " + excerpt(text, i)}
		case r == '\t' || unicode.IsPrint(r):
			continue
		case unicode.IsControl(r):
			kind = "control"
		default:
			kind = "invisible"
		}
		return &DirectiveError{number, fmt.Sprintf("%s character U+%04X in %s", kind, r, excerpt(text, i))}
	}
	return nil
}

// excerpt quotes a part of a line around the byte at.
func excerpt(text string, at int) string {
	const before, after = 20, 20
	start, end := max(at-before, 0), min(at+after, len(text))
	for start > 0 && start < at && !utf8.RuneStart(text[start]) {
		start++
	}
	// Not further than a letter is long: in invalid UTF-8 none need begin.
	for most := end + utf8.UTFMax - 1; end < min(most, len(text)) && !utf8.RuneStart(text[end]); {
		end++
	}
	quoted := fmt.Sprintf("%q", text[start:end])
	if start > 0 {
		quoted = "..." + quoted
	}
	if end < len(text) {
		quoted += "..."
	}
	return quoted
}

// command is the second word of a directive that DWS takes: "jobdw".
func command(directive string) string {
	if words := strings.Fields(directive); len(words) > 1 {
		return words[1]
	}
	return ""
}

// argument is the value of name=value in a directive, "" if there is none.
func argument(directive, name string) string {
	for _, word := range strings.Fields(directive) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}
