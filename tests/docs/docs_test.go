package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/slurmconf"
)

const top = "../.."

func pages(t *testing.T) []Page {
	t.Helper()
	all, err := Read(top)
	require.NoError(t, err)
	require.Greater(t, len(all), 5)
	for _, path := range []string{"spank/README.md", "tests/README.md", "tests/cluster/README.md"} {
		page, err := ReadPage(top, filepath.Join(top, path))
		require.NoError(t, err)
		all = append(all, page)
	}
	return all
}

// simple are the commands of a page one by one, without what joins them.
func simple(p Page) []string {
	var all []string
	for _, c := range p.Commands() {
		for command := range strings.SplitSeq(c.Text, "&&") {
			all = append(all, strings.TrimPrefix(strings.TrimSpace(command), "sudo "))
		}
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)#]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, p := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(p.Text, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			assert.FileExists(t, filepath.Join(top, filepath.Dir(p.Name), found[1]), p.Name)
		}
	}
}

var quoted = regexp.MustCompile(`"[^"]*"`)

func TestMakeHasTheTargetsOfThePages(t *testing.T) {
	var targets []string
	for _, p := range pages(t) {
		for _, command := range simple(p) {
			words := strings.Fields(quoted.ReplaceAllString(command, ""))
			if len(words) == 0 || words[0] != "make" {
				continue
			}
			for _, target := range words[1:] {
				if !strings.ContainsAny(target, "=$") {
					targets = append(targets, target)
				}
			}
		}
	}
	require.Greater(t, len(targets), 5)
	question := func(targets ...string) (int, string) { // 1: they would be made
		cmd := exec.CommandContext(t.Context(), "make", append([]string{"--question", "--directory", top}, targets...)...)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	status, out := question(targets...)
	assert.Less(t, status, 2, out)
	status, _ = question("no-such-target")
	assert.Equal(t, 2, status)
}

// program builds slurmk8s once.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slurmk8s")
	build := exec.Command("go", "build", "-o", path, "./bridge/cmd/slurmk8s")
	build.Dir = top
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// Help that is asked for last is given only when all before it was understood.
func TestCommandsOfSlurmk8sTakeTheirFlags(t *testing.T) {
	slurmk8s := program(t)
	tried := 0
	for _, p := range pages(t) {
		for _, command := range simple(p) {
			_, arguments, ours := strings.Cut(" "+command, "slurmk8s ")
			words := strings.Fields(arguments)
			if !ours || len(words) == 0 || strings.HasPrefix(command, "install") || words[0] == "hook" || !regexp.MustCompile(`^[a-z-]+$`).MatchString(words[0]) {
				continue
			}
			tried++
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			cmd := exec.CommandContext(ctx, slurmk8s, append([]string{words[0]}, append(flagsOf(words[1:]), "--help")...)...)
			out, err := cmd.CombinedOutput()
			cancel()
			assert.NoError(t, err, "%s: %s: %s", p.Name, command, out)
		}
	}
	assert.GreaterOrEqual(t, tried, 4, "the documentation shows commands")
}

// flagsOf are the words up to the first argument, whose flags would come before it.
func flagsOf(words []string) []string {
	for i, word := range words {
		if strings.ToUpper(word) == word && !strings.HasPrefix(word, "-") && (i == 0 || !strings.HasPrefix(words[i-1], "--")) {
			return words[:i]
		}
	}
	return words
}

// Of [[services.allow]] and the like, what is shown must load as it is.
func TestConfigurationThatIsShownLoads(t *testing.T) {
	shown := 0
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if b.Language != "toml" {
				continue
			}
			shown++
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "slurm.conf"), []byte("ClusterName=alps\n"), 0o644))
			path := filepath.Join(dir, "slurmk8s.toml")
			text := "slurm_conf = \"" + filepath.Join(dir, "slurm.conf") + "\"\n" + b.Text
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			_, err := slurmconf.Load(path)
			assert.NoError(t, err, "%s: %s", p.Name, b.Text)
		}
	}
	assert.GreaterOrEqual(t, shown, 2)
}
