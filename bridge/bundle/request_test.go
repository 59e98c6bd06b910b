package bundle

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func TestTheOptionNamesBundlesWithTheirParameters(t *testing.T) {
	got, err := ParseOption("arkouda-exporter,version=v1,match=release:kube-stack,ns=arkouda,timeout=90s;argo,as=deploy,wait=none,p.note=a%2Cb%3Bc%20d%25")
	require.NoError(t, err)
	assert.Equal(t, []Request{
		{Name: "arkouda-exporter", Instance: "arkouda-exporter", Namespace: "arkouda", Timeout: 90 * time.Second,
			Values: map[string]string{"version": "v1", "match": "release:kube-stack"}},
		{Name: "argo", Instance: "deploy", Wait: WaitNone, Values: map[string]string{"p.note": "a,b;c d%"}},
	}, got)
}

// words are the request as it is written after the site's directive: "bundle NAME
// KEY=VALUE...", always the same for the same request.
func (r Request) words() string {
	words := []string{directiveWord, r.Name}
	add := func(key, value string) { words = append(words, key+"="+escape(value)) }
	if r.Instance != r.Name {
		add("as", r.Instance)
	}
	if r.Namespace != "" {
		add("ns", r.Namespace)
	}
	if r.Timeout > 0 {
		add("timeout", ShortDuration(r.Timeout))
	}
	if r.Wait != "" {
		add("wait", r.Wait)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Values)) {
		add(key, r.Values[key])
	}
	return strings.Join(words, " ")
}

func escape(value string) string {
	for _, e := range slices.Backward(escapes) { // "%" first
		value = strings.ReplaceAll(value, e.char, e.code)
	}
	return value
}

func TestADirectiveIsTheSameRequestByHand(t *testing.T) {
	for _, text := range []string{"argo", "argo,as=deploy,wait=ready,ns=a,timeout=1h30m,x=a%2Cb%3Bc%20d%25,y="} {
		want, err := ParseOption(text)
		require.NoError(t, err)
		got, ours, err := ParseDirective("#DW " + want[0].words())
		require.NoError(t, err)
		assert.True(t, ours)
		assert.Equal(t, want[0], got)
	}
	assert.Equal(t, "bundle argo as=deploy x=a%2Cb", Request{Name: "argo", Instance: "deploy", Values: map[string]string{"x": "a,b"}}.words())
}

func TestWhatIsHiddenFromSlurmIsRead(t *testing.T) {
	got, ours, err := ParseDirective("#DW bundle argo p.disk-capacity%3D5Gi note=capacity%3d1 raw=a=b%253D twice=a%%2Cb%%3D%%25%%20")
	require.NoError(t, err)
	assert.True(t, ours)
	assert.Equal(t, map[string]string{"p.disk-capacity": "5Gi", "note": "capacity=1", "raw": "a=b%3D", "twice": "a,b=% "}, got.Values)
}

func TestADirectiveForDWSIsNotOurs(t *testing.T) {
	for _, line := range []string{"#DW jobdw type=xfs", "#DW", "#DW bundles x", ""} {
		_, ours, err := ParseDirective(line)
		assert.NoError(t, err)
		assert.False(t, ours, line)
	}
}

func TestMistakesInTheOptionAreNamedInOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "--k8s-bundle: empty: write NAME,KEY=VALUE (slurmk8s bundle list)",
		";":                                  "--k8s-bundle: empty: write NAME,KEY=VALUE (slurmk8s bundle list)",
		"argo;":                              `bundle "": a name has lower-case letters, digits and "-"`,
		"Argo":                               `bundle "Argo": a name has lower-case letters, digits and "-"`,
		"../x":                               `bundle "../x": a name has lower-case letters, digits and "-"`,
		"argo,x":                             `bundle argo: "x" is not KEY=VALUE`,
		"argo,x=1,x=2":                       "bundle argo: x= is given twice",
		"argo,ns=a,ns=b":                     "bundle argo: ns= is given twice",
		"argo,x=50%":                         "bundle argo: x=: write %25 for %; %2C, %3B and %20 stand for a comma, a semicolon and a blank",
		"argo,x=%0A":                         "bundle argo: x=: write %25 for %; %2C, %3B and %20 stand for a comma, a semicolon and a blank",
		"argo,as=A":                          `bundle argo: as=A: at most 40 lower-case letters, digits and "-", a letter first`,
		"argo,ns=a/b":                        `bundle argo: ns=a/b: a namespace has at most 63 lower-case letters, digits and "-", a letter or digit first and last`,
		"argo,timeout=5":                     "bundle argo: timeout=5: want a time such as 90s or 5m",
		"argo,timeout=-5s":                   "bundle argo: timeout=-5s: want a time such as 90s or 5m",
		"argo,wait=endpoints":                "bundle argo: wait=endpoints: must be ready or none",
		"argo;argo":                          "bundle argo: given twice: tell them apart by as=NAME",
		"argo;x,as=argo":                     "bundle argo: given twice: tell them apart by as=NAME",
		"a;b;c;d;e;f;g;h;i":                  "bundle: a job can have 8, not 9",
		"argo,a\nb=1,a\nb=1":                 `bundle argo: "a\nb"= is given twice`,
		strings.Repeat("x", 4097):            "--k8s-bundle: longer than 4 KiB",
		"argo,x=" + strings.Repeat("v", 257): "bundle argo: x=: longer than 256 bytes",
		"argo" + strings.Repeat(",x=", 65):   "bundle argo: more than 64 parameters",
		"a" + strings.Repeat("b", 40):        `bundle "a` + strings.Repeat("b", 40) + `": a name has lower-case letters, digits and "-"`,
	} {
		_, err := ParseOption(text)
		var refused *job.Refused
		require.ErrorAs(t, err, &refused, text)
		assert.Equal(t, want, err.Error())
		assert.NotContains(t, err.Error(), "\n")
	}
	_, ours, err := ParseDirective("#K8S bundle")
	assert.True(t, ours)
	assert.EqualError(t, err, "bundle: no name: write #K8S bundle NAME KEY=VALUE")
}

func FuzzRequest(f *testing.F) {
	f.Add("argo,as=deploy,p.note=a%2Cb%3Bc%20d%25;x")
	f.Add("a,b=%")
	f.Fuzz(func(t *testing.T, text string) {
		requests, err := ParseOption(text)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		for _, r := range requests {
			again, ours, err := ParseDirective("#DW " + r.words())
			if !ours || err != nil && len(r.words()) < maxTextBytes-4 && printableKeys(r) {
				t.Fatalf("%q: %v", r.words(), err)
			}
			if err == nil && printableKeys(r) {
				assert.Equal(t, r, again)
			}
		}
	})
}

// printableKeys: a directive's line cannot have others, and no bundle declares one.
func printableKeys(r Request) bool {
	for key, value := range r.Values {
		if printable(key) != key && len(key) <= 60 || strings.ContainsAny(value, "\t\n\v\f\r\u0085\u00a0") || strings.ContainsFunc(key+value, func(c rune) bool { return c < ' ' || c > '~' }) {
			return false
		}
	}
	return true
}
