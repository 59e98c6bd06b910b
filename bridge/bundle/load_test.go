package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAFolderIsLoadedWithItsDefaults(t *testing.T) {
	b, err := of(t, `summary = "what it is"
[param.interval]
type = "int"
min = 10
default = 15
help = "seconds"
[param.server]
type = "host"
[env]
EXPORTER = "${name}.${namespace}.svc:5080"
`, configMap+"---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\n")
	require.NoError(t, err)
	assert.Equal(t, "b", b.Name)
	assert.Equal(t, "what it is", b.Summary)
	assert.Equal(t, WhenStage, b.When)
	assert.Equal(t, OnFailureHold, b.OnFailure)
	assert.Equal(t, 2*time.Minute, b.Timeout)
	assert.Equal(t, time.Minute, b.DeleteTimeout)
	var names []string
	for _, p := range b.Params {
		names = append(names, p.Name)
	}
	assert.Equal(t, []string{"name", "interval", "server"}, names)
	assert.False(t, b.Param("name").Required())
	assert.False(t, b.Param("interval").Required())
	assert.True(t, b.Param("server").Required())
	assert.Equal(t, "seconds", b.Param("interval").Help)
	assert.Equal(t, []schema.GroupVersionKind{{Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Service"}}, b.Kinds())
	assert.Len(t, b.Digest, 64)
}

func TestTheDigestIsThatOfEveryFile(t *testing.T) {
	digest := func(manifest, object string) string {
		b, err := of(t, manifest, object)
		require.NoError(t, err)
		return b.Digest
	}
	one := digest("", configMap)
	assert.Equal(t, one, digest("", configMap))
	assert.NotEqual(t, one, digest("summary = \"x\"", configMap))
	assert.NotEqual(t, one, digest("", configMap+"\n"))
}

func TestMistakesInBundleTomlAreNamed(t *testing.T) {
	for manifest, want := range map[string]string{
		"timeout 5":                                         "bundle.toml:1: expected '.' or '=', but got '5' instead",
		"intervall = 1":                                     "bundle.toml: intervall: unknown key: known are summary, when, timeout, delete_timeout, on_failure, images, kinds, param, phase, env",
		"timout = \"1m\"":                                   "bundle.toml: timout: unknown key: did you mean timeout?",
		"Timeout = \"1m\"":                                  "bundle.toml: Timeout: unknown key: did you mean timeout?",
		"timeout = 5":                                       "bundle.toml: timeout: want a quoted string",
		"timeout = \"5\"":                                   "bundle.toml: timeout: want a time such as \"2m\"",
		"when = \"later\"":                                  "bundle.toml: when: must be one of stage, start",
		"on_failure = \"x\"":                                "bundle.toml: on_failure: must be one of hold, cancel, proceed",
		"images = \"x\"":                                    "bundle.toml: images: want a list of strings",
		"images = [1]":                                      "bundle.toml: images: want a list of strings",
		"kinds = [\"Widget\"]":                              "bundle.toml: kinds: \"Widget\": want GROUP/VERSION KIND, such as \"example.org/v1 Widget\"",
		"param = 1":                                         "bundle.toml: param: want a table",
		"[param.x]":                                         "bundle.toml: param.x.type: missing",
		"[param.x]\ntype=\"i\"":                             "bundle.toml: param.x.type: must be one of name, string, int, bool, port, enum, duration, quantity, host, image, tag, label, arguments, derived",
		"[param.X]\ntype=\"int\"":                           "bundle.toml: param.X: a parameter's name has at most 32 lower-case letters, digits and \"_\", a letter first",
		"[param.job]\ntype=\"int\"":                         "bundle.toml: param.job: no parameter can have this name: it has a meaning in every bundle",
		"[param.as]\ntype=\"int\"":                          "bundle.toml: param.as: no parameter can have this name: it has a meaning in every bundle",
		"[param.capacity]\ntype=\"int\"":                    "bundle.toml: param.capacity: no parameter can have this name: it has a meaning in every bundle",
		"[param.pool]\ntype=\"int\"":                        "bundle.toml: param.pool: no parameter can have this name: it has a meaning in every bundle",
		"[param.x]\ntype=\"int\"\nchoices=[\"a\"]":          "bundle.toml: param.x.choices: unknown key: known are help, type, default, optional, min, max",
		"[param.x]\ntype=\"int\"\nmin=\"a\"":                "bundle.toml: param.x.min: \"a\": not a number",
		"[param.x]\ntype=\"int\"\ndefault=\"a\"":            "bundle.toml: param.x.default: \"a\": not a number",
		"[param.x]\ntype=\"int\"\nmax=1\ndefault=2":         "bundle.toml: param.x.default: \"2\": at most 1",
		"[param.x]\ntype=\"int\"\ndefault=2.5":              "bundle.toml: param.x.default: want a string, a number, true or false",
		"[param.x]\ntype=\"int\"\ndefault=2\noptional=true": "bundle.toml: param.x.optional: a parameter with a default always has a value",
		"[param.x]\ntype=\"enum\"":                          "bundle.toml: param.x.choices: missing",
		"[param.x]\ntype=\"enum\"\nchoices=[\"a'b\"]":       "bundle.toml: param.x.choices: \"a'b\": only printable ASCII characters, without quotes and \"\\\"",
		"[param.x]\ntype=\"image\"":                         "bundle.toml: param.x.type: image needs a list images at the top of the file",
		"[param.x]\ntype=\"string\"\npattern=\"(\"":         "bundle.toml: param.x.pattern: error parsing regexp: missing closing ): `\\A(?:()\\z`",
		"[param.x]\ntype=\"string\"\nmax=257":               "bundle.toml: param.x.max: from 1 to 256 bytes",
		"[param.x]\ntype=\"derived\"\nfrom=\"y\"":           "bundle.toml: param.x.from: must name a parameter of type int that always has a value",
		"[param.x]\ntype=\"string\"\ndefault=\"${y}\"":      "bundle.toml: param.x.default: ${y}: a default can refer to facts of the job only",
		"[param.x]\ntype=\"string\"\ndefault=\"${nodes}\"":  "bundle.toml: param.x.default: ${nodes}: a default can refer to facts of the job only",
		"[env]\nlower = \"x\"":                              "bundle.toml: env.lower: a variable has upper-case letters, digits and \"_\", and does not begin with SLURM or LD_",
		"[env]\nLD_PRELOAD = \"x\"":                         "bundle.toml: env.LD_PRELOAD: a variable has upper-case letters, digits and \"_\", and does not begin with SLURM or LD_",
		"[env]\nSLURM_X = \"x\"":                            "bundle.toml: env.SLURM_X: a variable has upper-case letters, digits and \"_\", and does not begin with SLURM or LD_",
		"[env]\nA = \"${x}\"":                               "bundle.toml: env.A: ${x} is no parameter that always has a value as text",
		"[env]\nA = \"${nodes}\"":                           "bundle.toml: env.A: ${nodes} is not known when the variables of the job are written, before it has its nodes",
		"when = \"start\"\n[env]\nA = \"${batch_host}:80\"": "bundle.toml: env.A: ${batch_host} is not known when the variables of the job are written, before it has its nodes",
		"when = \"start\"\n[param.x]\ntype=\"int\"\ndefault=\"${nodes}\"\n[env]\nA = \"${x}\"":                                          "bundle.toml: env.A: ${nodes} is not known when the variables of the job are written, before it has its nodes",
		"when = \"start\"\n[param.x]\ntype=\"int\"\ndefault=\"${nodes}\"\n[param.y]\ntype=\"derived\"\nfrom=\"x\"\n[env]\nA = \"${y}\"": "bundle.toml: env.A: ${nodes} is not known when the variables of the job are written, before it has its nodes",
		"[[phase]]\nname = \"x\"":                                 "bundle.toml: phase[1].files: missing",
		"[[phase]]\nfiles = [\"../x\"]":                           "bundle.toml: phase[1].files: \"../x\": want the names of files in the folder",
		"[[phase]]\nfiles = [\"bundle.toml\"]":                    "bundle.toml: phase[1].files: \"bundle.toml\": want the names of files in the folder",
		"[[phase]]\nfiles = [\"o.yaml\"]\nwait = \"x\"":           "bundle.toml: phase[1].wait: must be ready, none, endpoints or condition:TYPE=STATUS",
		"[[phase]]\nfiles = [\"o.yaml\"]\nwait = \"condition:A\"": "bundle.toml: phase[1].wait: want condition:TYPE=STATUS, such as condition:Available=True",
		"[[phase]]\nfiles = [\"o.yaml\"]\nonly_if = \"x\"":        "bundle.toml: phase phase1: only_if = \"x\" must name a parameter of type bool or an optional one",
		"[[phase]]\nfiles = [\"o.yaml\"]\non = \"x\"":             "bundle.toml: phase[1].on: must be one of create, delete",
		"[[phase]]\nfiles = [\"o.yaml\"]\nname = \"A\"":           "bundle.toml: phase[1].name: want lower-case letters, digits and \"-\"",
		"[[phase]]\nfiles = [\"o.yaml\"]\nfile = \"A\"":           "bundle.toml: phase[1].file: unknown key: did you mean files?",
		"[[phase]]\nfiles = [\"o.yaml\"]":                         "bundle.toml: o.yaml is in the phases phase1 and phase2",
		"[[phase]]\nfiles = [\"o.yaml\"]\nname = \"phase2\"":      "bundle.toml: two phases are called phase2",
	} {
		_, err := of(t, manifest, configMap)
		assert.EqualError(t, err, "bundle b: "+want, manifest)
	}
	_, err := Load(folderOf(t, map[string]string{manifestName: ""}))
	assert.EqualError(t, err, "bundle b: bundle.toml: no [[phase]]")
	_, err = Load(folderOf(t, map[string]string{manifestName: onePhase}))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWhatATemplateMustNotHaveIsRefusedAtLoad(t *testing.T) {
	const manifest = `
[param.who]
type = "string"
default = "x"
[param.count]
type = "int"
default = 1
[param.match]
type = "label"
[param.p]
type = "arguments"
[param.perhaps]
type = "string"
optional = true
`
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: c\n"
	for object, want := range map[string]string{
		"kind: Pod":  "o.yaml: an object without apiVersion and kind",
		"[1]":        "o.yaml: not a Kubernetes object",
		"# nothing":  "o.yaml: no object",
		"a: 1\na: 2": `o.yaml: yaml: unmarshal errors:   line 2: key "a" already set in map`,
		"apiVersion: v1\nkind: Secret\nmetadata: {name: x}":                                                                         "o.yaml: Secret: not allowed in a bundle: create it once and refer to it",
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}":                                                                 "o.yaml: ServiceAccount: not allowed in a bundle: create it once and refer to it",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: x}":                                          "o.yaml: RoleBinding: not allowed in a bundle: create it once and refer to it",
		"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: x}":                                                                 "o.yaml: DaemonSet: not a usual kind: add \"apps/v1 DaemonSet\" to kinds",
		"apiVersion: v1\nkind: ConfigMap":                                                                                           "o.yaml: ConfigMap: metadata is missing",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {}}":                                                                   "o.yaml: ConfigMap: metadata.name is missing",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: y}":                                                        "o.yaml: ConfigMap: metadata.namespace is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}":                                                              "o.yaml: ConfigMap: metadata.generateName is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, finalizers: [a]}":                                                     "o.yaml: ConfigMap: metadata.finalizers is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, ownerReferences: []}":                                                 "o.yaml: ConfigMap: metadata.ownerReferences is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, managedFields: []}":                                                   "o.yaml: ConfigMap: metadata.managedFields is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nstatus: {}":                                                          "o.yaml: ConfigMap: status is written by Kubernetes",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {slurmk8s.io/job-id: \"1\"}}":                                 "o.yaml: ConfigMap.metadata.labels.slurmk8s.io/job-id: labels and annotations of slurmk8s.io are not for templates",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {slurmk8s.io/uid: a}}":                                   "o.yaml: ConfigMap.metadata.annotations.slurmk8s.io/uid: labels and annotations of slurmk8s.io are not for templates",
		"apiVersion: v1\nkind: \"${who}\"\nmetadata: {name: x}":                                                                     "o.yaml: ${who}: not a usual kind: add \"v1 ${who}\" to kinds",
		"apiVersion: \"${who}\"\nkind: Pod\nmetadata: {name: x}":                                                                    "o.yaml: Pod.apiVersion: cannot have ${...}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  ${who}: x":                                                  "o.yaml: ConfigMap.data.${who}: a key cannot have ${...}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: echo ${who}":                                             "o.yaml: ConfigMap.data.x: ${who} in a part of a ConfigMap's text: pass it as a variable of env, or let it be the whole value ($${ stands for ${)",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: ${nodes}":                                                "o.yaml: ConfigMap.data.x: ${nodes} is known to bundles with when = \"start\" only",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: ${whom}":                                                 "o.yaml: ConfigMap.data.x: no parameter \"whom\": did you mean who? ($${ stands for ${)",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: ${perhaps}":                                              "o.yaml: ConfigMap.data.x: ${perhaps} is optional: give it a default, or the phase only_if = \"perhaps\"",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: ${match}":                                                "o.yaml: ConfigMap.data.x: ${match} is a label: add it with $merge: [\"${match}\"]",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  x: ${p}":                                                    "o.yaml: ConfigMap.data.x: ${p} is a list: it can only be a whole value",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {$merge: [\"${who}\"]}}":                                      "o.yaml: ConfigMap.metadata.labels.$merge: want a list of label parameters, such as [\"${match}\"]",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {$merge: []}}":                                                "o.yaml: ConfigMap.metadata.labels.$merge: want a list of label parameters, such as [\"${match}\"]",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, $merge: [\"${match}\"]}":                                              "o.yaml: ConfigMap: metadata.$merge is not for templates: only name, labels and annotations",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {$merge: [\"${match}\"]}":                                            "o.yaml: Pod.spec.$merge: only for labels, annotations and selectors",
		pod + "    command: [sh, -c, \"echo ${count}\"]":                                                                            "o.yaml: Pod.spec.containers[0].command[2]: ${count} in a script: pass it as a variable of env",
		pod + "    command: [/bin/bash, -xec, \"${who}\"]":                                                                          "o.yaml: Pod.spec.containers[0].command[2]: ${who} in a script: pass it as a variable of env",
		pod + "    command: [/bin/sh, -c]\n    args: [\"${who}\"]":                                                                  "o.yaml: Pod.spec.containers[0].args[0]: ${who} in a script: pass it as a variable of env",
		pod + "    command: [/bin/sh]\n    args: [-x, -c, \"${who}\"]":                                                              "o.yaml: Pod.spec.containers[0].args[2]: ${who} in a script: pass it as a variable of env",
		pod + "    args: [-c, \"${who}\"]":                                                                                          "o.yaml: Pod.spec.containers[0].args[1]: ${who} in a script: pass it as a variable of env",
		pod + "    args: [\"--server=${who}\"]":                                                                                     "o.yaml: Pod.spec.containers[0].args[0]: ${who} in a part of an argument: let it be the whole argument, or pass it as a variable of env",
		pod + "    args: [\"--user=${user}\"]":                                                                                      "o.yaml: Pod.spec.containers[0].args[0]: ${user} in a part of an argument: let it be the whole argument, or pass it as a variable of env",
		pod + "    env: [{name: A, value: \"$$${who}\"}]":                                                                           "",
		pod + "    env: [{name: A, value: \"a$ ${who}\"}]":                                                                          "",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec: {volumeClaimTemplates: []}":                             "o.yaml: StatefulSet: its claims would outlive the job: set spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Delete",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: " + strings.Repeat("{a: ", 64) + "1" + strings.Repeat("}", 64): "o.yaml: nested deeper than 64",
		strings.Repeat(configMap+"---\n", 65):                                                                                       "more than 64 objects",
		configMap + "# " + strings.Repeat("x", maxFileBytes):                                                                        "o.yaml is larger than 256 KiB",
	} {
		_, err := of(t, manifest, object)
		if want == "" {
			assert.NoError(t, err, object)
			continue
		}
		require.Error(t, err, object)
		assert.Equal(t, "bundle b: "+want, err.Error(), object)
	}
}

func TestWhatATemplateMayHaveIsLoaded(t *testing.T) {
	const manifest = "when = \"start\"\nkinds = [\"example.org/v1 Widget\"]\n[param.who]\ntype = \"string\"\ndefault = \"x\"\n[param.count]\ntype = \"int\"\ndefault = 1\n"
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: c\n"
	for _, object := range []string{
		"apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: x}",
		configMap + "data: {x: \"${who}\", y: \"${HOME} ${x:-y} $${who} ${nodes\", z: \"${nodes}\"}",
		pod + "    args: [\"--count=${count}\", \"${who}\", \"-n\", \"${nodes}\"]",
		pod + "    command: [argod, -c, \"${who}\"]",
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\nspec: {podSelector: {matchLabels: {slurmk8s.io/job-id: \"${job}\"}}}",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec: {volumeClaimTemplates: [], persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}}",
	} {
		_, err := of(t, manifest, object)
		assert.NoError(t, err, object)
	}
}

func TestABundleIsBoundedAsAWhole(t *testing.T) {
	files := map[string]string{manifestName: "[[phase]]\nfiles = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n"}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		files[name] = strings.ReplaceAll(configMap, "${name}", name) + "# " + strings.Repeat("x", 250<<10)
	}
	_, err := Load(folderOf(t, files))
	assert.EqualError(t, err, "bundle b: the files are larger than 1024 KiB together")

	bomb := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: &a [" + strings.Repeat("xxxxxxxxxx, ", 2000) + "]\n  b: [" + strings.Repeat("*a, ", 60) + "]\n"
	_, err = of(t, "", bomb)
	assert.EqualError(t, err, "bundle b: o.yaml: its aliases make it larger than 1024 KiB")
}

func TestWhatOthersCanWriteIsNotLoaded(t *testing.T) {
	files := map[string]string{manifestName: onePhase, "o.yaml": configMap}

	dir := folderOf(t, files)
	require.NoError(t, os.Chmod(filepath.Join(dir, "o.yaml"), 0o664))
	_, err := Load(dir)
	assert.EqualError(t, err, "bundle b: "+dir+"/o.yaml is writable by others (mode 0664): run \"chmod go-w "+dir+"/o.yaml\"")
	_, err = LoadUntrusted(dir)
	assert.NoError(t, err)

	for _, path := range []string{".", "..", "../.."} {
		dir := folderOf(t, files)
		writable := filepath.Join(dir, path)
		require.NoError(t, os.Chmod(writable, 0o777))
		_, err := Load(dir)
		assert.EqualError(t, err, writable+" is writable by others (mode 0777): run \"chmod go-w "+writable+"\"")
		require.NoError(t, os.Chmod(writable, 0o777|os.ModeSticky))
		_, err = Load(dir)
		assert.NoError(t, err, "with the sticky bit nobody replaces what is another's")
	}
}

func TestWhatBelongsToAnotherUserIsNotLoaded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	files := map[string]string{manifestName: onePhase, "o.yaml": configMap}
	for _, path := range []string{".", "o.yaml", manifestName} {
		dir := folderOf(t, files)
		given := filepath.Join(dir, path)
		require.NoError(t, os.Chown(given, 1234, 0))
		_, err := Load(dir)
		assert.ErrorContains(t, err, given+" belongs to user 1234: run \"chown root "+given+"\"")
	}
}

func TestLinksAreFollowedOnlyWhereNobodyElseMadeThem(t *testing.T) {
	files := map[string]string{manifestName: onePhase, "o.yaml": configMap}
	t.Run("the folder itself may be one", func(t *testing.T) {
		dir := folderOf(t, files)
		link := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.Symlink(dir, link))
		b, err := Load(link)
		require.NoError(t, err)
		assert.Equal(t, dir, b.Dir)
		assert.Equal(t, "other", b.Name, "the name by which it was asked for and allowed")
	})
	t.Run("its way is checked too", func(t *testing.T) {
		dir := folderOf(t, files)
		open := t.TempDir()
		require.NoError(t, os.Symlink(dir, filepath.Join(open, "hop")))
		require.NoError(t, os.Chmod(open, 0o777))
		link := filepath.Join(t.TempDir(), "b")
		require.NoError(t, os.Symlink(filepath.Join(open, "hop"), link))
		_, err := Load(link)
		assert.ErrorContains(t, err, open+" is writable by others")
	})
	t.Run("a file may be one within the folder", func(t *testing.T) {
		dir := folderOf(t, map[string]string{manifestName: onePhase, "real": configMap})
		require.NoError(t, os.Symlink("real", filepath.Join(dir, "o.yaml")))
		_, err := Load(dir)
		assert.NoError(t, err)
	})
	t.Run("but not out of it", func(t *testing.T) {
		for _, target := range []string{"/etc/passwd", "../outside"} {
			dir := folderOf(t, map[string]string{manifestName: onePhase})
			require.NoError(t, os.WriteFile(filepath.Join(dir, "../outside"), []byte(configMap), 0o644))
			require.NoError(t, os.Symlink(target, filepath.Join(dir, "o.yaml")))
			_, err := Load(dir)
			assert.ErrorContains(t, err, "path escapes from parent")
			_, err = LoadUntrusted(dir)
			assert.ErrorContains(t, err, "path escapes from parent")
		}
	})
	t.Run("a loop ends", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "b")
		require.NoError(t, os.Symlink(link, link))
		_, err := Load(link)
		assert.EqualError(t, err, link+": too many links")
	})
	t.Run("a FIFO is not waited for", func(t *testing.T) {
		dir := folderOf(t, map[string]string{manifestName: onePhase})
		require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "o.yaml"), 0o644))
		_, err := Load(dir)
		assert.EqualError(t, err, "bundle b: o.yaml is not a regular file")
	})
}

func TestTheFirstDirectoryThatHasABundleCounts(t *testing.T) {
	site, shipped := t.TempDir(), t.TempDir()
	write := func(dir, name, summary string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, manifestName), []byte("summary = \""+summary+"\""+onePhase), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "o.yaml"), []byte(configMap), 0o644))
	}
	write(shipped, "a", "shipped")
	write(shipped, "b", "shipped")
	write(site, "b", "site's")
	dirs := []string{site, shipped, filepath.Join(site, "missing")}

	names, err := Names(dirs)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	b, err := Find(dirs, "b")
	require.NoError(t, err)
	assert.Equal(t, "site's", b.Summary)
	for _, name := range []string{"c", "../a", "", "."} {
		_, err = Find(dirs, name)
		assert.True(t, errors.Is(err, fs.ErrNotExist), name)
	}
	_, err = Find(dirs, "argo")
	assert.EqualError(t, err, "bundle argo: there is none: known are a, b")
	_, err = Find([]string{"/nonexistent"}, "a b")
	assert.EqualError(t, err, `bundle "a b": there is none in /nonexistent`)
	// One that cannot be loaded is an error, and not the other of its name.
	require.NoError(t, os.Chmod(filepath.Join(site, "b"), 0o777))
	_, err = Find(dirs, "b")
	assert.ErrorContains(t, err, "is writable by others")
}
