package wire

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFrames(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("A=1\x00B=x=y\n z\x00C=\x00\x00\x00ACTION=deregister\x00\x00"))
	for _, want := range []Fields{{"A": "1", "B": "x=y\n z", "C": ""}, {}, {"ACTION": "deregister"}} {
		got, err := ReadFrame(r)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := ReadFrame(r)
	assert.Equal(t, io.EOF, err)
}

func TestFramesThatAreNone(t *testing.T) {
	for text, want := range map[string]error{
		"A=1":        io.ErrUnexpectedEOF,
		"A=1\x00":    io.ErrUnexpectedEOF,
		"A\x00\x00":  nil,
		"=1\x00\x00": nil,
		"A=" + strings.Repeat("x", maxFrameBytes) + "\x00\x00": nil,
	} {
		_, err := ReadFrame(bufio.NewReader(strings.NewReader(text)))
		require.Error(t, err)
		if want != nil {
			assert.ErrorIs(t, err, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("A=1\x00\x00"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			fields, err := ReadFrame(r)
			if err != nil {
				return
			}
			var out bytes.Buffer
			require.NoError(t, WriteFrame(&out, fields))
			again, err := ReadFrame(bufio.NewReader(&out))
			require.NoError(t, err)
			assert.Equal(t, fields, again)
		}
	})
}
