package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/hook"
)

// shells are scripts that print what the shell offers for the words of a line, the last of which
// is being typed; $1 is the completion's file.
var shells = map[string][]string{
	// What bash-completion does with the words of the line is done here.
	"bash": {"bash", "-c", `_init_completion() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${words[cword]} prev=${words[cword-1]}; }
source "$1"; shift; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); __start_slurmk8s 2>/dev/null; printf '%s\n' "${COMPREPLY[@]}"`, "bash"},
	// What zsh leaves to its line editor, to narrow by what was typed, is not done here.
	"zsh": {"zsh", "-f", "-c", `compdef() {}; _describe() { print -l -- ${completions%%:*} }
file=$1; shift; words=("$@") CURRENT=$#; source "$file"; _slurmk8s`, "zsh"},
	"fish": {"fish", "--no-config", "-c", `source $argv[1]; complete -C "$argv[2..]"`},
}

// offers are the words that a shell has for a line.
func offers(t *testing.T, shell, file string, line ...string) []string {
	t.Helper()
	command := append(append([]string{}, shells[shell]...), file)
	cmd := exec.Command(command[0], append(command[1:], line...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var words []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			words = append(words, fields[0]) // what follows is its description
		}
	}
	return words
}

func TestEachCommandAndFlagIsOfferedByEachShell(t *testing.T) {
	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not installed: its completion is not tried", shell)
			}
			file := filepath.Join(t.TempDir(), "completion")
			require.NoError(t, os.WriteFile(file, []byte(call(t, "", "completion", shell).stdout), 0o600))
			root := newRoot()
			assert.Subset(t, offers(t, shell, file, "slurmk8s", ""), names(root))
			assert.Subset(t, offers(t, shell, file, "slurmk8s", "hook", ""), hook.Names())
			for _, cmd := range root.Commands() {
				if cmd.Hidden {
					continue
				}
				offered := offers(t, shell, file, "slurmk8s", cmd.Name(), "--")
				cmd.Flags().VisitAll(func(f *pflag.Flag) { assert.Contains(t, offered, "--"+f.Name, cmd.Name()) })
			}
		})
	}
}

func TestAHookHasNoFlagOrFieldToComplete(t *testing.T) {
	for _, line := range [][]string{{"hook", "slurm_bb_setup", ""}, {"hook", "slurm_bb_setup", "JOB"}} {
		r := call(t, "", append([]string{cobra.ShellCompNoDescRequestCmd}, line...)...)
		assert.Equal(t, ":4\n", r.stdout, "neither words nor files")
	}
}
