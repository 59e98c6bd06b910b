package policy

import (
	"context"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// What slurmctld's Lua makes of options and rules (lua/job_submit) is what the program
// makes of them: each case runs through both, with each Lua.

const luaParts, luaDriver = "../../lua/job_submit", "../../lua/test/agree.lua"

// luaAnswers gives cases to each Lua; one that is missing fails the test.
func luaAnswers(t *testing.T, cases [][]string, compare func(t *testing.T, i int, answer string)) {
	t.Helper()
	var file strings.Builder
	for _, words := range cases {
		for i, word := range words {
			if i > 0 {
				file.WriteByte(' ')
			}
			file.WriteString(hex.EncodeToString([]byte(word)))
		}
		file.WriteByte('\n')
	}
	path := filepath.Join(t.TempDir(), "cases")
	require.NoError(t, os.WriteFile(path, []byte(file.String()), 0o600))
	for _, lua := range []string{"lua5.1", "lua5.2", "lua5.3", "lua5.4"} {
		t.Run(lua, func(t *testing.T) {
			out, err := exec.Command(lua, luaDriver, luaParts, path).CombinedOutput()
			require.NoError(t, err, "%s; \"make deps\" installs each Lua", out)
			answers := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			require.Len(t, answers, len(cases), "%.2000s", out)
			for i, answer := range answers {
				if compare(t, i, answer); t.Failed() {
					t.Fatalf("case %q", cases[i])
				}
			}
		})
	}
}

// specTexts are all texts of the tests of bridge/service, and what came of the fuzzer.
func specTexts(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../service/spec_test.go", nil, 0)
	require.NoError(t, err)
	var texts []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			texts = append(texts, text)
		}
		return true
	})
	require.Greater(t, len(texts), 150)
	corpus, err := filepath.Glob("../service/testdata/fuzz/FuzzSpec/*")
	require.NoError(t, err)
	for _, path := range corpus {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		_, quoted, _ := strings.Cut(string(data), "string(")
		text, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		require.NoError(t, err, path)
		texts = append(texts, text)
	}
	long := strings.Repeat("a", 63)
	texts = append(texts, long+":1", strings.Repeat("a", 8192), strings.Repeat("a", 8193), strings.Repeat(" ", 8192), "a:1;"+strings.Repeat(" ", 8000)+";",
		"name=a,port=1"+strings.Repeat(",label=a=b", 800), "name=a"+strings.Repeat(",port=1", 33), "env,host=all,endpoints=both", "env,name=a", "env,port=1",
		"name=a,port=1,ready=file:/a/./b", "name=a,port=1,ready=file:/a//b", "name=a,port=1,ready=file:/", "name=a,port=1,ready=file:/a/", "name=a,port=1,ready=http:/a b",
		"name=a,port=1,app=", "name=a,port=1,label=/a=b", "name=a,port=1,label=a/=b", "name=a,port=1,label=a/b/c=d", "name=a,port=1,label=a..b/c=d",
		"name=a,port=1,label=xkubernetes.io/a=b", "name=a,port=1,label=a=b,label=a=", "name=a,port=80,port=http:80", "name=a,port=port-80:1,port=80")
	for i := range 17 {
		texts = append(texts, "name=a,port=1"+strings.Repeat(fmt.Sprintf(",label=a%d=b", i), 1)+manyLabels(i))
	}
	for _, seconds := range []string{"", "0", "1", "86400", "86401", "24h", "24h1ns", "1h30m", "-1s", "+90s", "+", "1.5h", "1.s", ".5m", ".s", "1..5s", "999ms", "1000ms", "999999999ns",
		"1000000000ns", "0.1s0.1s0.1s0.1s0.1s0.1s0.1s0.1s0.1s0.1s", "0.999999999s", "0.9999999999s", "1e3s", "1d", "10us1s", "s", "1 s", "1S", "9223372036854775808s", "99999999999999999999",
		strings.Repeat("0", 100) + "5s", strings.Repeat("9", 8000), "1" + strings.Repeat(".1", 4000) + "s", "0x5s", "1_0s", "1s5"} {
		texts = append(texts, "name=a,port=1,ready-timeout="+seconds)
	}
	return texts
}

func manyLabels(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, ",label=l%d=b", i)
	}
	return text.String()
}

// mutated makes texts that are nearly what others are.
func mutated(texts []string, n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{",", ";", ":", "=", "-", ".", "/", "0", "1", "65535", "a", "A", "name=", "port=", "env", " ", "type=internal", "app=x", "expose=headless",
		"host=all", "endpoints=both", "ready=none", "label=a=b", "ns=", "slurmk8s.io/", "x:1", "{user}", "\"", "\\", "%", "%s"}
	var all []string
	for range n {
		text := []byte(texts[r.IntN(len(texts))])
		for range 1 + r.IntN(4) {
			at := r.IntN(len(text) + 1)
			switch r.IntN(4) {
			case 0:
				text = slices.Insert(text, at, []byte(pieces[r.IntN(len(pieces))])...)
			case 1:
				text = slices.Delete(text, at, min(len(text), at+1+r.IntN(5)))
			case 2:
				other := texts[r.IntN(len(texts))]
				text = append(text[:at], other[r.IntN(len(other)+1):]...)
			case 3:
				if at < len(text) {
					text[at] = byte(1 + r.IntN(255))
				}
			}
		}
		all = append(all, string(text))
	}
	return all
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
}

// agree compares an answer with the program's; messages are equal but for how they
// write characters that a terminal should not see.
func agree(t *testing.T, input, answer, want string, err error) {
	t.Helper()
	if err == nil {
		assert.Equal(t, want, answer)
		return
	}
	if printable(input) {
		assert.Equal(t, "refused: "+err.Error(), answer)
		return
	}
	assert.True(t, strings.HasPrefix(answer, "refused: ") && printable(answer), "%q, want %v", answer, err)
}

func TestLuaReadsServicesAsTheProgramDoes(t *testing.T) {
	texts := specTexts(t)
	texts = append(texts, mutated(texts, 20000)...)
	var cases [][]string
	for _, text := range texts {
		cases = append(cases, []string{"services", text})
	}
	want, errs := make([]string, len(texts)), make([]error, len(texts))
	accepted := 0
	for i, text := range texts {
		specs, err := service.ParseEarly(text, nil)
		var parts []string
		for _, s := range specs {
			s.ReadyTimeout = 0 // Lua judges it and keeps it not
			parts = append(parts, s.String())
		}
		if want[i], errs[i] = strings.Join(parts, ";"), err; err == nil {
			accepted++
		}
	}
	assert.Greater(t, accepted, 250, "some of them are right")
	luaAnswers(t, cases, func(t *testing.T, i int, answer string) { agree(t, texts[i], answer, want[i], errs[i]) })
}

func TestLuaReadsImportsAsTheProgramDoes(t *testing.T) {
	texts := []string{"", "a", "ns/a", "ns/a:80,b:http;c", " a , b ", ",;,", "a:", "a:x_y", "/a", "a/", "A", "a/b/c", "kube-system/kube-dns:53", "a\n", "\u00a0a", strings.Repeat("a,", 65),
		strings.Repeat("a", 9000), strings.Repeat(" ", 8000), "a:-", "../x", "a,,b"}
	texts = append(texts, mutated(texts, 5000)...)
	var cases [][]string
	for _, text := range texts {
		cases = append(cases, []string{"imports", text})
	}
	luaAnswers(t, cases, func(t *testing.T, i int, answer string) {
		imports, err := service.ParseImports(texts[i])
		var parts []string
		for _, s := range imports {
			parts = append(parts, s.Namespace+"/"+s.Name)
		}
		agree(t, texts[i], answer, strings.Join(parts, ";"), err)
	})
}

// sites are [services] of slurmk8s.toml in the forms that administrators write.
var sites = []string{
	``,
	"# nothing but\n[services]\nrun_dir = '/x'\n",
	"[[services.allow]]\nusers = [\"alice\"]\nnamespaces = ['physics']\n",
	"[[services.allow]]\r\nusers = ['*'] # all\r\nnamespaces = [\r\n 'user-{user}', # theirs\r\n\r\n 'shared-*',\r\n]\r\nnames = ['{user}-*', '{user}']\r\nmax_services = 2\r\n",
	"[services]\nforbidden_ports = []\nallow = [{ users = ['bob', 'alice'], namespaces = ['a'], ports = ['1-65535'] }, {users=['alice'], namespaces=['b'], expose=['nodeport','internal']}]\n",
	"services.forbidden_ports = ['8080']\n[[services.allow]]\naccounts = ['p1']\nnamespaces = ['p1', '*-p1']\nnames = ['x*']\n[[services.allow]]\nusers = ['alice']\nnamespaces = ['physics']\nmax_services = 1\n",
	"[[services.allow]]\nusers = ['x.y', '*']\nnamespaces = ['*']\nnames = ['*a*b*', 'c']\nexpose = ['clusterip', 'headless', 'nodeport', 'loadbalancer', 'internal']\nports = ['80', '8000-8999']\n",
	"[\"services\"]\n\"allow\" = []\n",
}

func TestLuaJudgesAsTheProgramDoes(t *testing.T) {
	names := []string{"alice", "bob", "Alice", "a*", "x.y"}
	accounts := []string{"", "p1", "p2"}
	registers := []string{"", "a:8888", "a:22;b:8888", "a:80:8080", "name=a,port=8888,ns=b", "name=alice,port=8888,ns=shared-x;alice-b:9", "alice:8888", "name=a,port=1,type=internal,app=x",
		"name=a,port=8000,ns=b,expose=nodeport", "a:8888;b:8889;c:9000", "a:6443", "xa:8888;x:10250", "a:8888;name=a,port=8888,ns=physics", "env", "aab:8080;name=zazbz,port=80,ns=q"}
	imports := []string{"", "kube-system/dns", "a", "shared-q/a,physics/b"}
	namespaces := []string{"", "physics", "user-alice", "UP"}
	var cases [][]string
	for _, site := range sites {
		for _, user := range names {
			for _, account := range accounts {
				for _, namespace := range namespaces {
					for _, register := range registers {
						cases = append(cases, []string{"admit", site, user, account, register, "", namespace})
					}
					for _, imported := range imports {
						cases = append(cases, []string{"admit", site, user, account, "a:8888", imported, namespace})
					}
				}
			}
		}
	}
	configs := map[string]*slurmconf.Services{}
	for _, site := range sites {
		configs[site] = loaded(t, site)
	}
	verdicts := map[bool]int{}
	want := make([]error, len(cases))
	for i, c := range cases {
		want[i] = judged(t, configs[c[1]], c[2], c[3], c[4], c[5], c[6])
		verdicts[want[i] == nil]++
	}
	assert.Greater(t, verdicts[true], 400)
	assert.Greater(t, verdicts[false], 400)
	luaAnswers(t, cases, func(t *testing.T, i int, answer string) {
		agree(t, strings.Join(cases[i][4:], ""), answer, "admitted", want[i])
	})
}

func loaded(t *testing.T, text string) *slurmconf.Services {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slurmk8s.toml")
	require.NoError(t, os.WriteFile(path, []byte("cluster = 'alps'\n"+text), 0o600))
	cfg, err := slurmconf.Load(path)
	require.NoError(t, err)
	return &cfg.Services
}

// judged is what hook k8s_check does.
func judged(t *testing.T, cfg *slurmconf.Services, user, account, register, imported, namespace string) error {
	if namespace != "" {
		if err := service.CheckNamespace(namespace); err != nil {
			return fmt.Errorf("--k8s-namespace: %w", err)
		}
	}
	var specs []service.Spec
	var imports []service.Import
	var err error
	if register != "" {
		if specs, err = service.ParseEarly(register, nil); err != nil {
			return err
		}
	}
	if imported != "" {
		if imports, err = service.ParseImports(imported); err != nil {
			return err
		}
	}
	who := &Subject{User: user, Lenient: true}
	if account != "" {
		who.Account = func(context.Context) (string, error) { return account, nil }
	}
	p, err := For(t.Context(), cfg, who)
	require.NoError(t, err)
	if _, err := p.Admit(specs, namespace); err != nil {
		return err
	}
	for _, i := range imports {
		if _, err := p.Namespace(i.Namespace, namespace); err != nil {
			return err
		}
	}
	return nil
}

// Lua takes a file that the program takes for the same, or says that it does not
// understand it: the node judges then.
func TestLuaReadsTheSameFile(t *testing.T) {
	rule := "[[services.allow]]\nusers = ['alice']\nnamespaces = ['physics']\n"
	tests := []struct{ name, text, want string }{
		{"escapes", "x = \"a\\tb\\\"c\\\\ #\"\n" + rule, "admitted"},
		{"a text with brackets", "x = '[[services.allow]]' # [[x]]\n" + rule, "admitted"},
		{"tables around it", "[kubernetes]\nrequest_timeout = \"5s\"\n" + rule + "[workflows.timeouts]\nsetup = '1s'\n", "admitted"},
		{"a rule in another order", "[[services.allow]]\nmax_services = 3\nnamespaces=['physics']\nusers=['alice']", "admitted"},
		{"a table after its rules", rule + "[services]\nforbidden_ports = ['8888']\n", "refused: service a: port 8888 of the node is a service of the system"},
		{"numbers", "x = -5\ny = +7\nz = 0\n" + rule, "admitted"},
		{"several lines", "x = '''\n[[services.allow]]\n'''\n" + rule, "unknown: line 1: a text of several lines"},
		{"a date", "x = 2026-01-01\n" + rule, "unknown: line 1: a value that is not known here"},
		{"\\u", "x = \"\\u0041\"\n" + rule, "unknown: line 1: an escape"},
		{"no end of a text", "x = \"a\n" + rule, "unknown: line 1: a text without an end"},
		{"a key twice", "x = 1\nx = 2\n" + rule, "unknown: line 2: a key that is there twice"},
		{"a table twice", "[services]\n[services]\n" + rule, "unknown: line 2: a table that is there twice"},
		{"two on a line", "x = 1 y = 2\n" + rule, "unknown: line 1: expected the end of the line"},
		{"no value", "x =\n" + rule, "unknown: line 1: expected a value"},
		{"the wrong type", "[[services.allow]]\nusers = 'alice'\nnamespaces = ['physics']\n", "unknown: users is not a list"},
		{"a list of numbers", "[[services.allow]]\nusers = [1]\nnamespaces = ['physics']\n", "unknown: users is not a list of texts"},
		{"ports that are none", rule + "ports = ['a']\n", "unknown: ports has a, which is no range of ports"},
		{"deep", "x = " + strings.Repeat("[", 100000) + "\n", "unknown: line 1: brackets are nested too deeply"},
		{"not TOML", "Users=alice\n\x00\xff", "unknown: line 1: "},
	}
	var cases [][]string
	for _, tt := range tests {
		cases = append(cases, []string{"admit", tt.text, "alice", "", "a:8888", "", ""})
	}
	luaAnswers(t, cases, func(t *testing.T, i int, answer string) {
		assert.True(t, strings.HasPrefix(answer, tests[i].want), "%s: %q", tests[i].name, answer)
	})
}

// The example is understood: a site's file is made of it.
func TestLuaUnderstandsTheExample(t *testing.T) {
	text, err := os.ReadFile("../../packaging/slurmk8s.toml")
	require.NoError(t, err)
	var open strings.Builder // with every key
	for line := range strings.Lines(string(text)) {
		bare := strings.TrimPrefix(line, "#")
		if key, _, _ := strings.Cut(bare, " = "); bare != line && (strings.HasPrefix(bare, "[") || key != bare && !strings.ContainsAny(key, " ,")) {
			line = bare
		}
		open.WriteString(line)
	}
	require.Contains(t, open.String(), "\n[[services.allow]]\n")
	cases := [][]string{{"admit", string(text), "alice", "", "a:8888", "", ""}, {"admit", open.String(), "alice", "", "a:8888", "", ""},
		{"admit", open.String(), "alice", "p1234", "name=a,port=22,ns=physics", "", ""}}
	want := []string{"refused: services are not open", "admitted", "refused: service a: port 22 of the node is not allowed to user alice, but 1024-65535"}
	luaAnswers(t, cases, func(t *testing.T, i int, answer string) {
		assert.True(t, strings.HasPrefix(answer, want[i]), "%q", answer)
	})
}
