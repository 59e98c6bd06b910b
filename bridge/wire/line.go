package wire

import (
	"strconv"
	"strings"
	"unicode"
)

// maxLine keeps a message below the 1024 bytes at which Slurm stops adding to
// a job's SystemComment, with its own words before it.
const maxLine = 800

// Line makes a message fit one line of a terminal and of Slurm's comment.
func Line(text string) string {
	text = OneLine(text)
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine-3], "") + "..."
	}
	return text
}

// OneLine makes text that comes from outside fit one line of a log, a terminal
// or a Slurm comment: unprintable characters become spaces.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// Quote is a word that a person gave, in quotes and ASCII, short enough for a message
// about it to stay one line.
func Quote(text string) string {
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:57], "") + "..."
	}
	return strconv.QuoteToASCII(text)
}
