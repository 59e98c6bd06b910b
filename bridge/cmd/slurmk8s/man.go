//go:build man

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Built with -tags man the program has one more command, which writes its manual pages.
// What that needs is not linked into the program that hooks start.
func init() { commands = append(commands, manCommand) }

// more is at the end of slurmk8s(1).
const more = `.SH FILES
.TP
\fB/etc/slurm/slurmk8s.toml\fR
the configuration: \fBslurmk8s.toml\fR(5)
.TP
\fB/var/spool/slurmk8s\fR
local state of the hooks on the controller
.TP
\fB/run/slurmk8s\fR
what a node's jobs have in Kubernetes
`

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DATE DIR", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("man takes a date and a directory")
			}
			date, err := time.Parse(time.DateOnly, args[0])
			if err != nil {
				return err
			}
			return writePages(cmd.Root(), date, args[1])
		},
	}
}

func writePages(root *cobra.Command, date time.Time, dir string) error {
	for _, cmd := range allCommands(root) {
		if cmd.Hidden {
			continue
		}
		var page strings.Builder
		header := doc.GenManHeader{Section: "1", Date: &date, Source: "slurmk8s", Manual: "slurmk8s"}
		if err := doc.GenMan(cmd, &header, &page); err != nil {
			return err
		}
		if cmd == root {
			page.WriteString(more)
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(clean(page.String(), date)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var (
	flagLine = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t(.*)$`)
	titleDay = regexp.MustCompile(`(?m)^(\.TH "[^"]*" "1") "[^"]*"`)
)

// clean makes a page of cobra/doc one that mandoc has nothing to say about: a list of
// flags instead of tabs, a date, and hyphens that can be copied.
func clean(page string, date time.Time) string {
	page = flagLine.ReplaceAllString(page, ".TP\n$1\n$2")
	page = titleDay.ReplaceAllString(page, `$1 "`+date.Format(time.DateOnly)+`"`)
	page = strings.ReplaceAll(page, "[=false]", "") // --json, not --json[=false]
	page = strings.Replace(page, ".SH SEE ALSO\n", ".SH SEE ALSO\n\\fBslurmk8s.toml(5)\\fP, \\fBslurmk8s(7)\\fP, ", 1)
	var b strings.Builder
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, ".") {
			line = strings.ReplaceAll(strings.ReplaceAll(line, `\-`, "-"), "-", `\-`)
		}
		b.WriteString(line)
	}
	return b.String()
}
