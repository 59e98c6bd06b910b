package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	srunOption = regexp.MustCompile(`--(k8s-[a-z-]+)`)
	argument   = regexp.MustCompile("`([a-z_]+)=(on|`)") // as the table of docs/installation.md has them
)

func names(pattern *regexp.Regexp, text string) (found []string) {
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestThePagesNameTheOptionsAndArgumentsOfThePlugin(t *testing.T) {
	parallel(t)
	options := names(srunOption, as(t, user, "srun", "--help").Stdout)
	require.NotEmpty(t, options)
	// The plugin names all arguments when it is given one that it does not know.
	said := as(t, "root", "bash", "-c", `folder=$(mktemp -d) && cp /etc/slurm/*.conf "$folder" && cd "$folder" &&
		sed -i "s|^PlugStackConfig=.*|PlugStackConfig=$folder/plugstack.conf|" slurm.conf &&
		sed -i 's|\(slurmk8s\S*\.so\).*|\1 nonsense=1|' plugstack.conf && SLURM_CONF=$folder/slurm.conf srun true; rm -r "$folder"`)
	_, known, found := strings.Cut(said.Stderr, `unknown argument "nonsense=1"; known are `)
	require.True(t, found, said.Stderr)
	arguments := names(regexp.MustCompile(`([a-z_]+)=`), strings.SplitN(known, "\n", 2)[0])
	require.NotEmpty(t, arguments)

	manual, err := os.ReadFile("../../packaging/man/slurmk8s.7")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(manual), `\-`, "-")
	assert.Equal(t, options, names(srunOption, text), "slurmk8s(7)")
	for _, name := range arguments {
		assert.Regexp(t, `(?m)^`+name+`=`, text, "slurmk8s(7)")
	}
	for _, page := range documentation(t) {
		assert.Subset(t, options, names(srunOption, page.Text), page.Name)
		if page.Name == "docs/installation.md" {
			assert.Equal(t, arguments, names(argument, page.Text), page.Name)
		}
	}
}
