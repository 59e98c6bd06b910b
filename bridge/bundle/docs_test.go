package bundle

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/bundles.md")
	require.NoError(t, err)
	return string(text)
}

func section(t *testing.T, title string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page(t), title+"\n")
	require.True(t, ok, title)
	text, _, _ := strings.Cut(rest, "\n#")
	return text
}

// firstCells are those of a table, without its head.
func firstCells(text string) []string {
	var cells []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		cells = append(cells, row[1])
	}
	return cells
}

func TestThePageHasEachTypeFactKindAndBundle(t *testing.T) {
	var names []string
	for _, kind := range types {
		names = append(names, string(kind))
	}
	parameters := section(t, "### Parameters")
	assert.ElementsMatch(t, names, firstCells(parameters))
	for name := range facts {
		assert.Contains(t, parameters, "`${"+name+"}`")
	}
	for key := range common {
		assert.Contains(t, page(t), "`"+key+"=")
	}
	assert.ElementsMatch(t, []string{"name", "files", "wait", "only_if", "on"}, firstCells(section(t, "### Phases")))
	_, kinds, ok := strings.Cut(page(t), "The usual kinds are ")
	require.True(t, ok)
	for kind := range usualKinds {
		assert.Contains(t, kinds, kind.Kind)
	}
	bundles, err := Names([]string{shippedDir})
	require.NoError(t, err)
	assert.Subset(t, firstCells(page(t)), bundles)
}

// block is the fenced text that begins with a line.
func block(t *testing.T, first string) string {
	t.Helper()
	for _, found := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(page(t), -1) {
		if strings.HasPrefix(found[1], first) {
			return found[1]
		}
	}
	require.Fail(t, "no block "+first)
	return ""
}

func TestTheExampleOfThePageIsABundle(t *testing.T) {
	dir := folderOf(t, map[string]string{
		manifestName:      block(t, "summary "),
		"deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: \"${name}\"}\nspec: {replicas: \"${replicas}\", model: \"${model}\"}\n",
		"service.yaml":    "apiVersion: v1\nkind: Service\nmetadata: {name: \"${name}\"}\n",
	})
	b, err := Load(dir)
	require.NoError(t, err)
	out, err := b.Expand(request(map[string]string{"model": "m7"}), alice)
	require.NoError(t, err)
	assert.Equal(t, "b-42.ns.svc:8080", out.Env["LLM_ROUTER"])
}

func TestTheObjectAndTheMessagesOfThePageAreThese(t *testing.T) {
	out, err := expandShipped(t, "jupyter-proxy,ns=jobs")
	require.NoError(t, err)
	object := out.Phases[0].Objects[0]
	object.SetLabels(nil)
	object.SetAnnotations(nil)
	data, err := yaml.Marshal(object.Object)
	require.NoError(t, err)
	_, shown, _ := strings.Cut(block(t, "# slurmk8s bundle render jupyter-proxy"), "\n")
	assert.Equal(t, string(data), shown)

	messages := strings.Split(strings.TrimSpace(block(t, "bundle arkouda-exporter: ")), "\n")
	for i, option := range []string{"host=h", "server=s,host=h,interval=5", "server=s,host=h,intervall=20"} {
		_, err := expandShipped(t, "arkouda-exporter,ns=a,"+option)
		assert.EqualError(t, err, messages[i])
	}
}
