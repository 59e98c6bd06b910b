package users

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	labelLetters = "abcdefghijklmnopqrstuvwxyz0123456789"
	hashDigits   = 8
	// maxReadable keeps an escaped name short enough for a prefix such as "jobs-".
	maxReadable = 40
)

// Label is what stands for a user's name in names of Kubernetes ("{user}" in
// slurmk8s.toml), which are DNS labels. A name that is one stands for itself. Any other
// name is escaped: in lower case, with "-" for each character that a label cannot have,
// then "-" and the first 8 digits of the name's SHA-256. So j.doe, j_doe and J.Doe have
// three labels. A name that itself looks escaped is escaped, too: nobody can have another
// user's label by being called so. because names what is in the way; "" if nothing is.
func Label(name string) (label, because string) {
	if because = unfit(name); because == "" {
		return name, ""
	}
	readable := strings.Map(func(r rune) rune {
		if strings.ContainsRune(labelLetters, r) {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	readable = strings.Trim(readable[:min(len(readable), maxReadable)], "-")
	if readable == "" {
		readable = "u"
	}
	sum := sha256.Sum256([]byte(name))
	return readable + "-" + hex.EncodeToString(sum[:])[:hashDigits], because
}

// unfit says why a name cannot stand for itself.
func unfit(name string) string {
	for _, r := range name {
		if r != '-' && !strings.ContainsRune(labelLetters, r) {
			return "a Kubernetes name cannot have \"" + string(r) + "\""
		}
	}
	switch {
	case name == "" || name[0] == '-' || name[len(name)-1] == '-':
		return "a Kubernetes name begins and ends with a letter or digit"
	case len(name) > maxReadable+1+hashDigits:
		return "the name is too long"
	case looksEscaped(name):
		return "the name ends like an escaped one"
	}
	return ""
}

// looksEscaped tells whether a name ends as Label ends what it escapes.
func looksEscaped(name string) bool {
	at := len(name) - hashDigits - 1
	return at > 0 && name[at] == '-' && strings.Trim(name[at+1:], "0123456789abcdef") == ""
}
