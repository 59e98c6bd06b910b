package slurmconf

import "strings"

// What a value may be, checked by hand: each hook is a process of its own, and compiling
// a regular expression for each rule would cost it milliseconds at its start.

const (
	lowerCase    = "abcdefghijklmnopqrstuvwxyz"
	digits       = "0123456789"
	alphanumeric = lowerCase + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits
)

// isOf tells whether a text has only these characters, and at most so many.
func isOf(s, characters string, maxBytes int) bool {
	return len(s) <= maxBytes && strings.Trim(s, characters) == "" // none is left in the middle
}

// isEnclosed tells whether a text begins and ends with one of the characters ends, and
// has those and inner between them.
func isEnclosed(s, ends, inner string, maxBytes int) bool {
	return s != "" && isOf(s, ends+inner, maxBytes) &&
		strings.IndexByte(ends, s[0]) >= 0 && strings.IndexByte(ends, s[len(s)-1]) >= 0
}

func isDNSLabel(s string, maxBytes int) bool {
	return isEnclosed(s, lowerCase+digits, "-", maxBytes)
}

func isDirectiveWord(s string) bool {
	return s != "" && isOf(s, alphanumeric+"_-", 32) && !strings.ContainsRune(digits+"_-", rune(s[0]))
}

func isInterfaceName(s string) bool {
	return s != "" && isOf(s, alphanumeric+"_.@:-", 15) && strings.IndexByte(alphanumeric, s[0]) >= 0
}

// isKubernetesUser is stricter than Kubernetes, which takes any text.
func isKubernetesUser(s string) bool { return isOf(s, alphanumeric+":._@/+#-", 150) }

// isNamePattern allows "*" and "{user}" in the name of a service or namespace.
func isNamePattern(s string) bool {
	s = strings.ReplaceAll(s, "{user}", "u")
	return s != "" && isOf(s, lowerCase+digits+"*-", 63)
}

// isAnnotationPattern allows "*" in the key of an annotation, NAME or DOMAIN/NAME.
func isAnnotationPattern(s string) bool { return isLabelKey(strings.ReplaceAll(s, "*", "x")) }

// isLabelValue is what Kubernetes takes for the value of a label or taint, but not none.
func isLabelValue(s string) bool { return isEnclosed(s, alphanumeric, "-_.", 63) }

// isLabelKey is NAME or PREFIX/NAME.
func isLabelKey(s string) bool {
	prefix, name, prefixed := strings.Cut(s, "/")
	if !prefixed {
		return isLabelValue(s)
	}
	return isEnclosed(prefix, lowerCase+digits, "-.", 253) && isLabelValue(name)
}

// isTaint is KEY or KEY=VALUE.
func isTaint(s string) bool {
	key, value, valued := strings.Cut(s, "=")
	return isLabelKey(key) && (!valued || isLabelValue(value))
}

// isNodeSuffix is the end of a DNS name.
func isNodeSuffix(s string) bool {
	return s != "" && isOf(s, lowerCase+digits+"-.", 201) && strings.IndexByte("-.", s[len(s)-1]) < 0
}

// isUnitName is a unit that systemd can stop and start.
func isUnitName(s string) bool {
	for _, kind := range []string{".service", ".socket", ".target"} {
		if name, ok := strings.CutSuffix(s, kind); ok {
			return name != "" && isOf(name, alphanumeric+":_.@-", 200)
		}
	}
	return false
}

// cutKeyValue takes Key=Value or Key="a value" off the start of a line of slurm.conf.
func cutKeyValue(line string) (key, value, rest string, ok bool) {
	const space = " \t\n\f\r"
	line = strings.TrimLeft(line, space)
	end := strings.IndexFunc(line, func(r rune) bool { return !strings.ContainsRune(alphanumeric+"_.", r) })
	if end <= 0 {
		return "", "", "", false
	}
	key, line = line[:end], strings.TrimLeft(line[end:], space)
	if line != "" && strings.IndexByte("-*+/", line[0]) >= 0 { // Slurm's Key+=Value
		line = line[1:]
	}
	line, ok = strings.CutPrefix(line, "=")
	line = strings.TrimLeft(line, space)
	if !ok || line == "" {
		return "", "", "", false
	}
	if line[0] == '"' {
		if end := strings.IndexByte(line[1:], '"'); end >= 0 {
			return key, line[1 : 1+end], line[2+end:], true
		}
	}
	if end = strings.IndexAny(line, space); end < 0 {
		end = len(line)
	}
	return key, line[:end], line[end:], true
}
