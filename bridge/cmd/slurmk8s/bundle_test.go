package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bundles writes a directory with a bundle called web.
func bundles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "web"), 0o755))
	for name, text := range map[string]string{
		"bundle.toml": `summary = "a page"
when = "start"
[param.port]
type = "port"
min = 1024
help = "where it listens"
[param.level]
type = "enum"
choices = ["info", "debug"]
default = "info"
help = "how much it says"
[[phase]]
name = "all"
files = ["config.yaml"]
`,
		"config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${name}\"}\ndata: {port: \"${port}\", level: \"${level}\"}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "web", name), []byte(text), 0o644))
	}
	return dir
}

func TestBundlesAreListedAndShown(t *testing.T) {
	dir := bundles(t)
	assert.Equal(t, result{0, "NAME  MADE AT  SUMMARY\nweb   start    a page\n", ""}, call(t, "", "bundle", "list", "--dir", dir))
	assert.Equal(t, result{0, `web: a page

Folder   ` + dir + `/web
Made     when the job has its nodes, within 2m; if that fails, the job is held
Removed  with the job, within 1m a phase

PARAMETER  TYPE            DEFAULT               MEANING
name       name            "${instance}-${job}"  begins the names of the objects
port       port from 1024  (required)            where it listens
level      info|debug      "info"                how much it says

Also as=INSTANCE, ns=NAMESPACE, timeout=TIME, wait=ready|none, as in every bundle.

PHASE  WAITS FOR  OBJECTS
all    ready      ConfigMap ${name}
`, ""}, call(t, "", "bundle", "show", "web", "--dir", dir))

	require.NoError(t, os.Mkdir(filepath.Join(dir, "bad"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad", "bundle.toml"), nil, 0o644))
	r := call(t, "", "bundle", "list", "--dir", dir)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout, "web")
	assert.Equal(t, "slurmk8s: bundle bad: bundle.toml: no [[phase]]\n", r.stderr)

	empty := t.TempDir()
	assert.Equal(t, result{0, "no bundle in " + empty + "\n", ""}, call(t, "", "bundle", "list", "--dir", empty))
}

func TestABundleIsCheckedBeforeItIsInstalled(t *testing.T) {
	dir := bundles(t)
	web := filepath.Join(dir, "web")
	assert.Equal(t, result{0, "bundle web: ok: 1 objects, 1 phases\n", ""}, call(t, "", "bundle", "check", web))

	require.NoError(t, os.WriteFile(filepath.Join(web, "forgotten.yaml"), nil, 0o644))
	require.NoError(t, os.Chmod(web, 0o777))
	r := call(t, "", "bundle", "check", web)
	assert.Equal(t, 0, r.status)
	assert.Equal(t, "bundle web: ok: 1 objects, 1 phases\nnote: no phase has forgotten.yaml\n"+
		"note: hooks would not load it here: "+web+" is writable by others (mode 0777): run \"chmod go-w "+web+"\"\n", r.stdout)

	require.NoError(t, os.WriteFile(filepath.Join(web, "config.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${nam}\"}\n"), 0o644))
	r = call(t, "", "bundle", "check", web)
	assert.Equal(t, 1, r.status)
	assert.Equal(t, "slurmk8s: bundle web: config.yaml: ConfigMap.metadata.name: no parameter \"nam\": did you mean name? ($${ stands for ${)\n", r.stderr)
}

func TestABundleIsRenderedWithoutACredential(t *testing.T) {
	dir := bundles(t)
	want := `---
# phase all, wait for ready: config.yaml
apiVersion: v1
data:
  level: debug
  port: "8080"
kind: ConfigMap
metadata:
  annotations:
    slurmk8s.io/bundle-name: web
    slurmk8s.io/restart-count: "0"
    slurmk8s.io/submit-time: "0"
    slurmk8s.io/uid: "` + strconv.Itoa(os.Getuid()) + `"
    slurmk8s.io/user: alice
  labels:
    slurmk8s.io/bundle: w2
    slurmk8s.io/cluster: cluster
    slurmk8s.io/job-id: "7"
    slurmk8s.io/managed-by: slurmk8s
  name: w2-7
  namespace: team
`
	words := []string{"port=8080", "level=debug", "as=w2", "ns=team", "--job", "7", "--user", "alice"}
	assert.Equal(t, result{0, want, ""}, call(t, "", append([]string{"bundle", "render", "web", "--dir", dir}, words...)...))
	assert.Equal(t, result{0, want, ""}, call(t, "", append([]string{"bundle", "render", dir + "/web"}, words...)...))
}

func TestAMistakeInAParameterIsOneLine(t *testing.T) {
	dir := bundles(t)
	for words, want := range map[string]string{
		"":            "bundle web: port= is missing",
		"port=80":     "bundle web: port=80: at least 1024",
		"prt=8080":    `bundle web: no parameter "prt": did you mean port? (slurmk8s bundle show web)`,
		"port":        `bundle web: "port" is not KEY=VALUE`,
		"level=trace": "bundle web: level=trace: must be one of info, debug",
	} {
		args := []string{"bundle", "render", "--dir", dir, "web"}
		if words != "" {
			args = append(args, words)
		}
		assert.Equal(t, result{1, "", "slurmk8s: " + want + "\n"}, call(t, "", args...))
	}
}
