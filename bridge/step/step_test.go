package step

import (
	"bufio"
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

func TestAReplyIsOneFrame(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, wire.WriteFrame(&out, reply(wire.Failed, errors.New("two\nlines\x00and a byte"))))
	got, err := wire.ReadFrame(bufio.NewReader(&out))
	require.NoError(t, err)
	assert.Equal(t, wire.Fields{"CODE": "3", "MESSAGE": "two lines and a byte"}, got)
	assert.Zero(t, out.Len())
}
