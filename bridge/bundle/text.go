package bundle

import (
	"strconv"
	"strings"
)

// piece is a part of a template's text: literal text or the name of a parameter.
type piece struct{ text, ref string }

// split finds the references ${name} in a text. "$${" stands for "${". A name has lower-case
// letters, digits and "_", a letter first, so that ${HOME} and ${x:-y} of a script are text.
// No text before a reference ends in "$", which the kubelet could take for one with the value.
func split(s string) []piece {
	var pieces []piece
	var text strings.Builder
	for s != "" {
		at := strings.Index(s, "${")
		if at < 0 {
			break
		}
		if at > 0 && s[at-1] == '$' {
			text.WriteString(s[:at-1] + "${")
			s = s[at+2:]
			continue
		}
		end := strings.IndexByte(s[at:], '}')
		if end < 0 || !isParamName(s[at+2:at+end]) {
			text.WriteString(s[:at+2])
			s = s[at+2:]
			continue
		}
		text.WriteString(s[:at])
		if text.Len() > 0 {
			pieces = append(pieces, piece{text: text.String()})
			text.Reset()
		}
		pieces = append(pieces, piece{ref: s[at+2 : at+end]})
		s = s[at+end+1:]
	}
	text.WriteString(s)
	if text.Len() > 0 || len(pieces) == 0 {
		pieces = append(pieces, piece{text: text.String()})
	}
	return pieces
}

const maxParamNameBytes = 32

// isParamName tells whether a parameter can be called so.
func isParamName(s string) bool {
	return s != "" && len(s) <= maxParamNameBytes && s[0] >= 'a' && s[0] <= 'z' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// refs are the names that a text refers to.
func refs(s string) []string {
	var names []string
	for _, p := range split(s) {
		if p.ref != "" {
			names = append(names, p.ref)
		}
	}
	return names
}

// whole returns the name if the pieces are one reference and nothing else.
func wholeRef(pieces []piece) string {
	if len(pieces) == 1 {
		return pieces[0].ref
	}
	return ""
}

// textOf is a value inside a longer text, or where Kubernetes takes nothing but text.
func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	}
	return "" // a list or a map: the loader lets neither stand in text
}
