package slurmconf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// SlurmConf is what the bridge needs to know from slurm.conf.
type SlurmConf struct {
	ClusterName       string // in lower case, as Slurm uses it; "" if not set
	SlurmUser         string // default: "root"
	StateSaveLocation string // default: "/var/spool"
	BurstBufferType   string // "burst_buffer/lua"; "" if not set
}

// ReadSlurmConf reads slurm.conf as Slurm does, except that it ignores what it does not
// understand: Slurm checks its own file. The result is never nil; when
// the file or one that it includes cannot be read, the error (one line) says so,
// and the rest is used.
func ReadSlurmConf(path string) (*SlurmConf, error) {
	values, _, err := readSlurmFile(path)
	c := &SlurmConf{
		ClusterName:       strings.ToLower(values["clustername"]),
		SlurmUser:         "root",
		StateSaveLocation: "/var/spool",
		BurstBufferType:   values["burstbuffertype"],
	}
	if user := values["slurmuser"]; user != "" {
		c.SlurmUser = user
	}
	if dir := values["statesavelocation"]; dir != "" {
		c.StateSaveLocation = dir
	}
	return c, err
}

// Bounds for files that Slurm reads without any: a hook must end.
const (
	maxSlurmFileBytes = 16 << 20
	maxIncludes       = 256 // files, the first one included
	maxIncludeDepth   = 16
)

// slurmFile collects the Key=Value pairs of a file in Slurm's syntax
// (src/common/parse_config.c).
type slurmFile struct {
	dir    string              // Include is relative to it
	values map[string]string   // by key in lower case; of several, the last
	nodes  []map[string]string // the keys of each line that begins with NodeName
	all    map[string][]string // like values, but all of them in order; without the lines of nodes
	files  int
	bytes  int64 // still to be read at most
	err    error // the first one
}

// readSlurmFile reads a file and what it includes. opened tells whether the file
// itself could be read.
func readSlurmFile(path string) (values map[string]string, opened bool, err error) {
	p := newSlurmFile(path)
	opened = p.read(path, 0)
	return p.values, opened, p.err
}

func newSlurmFile(path string) *slurmFile {
	return &slurmFile{dir: filepath.Dir(path), values: map[string]string{}, all: map[string][]string{}, bytes: maxSlurmFileBytes}
}

func (p *slurmFile) fail(path string, err error) {
	if p.err == nil {
		p.err = &slurmFileError{path: path, err: err}
	}
}

type slurmFileError struct {
	path string
	err  error
}

func (e *slurmFileError) Error() string { return oneLine(e.path + ": " + e.err.Error()) }
func (e *slurmFileError) Unwrap() error { return e.err }

func (p *slurmFile) read(path string, depth int) bool {
	if p.files++; p.files > maxIncludes || depth > maxIncludeDepth {
		p.fail(path, errors.New("too many files included, or a file includes itself"))
		return false
	}
	data, err := readRegular(path, p.bytes)
	if err != nil {
		p.fail(path, err)
		return false
	}
	p.bytes -= int64(len(data))
	for _, line := range logicalLines(string(data)) {
		if name, ok := includedFile(line); ok {
			p.include(name, depth)
			continue
		}
		pairs := map[string]string{}
		for {
			key, value, rest, ok := cutKeyValue(line)
			if !ok {
				break
			}
			key = strings.ToLower(key)
			p.values[key], pairs[key] = value, value
			line = rest
		}
		if pairs["nodename"] != "" {
			p.nodes = append(p.nodes, pairs)
			continue
		}
		for key, value := range pairs {
			p.all[key] = append(p.all[key], value)
		}
	}
	return true
}

func (p *slurmFile) include(name string, depth int) {
	// Slurm knows %c, the cluster's name, if ClusterName came before.
	name = strings.ReplaceAll(name, "%c", strings.ToLower(p.values["clustername"]))
	if strings.IndexByte(name, 0) >= 0 {
		p.fail(p.dir, fmt.Errorf("file name %s of an Include has a NUL byte", quoted(name)))
		return
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(p.dir, name)
	}
	p.read(name, depth+1)
}

// includedFile tells whether a line is "Include file".
func includedFile(line string) (string, bool) {
	const word = "include"
	if len(line) <= len(word) || !strings.EqualFold(line[:len(word)], word) || !isSlurmSpace(line[len(word)]) {
		return "", false
	}
	fields := strings.Fields(line[len(word):])
	if len(fields) == 0 {
		return "", false
	}
	return fields[0], true
}

// logicalLines does what Slurm's _get_next_line does: takes comments off, joins
// lines that end in "\", and takes the backslash off "\#" and "\\".
func logicalLines(data string) []string {
	var lines []string
	var current strings.Builder
	for raw := range strings.Lines(data) {
		part, continued := stripContinuation(stripComment(raw))
		current.WriteString(part)
		if !continued {
			lines = append(lines, stripEscapes(current.String()))
			current.Reset()
		}
	}
	if current.Len() > 0 {
		lines = append(lines, stripEscapes(current.String()))
	}
	return lines
}

// stripComment cuts a line at the first # that an odd number of backslashes does
// not escape. A # within quotes begins a comment too: Slurm's reader does not know
// quotes here.
func stripComment(line string) string {
	backslashes := 0
	for i := range len(line) {
		switch line[i] {
		case '#':
			if backslashes%2 == 0 {
				return line[:i]
			}
			backslashes = 0
		case '\\':
			backslashes++
		default:
			backslashes = 0
		}
	}
	return line
}

// stripContinuation takes off a "\" at the end of a line, blanks after it aside;
// an even number of backslashes stands for themselves.
func stripContinuation(line string) (string, bool) {
	text := strings.TrimRightFunc(line, func(r rune) bool { return r < 0x80 && isSlurmSpace(byte(r)) })
	backslashes := len(text) - len(strings.TrimRight(text, `\`))
	if backslashes%2 == 0 {
		return line, false
	}
	return text[:len(text)-1], true
}

func stripEscapes(line string) string {
	if !strings.Contains(line, `\`) {
		return line
	}
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			if i++; i == len(line) {
				break
			}
		}
		b.WriteByte(line[i])
	}
	return b.String()
}

// isSlurmSpace is C's isspace.
func isSlurmSpace(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') }
