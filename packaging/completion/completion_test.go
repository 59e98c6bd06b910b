// Package completion holds the completions for bash, zsh and fish against what slurmk8s --help says.
package completion

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shells are scripts that print what the shell offers for the words of a line, the last of which
// is being typed; $1 is the completion's file.
var shells = map[string][]string{
	"bash": {"bash", "-c", `source "$1"; shift; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _slurmk8s; printf '%s\n' "${COMPREPLY[@]}"`, "bash"},
	// What zsh leaves to its line editor, to narrow by what was typed, is not done here.
	"zsh":  {"zsh", "-f", "-c", `compadd() { shift; print -l -- "$@" }; file=$1; shift; words=("$@") CURRENT=$#; source "$file"`, "zsh"},
	"fish": {"fish", "--no-config", "-c", `source $argv[1]; complete -C "$argv[2..]"`},
}

// offers are the words that a shell has for a line.
func offers(t *testing.T, shell, program string, line ...string) []string {
	t.Helper()
	file, err := filepath.Abs("slurmk8s." + shell)
	require.NoError(t, err)
	command := append(append([]string{}, shells[shell]...), file)
	cmd := exec.Command(command[0], append(command[1:], line...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.Fields(string(out))
}

var (
	usageLine = regexp.MustCompile(`(?m)^  slurmk8s ([a-z][a-z|-]*)`)
	flagName  = regexp.MustCompile(`--[a-z][a-z-]*`)
	hookName  = regexp.MustCompile(`(?m)^  ([a-z0-9]+_[a-z0-9_]+)$`)
)

func helpOf(t *testing.T, program string, command ...string) string {
	t.Helper()
	out, err := exec.Command(program, append(command, "--help")...).Output()
	require.NoError(t, err)
	return string(out)
}

func TestEachCommandAndFlagOfHelpIsOffered(t *testing.T) {
	program := filepath.Join(t.TempDir(), "slurmk8s")
	out, err := exec.Command("go", "build", "-o", program, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s").CombinedOutput()
	require.NoError(t, err, "%s", out)
	var commands []string
	for _, found := range usageLine.FindAllStringSubmatch(helpOf(t, program), -1) {
		commands = append(commands, strings.Split(found[1], "|")...)
	}
	require.GreaterOrEqual(t, len(commands), 10, "commands of slurmk8s --help")
	var hooks []string
	for _, found := range hookName.FindAllStringSubmatch(helpOf(t, program, "hook"), -1) {
		hooks = append(hooks, found[1])
	}
	require.GreaterOrEqual(t, len(hooks), 10, "hooks of slurmk8s hook --help")

	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not installed: its completion is not tried", shell)
			}
			assert.Subset(t, offers(t, shell, program, "slurmk8s", ""), commands)
			assert.Subset(t, offers(t, shell, program, "slurmk8s", "hook", ""), hooks)
			for _, command := range commands {
				if command == "hook" {
					continue // it takes names and fields
				}
				offered := offers(t, shell, program, "slurmk8s", command, "--")
				assert.Contains(t, offered, "--help", command)
				for _, flag := range flagName.FindAllString(helpOf(t, program, command), -1) {
					assert.Contains(t, offered, flag, fmt.Sprintf("%s %s", command, flag))
				}
			}
		})
	}
}

// A shell that is not here to try it has the same questions to the program as bash.
func TestAllShellsAskTheProgramTheSame(t *testing.T) {
	question := regexp.MustCompile(`(sed -n|grep -o) [^|)"]*`)
	ask := func(shell string) (found []string) {
		text, err := os.ReadFile("slurmk8s." + shell)
		require.NoError(t, err)
		for _, q := range question.FindAllString(string(text), -1) {
			found = append(found, strings.TrimSpace(q))
		}
		return found
	}
	require.Len(t, ask("bash"), 3)
	for shell := range shells {
		assert.Equal(t, ask("bash"), ask(shell), shell)
	}
}
