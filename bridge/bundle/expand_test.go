package bundle

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func field(t *testing.T, u *unstructured.Unstructured, path ...string) any {
	t.Helper()
	value, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	require.NoError(t, err)
	require.True(t, found, path)
	return value
}

func TestAReferenceAloneHasItsTypeAndInsideTextItIsText(t *testing.T) {
	b, err := of(t, "[param.n]\ntype=\"int\"\n[param.on]\ntype=\"bool\"\n[param.total]\ntype=\"derived\"\nfrom=\"n\"\nplus=1\n",
		`apiVersion: v1
kind: Pod
metadata: {name: "${name}"}
spec:
  number: ${n}
  text: ${n}s
  flag: ${on}
  flagText: is-${on}
  total: ${total}
  escaped: $${n} $$${n} ${N} ${n:-x}
  two: "${n}${on}"
  fixed: [1, 2.5, true, null]
`)
	require.NoError(t, err)
	o, err := expandOne(t, b, map[string]string{"n": "4", "on": "false"})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"number": int64(4), "text": "4s", "flag": false, "flagText": "is-false", "total": int64(5),
		"escaped": "${n} $${n} ${N} ${n:-x}", "two": "4false", "fixed": []any{int64(1), 2.5, true, nil},
	}, field(t, o, "spec"))
	assert.Equal(t, "b-42", o.GetName())
}

func TestWhereKubernetesTakesTextOnlyANumberBecomesText(t *testing.T) {
	b, err := of(t, "[param.n]\ntype=\"int\"\ndefault=4\n", `apiVersion: v1
kind: Pod
metadata: {name: x, labels: {a: "${n}"}, annotations: {a: "${n}"}}
spec:
  nodeSelector: {a: "${n}"}
  containers:
  - command: [run, "${n}"]
    args: ["${n}"]
    env: [{name: A, value: "${n}"}]
`)
	require.NoError(t, err)
	o, err := expandOne(t, b, nil)
	require.NoError(t, err)
	assert.Equal(t, "4", o.GetLabels()["a"])
	assert.Equal(t, "4", o.GetAnnotations()["a"])
	assert.Equal(t, map[string]any{"a": "4"}, field(t, o, "spec", "nodeSelector"))
	assert.Equal(t, []any{map[string]any{
		"command": []any{"run", "4"}, "args": []any{"4"}, "env": []any{map[string]any{"name": "A", "value": "4"}},
	}}, field(t, o, "spec", "containers"))

	b, err = of(t, "[param.n]\ntype=\"int\"\ndefault=4\n", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {selector: {a: \"${n}\"}, ports: [{port: \"${n}\"}]}\n")
	require.NoError(t, err)
	o, err = expandOne(t, b, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "4"}, field(t, o, "spec", "selector"))
	assert.Equal(t, []any{map[string]any{"port": int64(4)}}, field(t, o, "spec", "ports"))

	b, err = of(t, "[param.n]\ntype=\"int\"\ndefault=4\n", configMap+"data: {a: \"${n}\"}\n")
	require.NoError(t, err)
	o, err = expandOne(t, b, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "4"}, field(t, o, "data"))
}

func TestADollarOfAUserIsOneForTheKubeletToo(t *testing.T) {
	b, err := of(t, "[param.x]\ntype=\"string\"\npattern=\".*\"\n", `apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  containers:
  - command: ["${x}"]
    args: ["${x}"]
    env: [{name: A, value: "$(B)${x}"}]
    workingDir: ${x}
`)
	require.NoError(t, err)
	o, err := expandOne(t, b, map[string]string{"x": "$(SECRET)$$a$"})
	require.NoError(t, err)
	assert.Equal(t, []any{map[string]any{
		"command": []any{"$$(SECRET)$$$$a$$"}, "args": []any{"$$(SECRET)$$$$a$$"},
		"env":        []any{map[string]any{"name": "A", "value": "$(B)$$(SECRET)$$$$a$$"}},
		"workingDir": "$(SECRET)$$a$",
	}}, field(t, o, "spec", "containers"))

	_, err = of(t, "[param.x]\ntype=\"string\"\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{env: [{name: A, value: \"a$$ ${x} $$${x} b$ \"}, {name: B, value: \"-$${x}\"}]}]}")
	assert.NoError(t, err)
	_, err = of(t, "[param.x]\ntype=\"string\"\n[param.y]\ntype=\"string\"\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{env: [{name: B, value: \"$${x}$$$${y}\"}]}]}")
	assert.NoError(t, err)
}

func TestMergeAddsLabelsThatAreNotThereYet(t *testing.T) {
	b, err := of(t, "[param.match]\ntype=\"label\"\n[param.more]\ntype=\"label\"\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  labels:\n    app: x\n    $merge: [\"${match}\", \"${more}\"]\n")
	require.NoError(t, err)
	o, err := expandOne(t, b, map[string]string{"match": "release:kube-stack", "more": "a=b"})
	require.NoError(t, err)
	assert.Equal(t, "kube-stack", o.GetLabels()["release"])
	assert.Equal(t, "b", o.GetLabels()["a"])
	assert.Equal(t, "x", o.GetLabels()["app"])
	assert.NotContains(t, o.GetLabels(), mergeKey)

	o, err = expandOne(t, b, nil)
	require.NoError(t, err)
	assert.NotContains(t, o.GetLabels(), "release")
	assert.NotContains(t, o.GetLabels(), mergeKey)

	_, err = expandOne(t, b, map[string]string{"match": "app:other"})
	assert.EqualError(t, err, "bundle b: match=app:other: the bundle sets the label app itself")
	_, err = expandOne(t, b, map[string]string{"match": "a:1", "more": "a:2"})
	assert.EqualError(t, err, "bundle b: more=a:2: the bundle sets the label a itself")
}

func TestArgumentsAreAListOfNamesAndValues(t *testing.T) {
	b, err := of(t, "[param.p]\ntype=\"arguments\"\npattern=\"[a-z ]*\"\n[param.p.patterns]\nport=\"[0-9]+\"\n",
		"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: x}\nspec: {arguments: {parameters: \"${p}\"}}\n")
	require.NoError(t, err)
	o, err := expandOne(t, b, map[string]string{"p.b": "x y", "p.a-c": "", "p.port": "80"})
	require.NoError(t, err)
	assert.Equal(t, []any{
		map[string]any{"name": "a-c", "value": ""}, map[string]any{"name": "b", "value": "x y"}, map[string]any{"name": "port", "value": "80"},
	}, field(t, o, "spec", "arguments", "parameters"))

	o, err = expandOne(t, b, nil)
	require.NoError(t, err)
	assert.Equal(t, []any{}, field(t, o, "spec", "arguments", "parameters"))

	for key, want := range map[string]string{
		"p.port": "bundle b: p.port=x: must match [0-9]+",
		"p.":     `bundle b: p.=x: an argument's name has letters, digits, "-" and "_"`,
		"p.a.b":  `bundle b: p.a.b=x: an argument's name has letters, digits, "-" and "_"`,
		"p":      "bundle b: write p.NAME=VALUE for each argument",
		"q":      `bundle b: no parameter "q": known are name, p.NAME, as, ns, timeout, wait (slurmk8s bundle show b)`,
		"name.x": `bundle b: no parameter "name.x": did you mean name? (slurmk8s bundle show b)`,
	} {
		_, err = expandOne(t, b, map[string]string{key: "x"})
		assert.EqualError(t, err, want)
	}
}

func TestAPhaseOfAConditionIsLeftOutWithoutIt(t *testing.T) {
	dir := folderOf(t, map[string]string{
		manifestName: `
[param.metrics]
type = "bool"
default = true
[param.after]
type = "name"
optional = true
[[phase]]
name = "one"
files = ["one.yaml"]
wait = "endpoints"
[[phase]]
name = "two"
files = ["two.yaml"]
only_if = "metrics"
[[phase]]
name = "end"
files = ["end.yaml"]
only_if = "after"
on = "delete"
`,
		"one.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n",
		"two.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\n",
		"end.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${after}\"}\n",
	})
	b, err := Load(dir)
	require.NoError(t, err)
	phases := func(r Request) (names, waits, end []string) {
		out, err := b.Expand(r, alice)
		require.NoError(t, err)
		for _, p := range out.Phases {
			names, waits = append(names, p.Name), append(waits, p.Wait)
		}
		for _, p := range out.Delete {
			end = append(end, p.Objects[0].GetName(), p.Wait, p.Files[0])
		}
		return names, waits, end
	}
	names, waits, end := phases(request(nil))
	assert.Equal(t, []string{"one", "two"}, names)
	assert.Equal(t, []string{WaitEndpoints, WaitReady}, waits)
	assert.Empty(t, end)

	r := request(map[string]string{"metrics": "false", "after": "x"})
	r.Wait = WaitNone
	names, waits, end = phases(r)
	assert.Equal(t, []string{"one"}, names)
	assert.Equal(t, []string{WaitNone}, waits)
	assert.Equal(t, []string{"x", WaitReady, "end.yaml"}, end)
}

func TestObjectsAreMarkedAsTheJobsAndPodsAsTheUsers(t *testing.T) {
	b, err := of(t, "", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, labels: {app: x}}\nspec: {template: {metadata: {labels: {app: x}}, spec: {}}}\n")
	require.NoError(t, err)
	r := request(nil)
	r.Instance = "aok"
	out, err := b.Expand(r, alice)
	require.NoError(t, err)
	o := out.Phases[0].Objects[0]
	assert.Equal(t, "ns", o.GetNamespace())
	assert.Equal(t, "ns", out.Namespace())
	ours := map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "c1", "slurmk8s.io/job-id": "42", "slurmk8s.io/bundle": "aok", "app": "x"}
	assert.Equal(t, ours, o.GetLabels())
	assert.Equal(t, map[string]string{
		"slurmk8s.io/bundle-name": "b", "slurmk8s.io/user": "alice", "slurmk8s.io/uid": "1001", "slurmk8s.io/restart-count": "0", "slurmk8s.io/submit-time": "1700000000",
	}, o.GetAnnotations())
	pod := &unstructured.Unstructured{Object: field(t, o, "spec", "template").(map[string]any)}
	maps.Copy(ours, map[string]string{"slurmk8s.io/user": "alice", "slurmk8s.io/account": "physics"})
	assert.Equal(t, ours, pod.GetLabels())
	assert.Empty(t, o.GetOwnerReferences())
}

func TestFactsOfTheJobAreThere(t *testing.T) {
	b, err := of(t, "when=\"start\"\n[env]\nADDRESS = \"${name}.${namespace}.svc\"\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n"+
		"  all: ${job} ${cluster} ${user} ${uid} ${account} ${partition} ${namespace} ${bundle} ${instance} ${submit_time} ${nodes} ${batch_host}\n  nodes: ${nodes}\n  job: ${job}\n")
	require.NoError(t, err)
	out, err := b.Expand(request(nil), alice)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"all": "42 c1 alice 1001 physics p ns b b 1700000000 3 n1", "nodes": int64(3), "job": int64(42)},
		field(t, out.Phases[0].Objects[0], "spec"))
	assert.Equal(t, map[string]string{"ADDRESS": "b-42.ns.svc", "SLURMK8S_BUNDLE_B_NAMESPACE": "ns"}, out.Env)

	few := alice
	few.Account = ""
	_, err = b.Expand(request(nil), few)
	assert.EqualError(t, err, "bundle b: o.yaml: Pod.spec.all: ${account} is not known here")
	odd := alice
	odd.Account = "a'b"
	_, err = b.Expand(request(nil), odd)
	assert.EqualError(t, err, `bundle b: account "a'b": only printable ASCII characters, without quotes and "\"`)
}

func TestABundleWithoutAJobHasNoJobsLabels(t *testing.T) {
	b, err := of(t, "", configMap)
	require.NoError(t, err)
	out, err := b.Expand(request(nil), Facts{Job: job.Job{Cluster: "c1"}})
	require.NoError(t, err)
	o := out.Phases[0].Objects[0]
	assert.Equal(t, "b", o.GetName())
	assert.Equal(t, map[string]string{"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "c1", "slurmk8s.io/bundle": "b"}, o.GetLabels())
	assert.Equal(t, map[string]string{"slurmk8s.io/bundle-name": "b"}, o.GetAnnotations())
}

func TestANameLeavesRoomForWhatTemplatesAdd(t *testing.T) {
	b, err := of(t, "", configMap+"---\napiVersion: v1\nkind: Service\nmetadata: {name: \"x-${name}-servicemonitor\"}\n")
	require.NoError(t, err)
	long := strings.Repeat("a", 63-len("x--servicemonitor"))
	_, err = b.Expand(request(map[string]string{"name": long}), alice)
	assert.NoError(t, err)
	_, err = b.Expand(request(map[string]string{"name": long + "a"}), alice)
	assert.EqualError(t, err, `bundle b: name=`+long+`a: at most 46 characters, because the bundle adds "x--servicemonitor"`)

	b, err = of(t, "", "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: \"${name}\"}\nspec: {serviceName: \"${name}\"}\n")
	require.NoError(t, err)
	assert.Equal(t, 52, b.Param("name").room)
}

func TestUsersMistakesAreNamedInOneLine(t *testing.T) {
	b, err := of(t, "timeout=\"2m\"\n[param.interval]\ntype=\"int\"\nmin=10\ndefault=15\n[param.server]\ntype=\"host\"\n[param.total]\ntype=\"derived\"\nfrom=\"interval\"\n", configMap)
	require.NoError(t, err)
	server := func(more ...string) map[string]string {
		values := map[string]string{"server": "s"}
		for i := 0; i < len(more); i += 2 {
			values[more[i]] = more[i+1]
		}
		return values
	}
	for want, values := range map[string]map[string]string{
		"bundle b: server= is missing":      nil,
		"bundle b: interval=5: at least 10": server("interval", "5"),
		`bundle b: no parameter "intervall": did you mean interval? (slurmk8s bundle show b)`:                              server("intervall", "20"),
		`bundle b: no parameter "total": known are name, interval, server, as, ns, timeout, wait (slurmk8s bundle show b)`: server("total", "1"),
		`bundle b: no parameter "x\ny": known are name, interval, server, as, ns, timeout, wait (slurmk8s bundle show b)`:  server("x\ny", "1"),
		`bundle b: interval="5\n": not a number`: server("interval", "5\n"),
	} {
		_, err := b.Expand(request(values), alice)
		var refused *job.Refused
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, want, err.Error())
	}
	r := request(server())
	r.Timeout = time.Hour
	_, err = b.Expand(r, alice)
	assert.EqualError(t, err, "bundle b: timeout=1h: at most 2m")
	r.Timeout = time.Minute
	out, err := b.Expand(r, alice)
	require.NoError(t, err)
	assert.Equal(t, time.Minute, out.Timeout)
	assert.Equal(t, map[string]any{"name": "b-42", "interval": int64(15), "server": "s", "total": int64(15)}, out.Values)
}

func TestAPatternCanNameTheUser(t *testing.T) {
	b, err := of(t, "[param.path]\ntype=\"string\"\nmatch=[\"user/{user}\", \"user/{user}/*\"]\ndefault=\"user/${user}\"\n", configMap+"data: {path: \"${path}\"}\n")
	require.NoError(t, err)
	for path, ok := range map[string]bool{"": true, "user/alice": true, "user/alice/lab": true, "user/alicex": false, "user/bob": false, "user/{user}": false} {
		values := map[string]string{"path": path}
		if path == "" {
			values = nil
		}
		_, err := expandOne(t, b, values)
		assert.Equal(t, ok, err == nil, "%s: %v", path, err)
	}
	star := alice
	star.User = "*"
	_, err = b.Expand(request(map[string]string{"path": "user/bob"}), star)
	assert.EqualError(t, err, "bundle b: path=user/bob: must match one of user/{user}, user/{user}/*")
}

func TestTheTimeoutIsAFact(t *testing.T) {
	b, err := of(t, "timeout=\"2m\"\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {activeDeadlineSeconds: \"${timeout_seconds}\"}\n")
	require.NoError(t, err)
	o, err := expandOne(t, b, nil)
	require.NoError(t, err)
	assert.Equal(t, int64(120), field(t, o, "spec", "activeDeadlineSeconds"))
	r := request(nil)
	r.Timeout = time.Minute
	out, err := b.Expand(r, alice)
	require.NoError(t, err)
	assert.Equal(t, int64(60), field(t, out.Phases[0].Objects[0], "spec", "activeDeadlineSeconds"))
}

func TestTwoTemplatesMustNotMakeOneObject(t *testing.T) {
	b, err := of(t, "[param.other]\ntype=\"name\"\n", configMap+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${other}\"}\n")
	require.NoError(t, err)
	_, err = b.Expand(request(map[string]string{"name": "x", "other": "y"}), alice)
	assert.NoError(t, err)
	_, err = b.Expand(request(map[string]string{"name": "x", "other": "x"}), alice)
	assert.EqualError(t, err, "bundle b: o.yaml and o.yaml make the same object, ConfigMap x")
}

func TestExpandingDoesNotChangeTheBundle(t *testing.T) {
	b, err := of(t, "", "apiVersion: v1\nkind: Pod\nmetadata: {name: \"${name}\", labels: {a: b}}\nspec: {list: [{a: b}]}\n")
	require.NoError(t, err)
	before, err := json.Marshal(b.Phases)
	require.NoError(t, err)
	o, err := expandOne(t, b, nil)
	require.NoError(t, err)
	field(t, o, "spec", "list").([]any)[0].(map[string]any)["a"] = "changed"
	o.SetLabels(map[string]string{})
	after, err := json.Marshal(b.Phases)
	require.NoError(t, err)
	assert.JSONEq(t, string(before), string(after))
}

// everyType is a bundle with a place for a parameter of each type, in each role that it can
// have.
const everyType = `
images = ["bearsrus/*"]
[param.vname]
type = "name"
[param.vstring]
type = "string"
[param.vany]
type = "string"
pattern = "(?s).*"
[param.vint]
type = "int"
[param.vbool]
type = "bool"
[param.vport]
type = "port"
[param.venum]
type = "enum"
choices = ["a", "b"]
[param.vduration]
type = "duration"
[param.vquantity]
type = "quantity"
[param.vhost]
type = "host"
[param.vimage]
type = "image"
[param.vtag]
type = "tag"
[param.vlabel]
type = "label"
[param.p]
type = "arguments"
pattern = "(?s).*"
`

const everyPlace = `apiVersion: v1
kind: Pod
metadata:
  name: p-${vname}
  labels:
    app: fixed
    text: ${vtag}
    $merge: ["${vlabel}"]
spec:
  whole: ["${vname}", "${vstring}", "${vany}", "${vint}", "${vbool}", "${vport}", "${venum}", "${vduration}", "${vquantity}", "${vhost}", "${vimage}", "${vtag}"]
  part: ["x ${vname} y", "x ${vstring} y", "x ${vany} y", "x ${vint} y", "x ${vbool} y", "x ${vport} y", "x ${venum} y", "x ${vduration} y", "x ${vquantity} y", "x ${vhost} y", "x ${vimage} y", "x ${vtag} y"]
  arguments: ${p}
  containers:
  - command: [run, "${vstring}", "${vany}", "-p=${vport}"]
    args: ["${vany}"]
    env:
    - {name: A, value: "x ${vany} y"}
  fixed: {a: {b: [1, two, null]}}
`

var harmless = map[string]string{
	"vname": "n", "vstring": "s", "vany": "s", "vint": "1", "vbool": "true", "vport": "1", "venum": "a", "vduration": "1s",
	"vquantity": "1", "vhost": "h", "vimage": "bearsrus/x:1", "vtag": "t", "vlabel": "k:v", "p.a": "v",
}

// shapeOf is the bytes of an object with each text and each number that differs from
// another's left out, if these differ at a place where the parameter of a name stands.
func shapeOf(t *testing.T, template, object any, name string) string {
	t.Helper()
	var shape func(template, value any) any
	shape = func(template, value any) any {
		switch from := template.(type) {
		case string:
			if slices.Contains(refs(from), name) {
				return "PLACE"
			}
		case map[string]any:
			got, ok := value.(map[string]any)
			require.True(t, ok)
			out := map[string]any{}
			for key, value := range got {
				if _, isMerged := from[mergeKey]; isMerged && from[key] == nil && !strings.HasPrefix(key, "slurmk8s.io/") && name == "vlabel" {
					key, value = "PLACE", "PLACE"
				}
				out[key] = shape(from[key], value)
			}
			return out
		case []any:
			got, ok := value.([]any)
			require.True(t, ok)
			require.Len(t, got, len(from))
			out := make([]any, len(got))
			for i := range got {
				out[i] = shape(from[i], got[i])
			}
			return out
		}
		return value
	}
	data, err := json.Marshal(shape(template, object))
	require.NoError(t, err)
	return string(data)
}

// attacks are values that would change a text which is parsed after it was put together.
func attacks(good string) []string {
	var all []string
	for _, bad := range []string{
		"\n", "\r\n", "\nspec: {hostNetwork: true}", "\"", "'", "`", "\\", "{{", "}}", "{{workflow.name}}", "$(", "$(SECRET)", "${job}", "${", "$$", "$merge",
		"&a", "*a", "!!binary eA==", "<<: *a", "# x", ": x", "- x", "[", "{", "|", "> x", "%", "\x00", "\x1b[2J", "\u0430", "\u2028", "\u00a0", "\ufeff",
		"; rm -rf /", "`id`", "../../etc", strings.Repeat("A", 10<<10),
	} {
		all = append(all, bad, good+bad, bad+good)
	}
	return all
}

func TestNoValueChangesAnythingButItsPlace(t *testing.T) {
	b, err := of(t, everyType, everyPlace)
	require.NoError(t, err)
	template := b.Phases[0].Objects[0].Object
	want, err := expandOne(t, b, harmless)
	require.NoError(t, err)
	accepted := 0
	for key, good := range harmless {
		name, _, _ := strings.Cut(key, ".")
		for _, bad := range attacks(good) {
			values := maps.Clone(harmless)
			values[key] = bad
			got, err := expandOne(t, b, values)
			if err != nil {
				assert.NotContains(t, err.Error(), "\n")
				assert.Less(t, len(err.Error()), 600)
				continue
			}
			accepted++
			assert.Equal(t, shapeOf(t, template, want.Object, name), shapeOf(t, template, got.Object, name), "%s=%q", key, bad)
			text, err := json.Marshal(got.Object)
			require.NoError(t, err)
			assert.NotContains(t, string(text), "{{")
			assert.NotRegexp(t, `[^$](\$\$)*\$\(`, containerText(t, got), "%s=%q", key, bad)
		}
	}
	assert.Greater(t, accepted, 50, "else nothing was compared")
}

// containerText is what the kubelet expands.
func containerText(t *testing.T, o *unstructured.Unstructured) string {
	text, err := json.Marshal(field(t, o, "spec", "containers"))
	require.NoError(t, err)
	return string(text)
}

func FuzzExpand(f *testing.F) {
	dir := f.TempDir() + "/b"
	b := &Bundle{Name: "b", Dir: dir, When: WhenStage, Timeout: time.Minute}
	m, err := b.readManifest([]byte(everyType + onePhase))
	require.NoError(f, err)
	b.Phases[0].Objects, err = parseObjects("o.yaml", []byte(everyPlace))
	require.NoError(f, err)
	require.NoError(f, (checker{b, b.Phases[0]}).checkTemplate(b.Phases[0].Objects[0], m.kinds))
	b.measure()
	keys := slices.Sorted(maps.Keys(harmless))
	for i, key := range keys {
		f.Add(uint(i), harmless[key])
		f.Add(uint(i), "$(A)\n{{x}}'\"")
	}
	template := b.Phases[0].Objects[0].Object
	f.Fuzz(func(t *testing.T, n uint, text string) {
		key := keys[n%uint(len(keys))]
		name, _, _ := strings.Cut(key, ".")
		values := maps.Clone(harmless)
		values[key] = text
		got, err := expandOne(t, b, values)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		want, err := expandOne(t, b, harmless)
		require.NoError(t, err)
		assert.Equal(t, shapeOf(t, template, want.Object, name), shapeOf(t, template, got.Object, name))
		assert.NotRegexp(t, `[^$](\$\$)*\$\(`, containerText(t, got))
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add(everyType+onePhase, everyPlace)
	f.Add(onePhase, configMap)
	f.Fuzz(func(t *testing.T, manifest, objects string) {
		b := &Bundle{Name: "b"}
		if _, err := b.readManifest([]byte(manifest)); err != nil {
			assert.NotContains(t, err.Error(), "\x00")
		}
		parsed, err := parseObjects("o.yaml", []byte(objects))
		if err != nil {
			return
		}
		b.Params = append(b.Params, &Param{Name: "x", Type: String})
		for _, o := range parsed {
			_ = (checker{b, &PhaseTemplate{}}).checkTemplate(o, nil)
		}
	})
}
