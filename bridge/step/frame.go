// Package step is the life of the step program: it is started by the SPANK plugin
// before the first task of a step on a node, registers the step's services, opens
// them when they answer, and takes them away at the end.
package step

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hook"
)

// The keys of a request besides those of bridge/hook. The option values and the
// ENV_ ones are the user's words, all others are Slurm's.
const (
	keyStepID   = "STEP_ID"   // "batch", "interactive" or a number
	keyNodeRank = "NODE_RANK" // this node's place in the step, from 0
	keyAction   = "ACTION"    // of a later request: actionDeregister

	actionDeregister = "deregister"
)

// The keys of a reply.
const (
	keyCode   = "CODE"    // a hook.Code
	keyOver   = "OVER"    // "1": there is nothing to do at the step's end, the program exits
	setPrefix = "SETENV_" // SETENV_NAME=VALUE: for the job's environment
)

// maxFrameBytes bounds a request.
const maxFrameBytes = 1 << 20

// readFrame reads KEY=VALUE texts, each ended by a NUL byte, up to an empty one.
// The error is io.EOF when there is no further frame.
func readFrame(r *bufio.Reader) (hook.Fields, error) {
	fields := hook.Fields{}
	for left := maxFrameBytes; ; {
		text, err := readText(r, &left)
		if errors.Is(err, io.EOF) && len(fields) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if text == "" {
			return fields, nil
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("a request has a field without \"=\"")
		}
		fields[key] = value
	}
}

func readText(r *bufio.Reader, left *int) (string, error) {
	var text strings.Builder
	for {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) && text.Len() > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		if b == 0 {
			return text.String(), nil
		}
		if *left--; *left < 0 {
			return "", fmt.Errorf("a request is larger than %d KiB", maxFrameBytes>>10)
		}
		text.WriteByte(b)
	}
}

// writeFrame writes a reply as one piece.
func writeFrame(w io.Writer, fields hook.Fields) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		text.WriteString(key + "=" + strings.ReplaceAll(fields[key], "\x00", " ") + "\x00")
	}
	text.WriteByte(0)
	_, err := io.WriteString(w, text.String())
	return err
}
