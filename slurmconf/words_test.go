package slurmconf

import (
	"math/rand"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is checked by hand, written down as regular expressions.
var wordRules = []struct {
	name string
	is   func(string) bool
	rule string
}{
	{"DNS label", func(s string) bool { return isDNSLabel(s, 1000) }, `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`},
	{"directive", isDirectiveWord, `^[A-Za-z][A-Za-z0-9_-]{0,31}$`},
	{"interface", isInterfaceName, `^[A-Za-z0-9][A-Za-z0-9_.@:-]{0,14}$`},
	{"user", isKubernetesUser, `^[A-Za-z0-9:._@/+#-]{0,150}$`},
	{"pattern", isNamePattern, `^(?:[a-z0-9*-]|\{user\}){1,63}$`},
	{"taint", isTaint, `^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?(=[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`},
	{"label", isLabelKey, `^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`},
	{"suffix", isNodeSuffix, `^[-.a-z0-9]{0,200}[a-z0-9]$`},
	{"unit", isUnitName, `^[A-Za-z0-9:_.@-]{1,200}\.(service|socket|target)$`},
}

// randomWord is made of what the rules care for, short or near one of their bounds.
func randomWord(r *rand.Rand) string {
	parts := []string{"a", "b", "Z", "0", "9", "-", "_", ".", "/", "=", "@", ":", "+", "#", "*", "{user}", "{", "}", " ", "\n", "é", ".service", ".target"}
	var b strings.Builder
	for range r.Intn(6) {
		b.WriteString(parts[r.Intn(len(parts))])
	}
	if r.Intn(3) == 0 {
		bounds := []int{15, 32, 63, 150, 200, 253}
		b.WriteString(strings.Repeat("a", max(0, bounds[r.Intn(len(bounds))]-b.Len()+r.Intn(3)-1)))
		b.WriteString(parts[r.Intn(len(parts))])
	}
	return b.String()
}

func TestWordsAreCheckedAsTheirRulesSay(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, c := range wordRules {
		rule := regexp.MustCompile(c.rule)
		accepted := 0
		for range 20000 {
			word := randomWord(r)
			want := rule.MatchString(word)
			if want {
				accepted++
			}
			if !assert.Equal(t, want, c.is(word), "%s %q", c.name, word) {
				break
			}
		}
		assert.NotZero(t, accepted, c.name)
	}
}

func TestAKeyAndItsValueAreFoundAsSlurmFindsThem(t *testing.T) {
	rule := regexp.MustCompile(`^\s*([[:alnum:]_.]+)\s*[-*+/]?=\s*("([^"]*)"|\S+)`)
	parts := []string{"Key", "a.b", "_", " ", "\t", "=", "==", "+=", "-", `"`, `"a b"`, "value", "é", ","}
	r := rand.New(rand.NewSource(2))
	for range 50000 {
		line := ""
		for range r.Intn(8) {
			line += parts[r.Intn(len(parts))]
		}
		want := []any{"", "", "", false}
		if m := rule.FindStringSubmatchIndex(line); m != nil {
			value := line[m[4]:m[5]]
			if m[6] >= 0 {
				value = line[m[6]:m[7]]
			}
			want = []any{line[m[2]:m[3]], value, line[m[5]:], true}
		}
		key, value, rest, ok := cutKeyValue(line)
		if !assert.Equal(t, want, []any{key, value, rest, ok}, "%q", line) {
			return
		}
	}
}
