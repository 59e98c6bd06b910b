package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
