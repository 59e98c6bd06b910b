package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxFrameBytes bounds a request.
const maxFrameBytes = 1 << 20

// ReadFrame reads KEY=VALUE texts, each ended by a NUL byte, up to an empty one.
// The error is io.EOF when there is no further frame.
func ReadFrame(r *bufio.Reader) (Fields, error) {
	fields := Fields{}
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

// WriteFrame writes a reply in a single write.
func WriteFrame(w io.Writer, fields Fields) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		text.WriteString(key + "=" + strings.ReplaceAll(fields[key], "\x00", " ") + "\x00")
	}
	text.WriteByte(0)
	_, err := io.WriteString(w, text.String())
	return err
}
