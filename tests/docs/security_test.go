package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A cell of tests is `FOLDER`: TestOne, TestTwo, "a behaviour"; `FOLDER`: ... Behaviours
// are how the tests of C, Lua and shell are named.
var (
	folderOfTests = regexp.MustCompile("`([a-z0-9_/]+)`:")
	goTest        = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	behaviour     = regexp.MustCompile(`"([^"]+)"`)
)

// attackRows are the rows of the table of docs/security.md, each as its cells.
func attackRows(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "docs/security.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Attacks that are tested\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack") {
			rows = append(rows, strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | "))
		}
	}
	return rows
}

// sources are all tests in a folder.
func sources(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, folder, "*"))
	require.NoError(t, err)
	var all strings.Builder
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") && regexp.MustCompile(`\.(c|lua|sh)$`).MatchString(name) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			all.Write(text)
		}
	}
	return all.String()
}

func TestEachTestOfTheTableOfAttacksExists(t *testing.T) {
	rows := attackRows(t)
	require.GreaterOrEqual(t, len(rows), 20, "the attacks of the list")
	named := 0
	for _, row := range rows {
		require.Len(t, row, 3, "%v", row)
		cell := row[2]
		folders := folderOfTests.FindAllStringSubmatchIndex(cell, -1)
		require.NotEmpty(t, folders, "no folder: %s", row[0])
		for i, at := range folders {
			end := len(cell)
			if i+1 < len(folders) {
				end = folders[i+1][0]
			}
			folder, names := cell[at[2]:at[3]], cell[at[1]:end]
			text := sources(t, folder)
			before := named
			for _, name := range goTest.FindAllString(behaviour.ReplaceAllString(names, ""), -1) {
				assert.Regexp(t, `(?m)^func `+name+`\(`, text, "%s: %s has no test %s", row[0], folder, name)
				named++
			}
			for _, name := range behaviour.FindAllStringSubmatch(names, -1) {
				assert.Contains(t, text, `"`+name[1]+`"`, "%s: %s has no test %q", row[0], folder, name[1])
				named++
			}
			assert.Greater(t, named, before, "%s: %s: no test", row[0], folder)
		}
	}
	require.Greater(t, named, 60)
}
