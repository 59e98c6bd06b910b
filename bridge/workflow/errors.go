package workflow

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// refusal is DWS's refusal and the directive that it is about, if it quotes a part of one
// and only one can be meant.
func refusal(text string, directives []string) string {
	parts := strings.Split(text, "'")
	var quoted []string
	for i := 1; i+1 < len(parts); i += 2 {
		// DWS names an argument by its rule's regular expression.
		if name, ok := strings.CutPrefix(parts[i], "^"); ok && strings.HasSuffix(name, "$") {
			parts[i] = strings.TrimSuffix(name, "$")
		}
		quoted = append(quoted, parts[i])
	}
	text = strings.Join(parts, "'")
	about := directives
	if len(directives) > 1 {
		missing := strings.HasPrefix(text, "missing ")
		about = slices.DeleteFunc(slices.Clone(directives), func(d string) bool { return holds(d, quoted) == missing })
	}
	if len(about) != 1 || len(quoted) == 0 || strings.Contains(text, about[0]) {
		return text
	}
	return text + " [" + shorten(about[0], 200) + "]"
}

// holds reports whether all that is quoted is an argument or a value of the directive, or
// the directive.
func holds(directive string, quoted []string) bool {
	words := strings.FieldsFunc(directive, func(r rune) bool { return r == '=' || unicode.IsSpace(r) })
	return !slices.ContainsFunc(quoted, func(q string) bool {
		return q != directive && !slices.Contains(words, q)
	})
}

// DriverError is a failure that a DWS driver reported for a state. Its text is
// for the user, DWS's message first.
type DriverError struct {
	Text  string
	about *object
}

func (e *DriverError) Error() string { return e.Text }

// ErrBusy says that the state is not reached yet and nothing is wrong.
var ErrBusy error = busy{}

type busy struct{}

func (busy) Error() string   { return "in progress" }
func (busy) Code() wire.Code { return wire.Busy }

// timeoutError is a state that took longer than it is allowed to.
type timeoutError struct {
	text  string
	about *object
}

func (e *timeoutError) Error() string { return e.text }

// waitError is a wait that the hook's deadline ended; errors.Is finds the
// context's error.
type waitError struct {
	text  string
	about *object
	cause error
}

func (e *waitError) Error() string { return e.text }
func (e *waitError) Unwrap() error { return e.cause }

// goneError is a Workflow that a hook needs and that is not there.
type goneError struct{ name string }

func (e *goneError) Error() string {
	return fmt.Sprintf("workflow %s no longer exists: somebody deleted it", e.name)
}
