package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answers of a program with two commands.
func fakeProgram(args ...string) (string, error) {
	return map[string]string{
		"--help": "prog does things.\n\nUsage:\n  slurmk8s mend [FILE]   mend it\n  slurmk8s put|take ID   put or take\n  slurmk8s --version\n\nAll take --config FILE.\n",
		"mend --help": "Usage: slurmk8s mend [--limit TIME] [FILE]\n       slurmk8s mend --all\n\nMends it:\n\n  --limit TIME  how long\n                it may take\n  --all         everything\n\nFor instance:\n" +
			"  slurmk8s mend a'b\\c\n\n.not a macro\n",
		"put --help": "Usage: slurmk8s put ID\n\nPuts it.\n",
	}[strings.Join(args, " ")], nil
}

func TestThePageOfCommandsHasWhatHelpSays(t *testing.T) {
	page, err := commandPage("2026-11-22", fakeProgram)
	require.NoError(t, err)
	for _, want := range []string{
		".TH SLURMK8S 1 2026-11-22 slurmk8s\n",
		".SH slurmk8s mend\n.RS 4\n.nf\nslurmk8s mend [\\-\\-limit TIME] [FILE]\nslurmk8s mend \\-\\-all\n.fi\n.RE\n",
		".PP\nMends it:\n.TP\n\\fB\\-\\-limit TIME\\fR\nhow long\nit may take\n.TP\n\\fB\\-\\-all\\fR\neverything\n",
		".PP\nFor instance:\n.PP\n.RS 4\n.nf\nslurmk8s mend a\\(aqb\\ec\n.fi\n.RE\n.PP\n\\&.not a macro\n",
		".SH slurmk8s put, take\n",
		"All take \\-\\-config FILE.\n",
	} {
		assert.Contains(t, page, want)
	}
}

func TestHelpWithoutCommandsIsAnError(t *testing.T) {
	for _, help := range []string{"", "prog does things.\n", "prog.\n\nUsage:\n  prog mend\n"} {
		_, err := commandPage("2026-11-22", func(...string) (string, error) { return help, nil })
		assert.Error(t, err, "%q", help)
	}
}

func TestThePageOfTheConfigurationTiesCommentsToKeys(t *testing.T) {
	page := configPage("2026-11-22", `# The configuration.

# How long:
#   "a"  short
# or not at all.
#limit = "1s"

# About the table.
[table]
#one = 1
#two = 2

# Shared by both.
#three = 3
#four = 4

# A rule.
#
#   users  who
#
#[[table.allow]]
#users = ["alice"]
`)
	for _, want := range []string{
		".SH DESCRIPTION\nThe configuration.\n",
		".TP\n\\fBlimit\\fR = \"1s\"\nHow long:\n.PP\n.RS 11\n.nf\n\"a\"  short\n.fi\n.RE\n.IP\nor not at all.\n",
		".SH [table]\nAbout the table.\n.PP\n.RS 4\n.nf\none = 1\ntwo = 2\n.fi\n.RE\n",
		".TP\n\\fBthree\\fR = 3\n.TQ\n\\fBfour\\fR = 4\nShared by both.\n",
		".PP\nA rule.\n.TP\n\\fBusers\\fR\nwho\n.PP\n.RS 4\n.nf\n[[table.allow]]\nusers = [\"alice\"]\n",
	} {
		assert.Contains(t, page, want)
	}
}

func TestEachKeyOfTheExampleIsInItsPage(t *testing.T) {
	example, err := os.ReadFile("../slurmk8s.toml")
	require.NoError(t, err)
	page := configPage("2026-11-22", string(example))
	keys := regexp.MustCompile(`(?m)^#([a-z_]+) = `).FindAllStringSubmatch(string(example), -1)
	require.Greater(t, len(keys), 20)
	for _, key := range keys {
		assert.Regexp(t, `(?m)^(\\fB)?`+key[1]+`(\\fR)? = `, page)
	}
}

// slurmk8s(7) is written by hand; these are the sources of what it lists.
func TestThePageForUsersListsAllOptionsAndArgumentsOfThePlugin(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	page := strings.ReplaceAll(read("slurmk8s.7"), `\-`, "-")
	options := regexp.MustCompile(`\{ "(k8s-[a-z-]+)",`).FindAllStringSubmatch(read("../../spank/options.c"), -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		assert.Contains(t, page, "--"+option[1]+"=")
	}
	arguments := regexp.MustCompile(`\{ "([a-z_]+)", [A-Z_]+, offsetof`).FindAllStringSubmatch(read("../../spank/config.c"), -1)
	require.NotEmpty(t, arguments)
	for _, argument := range arguments {
		assert.Regexp(t, `(?m)^`+argument[1]+`=`, page)
	}
	for _, timeout := range regexp.MustCompile(`\.([a-z_]+_timeout_ms) = (\d+)`).FindAllStringSubmatch(read("../../spank/config.c"), -1) {
		assert.Contains(t, page, timeout[1]+"="+timeout[2])
	}
}
