package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLineIsOneAndBounded(t *testing.T) {
	for _, text := range []string{
		"a\nb", "a\r\x1b[31m\x00b", "a\u0085\u2028\u202eb", strings.Repeat("ä", 1000),
		strings.Repeat("x", maxLine), strings.Repeat("x", maxLine+1), "\xff\xfe",
	} {
		assert.NotContains(t, Line(text), "\n")
		assert.LessOrEqual(t, len(Line(text)), maxLine)
	}
	assert.Equal(t, strings.Repeat("x", maxLine), Line(strings.Repeat("x", maxLine)), "not cut when it fits")
	assert.True(t, strings.HasSuffix(Line(strings.Repeat("x", maxLine+1)), "..."))
}

func TestQuoteCutsBetweenCharacters(t *testing.T) {
	for text, want := range map[string]string{
		"":                      `""`,
		"a\n\"b":                `"a\n\"b"`,
		"ä":                     `"\u00e4"`,
		strings.Repeat("x", 60): `"` + strings.Repeat("x", 60) + `"`,
		strings.Repeat("x", 61): `"` + strings.Repeat("x", 57) + `..."`,
		strings.Repeat("ä", 31): `"` + strings.Repeat(`\u00e4`, 28) + `..."`, // the 57th byte is half a character
	} {
		assert.Equal(t, want, Quote(text))
	}
}
