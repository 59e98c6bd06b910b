package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// invocation is the arguments of one start of slurmk8s. It has none where Slurm itself
// starts the program.
type invocation []string

// wants tells whether slurmk8s is started for a command, and not for its help.
func (i invocation) wants(command string) bool {
	return len(i) > 0 && i[0] == command && !i.has("help") && !i.has("h")
}

// has tells whether a flag is among the arguments.
func (i invocation) has(flag string) bool {
	return slices.ContainsFunc(i, func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return strings.HasPrefix(arg, "-") && name == flag
	})
}

// reconciles tells whether slurmk8s removes what jobs left: everywhere, or on one node.
func (i invocation) reconciles(oneNode bool) bool {
	return i.wants("reconcile") && !i.has("dry-run") && (oneNode || !i.has("node"))
}

// errUnknown is a program of which nobody can say what it runs.
var errUnknown = errors.New("is not a script")

// programs are the starts of slurmk8s by a program that slurm.conf names. Slurm runs it
// without arguments: by its absolute path, and only if it can be executed.
func programs(path string) ([]invocation, error) {
	info, err := os.Stat(path)
	switch {
	case !filepath.IsAbs(path):
		return nil, errors.New("is not an absolute path, so Slurm does not run it")
	case err != nil:
		return nil, cause(err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return nil, fmt.Errorf("is not executable (mode %04o)", info.Mode().Perm())
	}
	return started(path, nil, 0)
}

// Bounds for what a site's scripts are read for.
const (
	maxScriptBytes = 1 << 20
	maxScriptDepth = 4 // scripts that run scripts
)

// started are the starts of slurmk8s by running path with arguments: one, if it is
// slurmk8s itself, and what it runs, if it is a script.
func started(path string, args []string, depth int) ([]invocation, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxScriptBytes && !isProgram(path) || depth > maxScriptDepth {
		return nil, errUnknown
	}
	if isProgram(path) && !isScript(path) {
		return []invocation{args}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, cause(err)
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, errUnknown
	}
	return shell(string(text), depth), nil
}

// isProgram tells whether a file is slurmk8s, by whatever name it is linked.
func isProgram(path string) bool {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return filepath.Base(path) == "slurmk8s"
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [2]byte
	_, err = f.Read(magic[:])
	return err == nil && string(magic[:]) == "#!"
}

// wrappers run the command that is among their arguments; keywords stand before one.
var (
	wrappers = strings.Fields("exec command nohup nice ionice sudo runuser su env timeout flock setsid chronic systemd-cat sh bash dash . source")
	keywords = strings.Fields("if then elif else while until do ! { time case")
)

// shell are the starts of slurmk8s in a text of sh's. It knows words, quotes, comments,
// variables that the text sets, and commands that run others; no more.
func shell(text string, depth int) []invocation {
	var all []invocation
	variables := map[string]string{}
	for _, words := range simpleCommands(text) {
		for i, word := range words {
			words[i] = os.Expand(word, func(name string) string { return variables[name] })
		}
		for len(words) > 0 {
			name, value, set := strings.Cut(words[0], "=")
			if set && !strings.ContainsAny(name, "/ ") {
				variables[name] = value
			} else if !slices.Contains(keywords, words[0]) {
				break
			}
			words = words[1:]
		}
		all = append(all, simpleCommand(words, depth)...)
	}
	return all
}

// simpleCommand are the starts of slurmk8s by one command of a shell.
func simpleCommand(words []string, depth int) []invocation {
	if len(words) == 0 {
		return nil
	}
	if filepath.Base(words[0]) == "slurmk8s" && !isScript(words[0]) {
		return []invocation{words[1:]}
	}
	if filepath.IsAbs(words[0]) {
		if runs, err := started(words[0], words[1:], depth+1); err == nil {
			return runs
		}
	}
	if !slices.Contains(wrappers, filepath.Base(words[0])) {
		return nil
	}
	for i, word := range words[1:] {
		rest := words[i+1:]
		if words[i] == "-c" && depth < maxScriptDepth {
			return shell(word, depth+1)
		}
		if runs := simpleCommand(rest, depth); len(runs) > 0 {
			return runs
		}
	}
	return nil
}

// simpleCommands splits a text of sh's into commands of words without their quotes.
func simpleCommands(text string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	begun := false // an empty word in quotes is one
	endWord := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			if i++; text[i] != '\n' {
				word.WriteByte(text[i])
				begun = true
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			endWord()
		case c == '#' && !begun:
			if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
				i += end - 1
			} else {
				i = len(text)
			}
		case strings.IndexByte("\n;&|()`", c) >= 0:
			endCommand()
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	endCommand()
	return all
}
