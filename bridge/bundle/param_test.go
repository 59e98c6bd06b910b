package bundle

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEachTypeTakesWhatItSaysAndBecomesWhatItSays(t *testing.T) {
	const refused = "\x00"
	for name, c := range map[string]struct {
		declared string
		values   map[string]any // what a text becomes; a string that begins with refused: the error
	}{
		"name": {`type = "name"`, map[string]any{
			"a": "a", "ak-exp": "ak-exp", strings.Repeat("a", 63): strings.Repeat("a", 63),
			"1a": refused + `at most 63 lower-case letters, digits and "-", a letter first`, "": refused, "A": refused, "a.b": refused, "a-": refused,
			strings.Repeat("a", 64): refused}},
		"name that matches": {"type = \"name\"\nmatch = [\"deploy-*\", \"x\"]", map[string]any{
			"deploy-": refused, "deploy-a": "deploy-a", "x": "x", "xy": refused + "must match one of deploy-*, x"}},
		"string": {`type = "string"`, map[string]any{
			"v1.2": "v1.2", "a/b:c@d+e-f_g": "a/b:c@d+e-f_g", "": refused, "-a": refused, "a b": refused + "must match [A-Za-z0-9][A-Za-z0-9._/@:+-]*",
			"a\nb": refused, "a$b": refused, "ä": refused + `only printable ASCII characters, without quotes and "\"`}},
		"string of a pattern": {"type = \"string\"\npattern = \".*\"\nmax = 5", map[string]any{
			"": "", "a b;": "a b;", "123456": refused + "longer than 5 bytes", "a'": refused, `a"`: refused, "a`": refused, `a\`: refused, "a\n": refused,
			"{{a": refused + "must not contain {{ or }}", "a}}": refused, "a\x00": refused, "\x7f": refused}},
		"a pattern is of the whole": {"type = \"string\"\npattern = \"a|b\"", map[string]any{"a": "a", "b": "b", "ab": refused, "xa": refused}},
		"int": {"type = \"int\"\nmin = 10\nmax = 3600", map[string]any{
			"10": int64(10), "3600": int64(3600), "5": refused + "at least 10", "3601": refused + "at most 3600",
			"+15": refused + "not a number", "015": refused, "0x10": refused, "1e2": refused, "15.0": refused, "": refused, " 15": refused}},
		"negative int": {`type = "int"`, map[string]any{"-3": int64(-3), "-0": refused, "99999999999999999999": refused}},
		"bool":         {`type = "bool"`, map[string]any{"true": true, "false": false, "yes": refused + "must be true or false", "True": refused}},
		"port":         {`type = "port"`, map[string]any{"1": int64(1), "65535": int64(65535), "0": refused + "not a port from 1 to 65535", "65536": refused}},
		"bound port":   {"type = \"port\"\nmin = 1024", map[string]any{"1023": refused + "at least 1024", "1024": int64(1024)}},
		"enum":         {"type = \"enum\"\nchoices = [\"Always\", \"IfNotPresent\"]", map[string]any{"Always": "Always", "always": refused + "must be one of Always, IfNotPresent"}},
		"duration": {"type = \"duration\"\nmin = \"10s\"\nmax = \"1h\"", map[string]any{
			"90s": "1m30s", "60s": "1m", "1h": "1h", "3600s": "1h", "9s": refused + "at least 10s", "61m": refused + "at most 1h", "5": refused + "not a time such as 90s or 5m"}},
		"quantity": {"type = \"quantity\"\nmin = \"100m\"\nmax = \"4\"", map[string]any{
			"2000m": "2", "0.5": "500m", "4": "4", "99m": refused + "at least 100m", "4001m": refused + "at most 4", "-1": refused, "1x": refused + "not a quantity such as 500m or 2Gi",
			strings.Repeat("1", 200): refused}},
		"memory": {`type = "quantity"`, map[string]any{"2048Mi": "2Gi", "1e3": "1e3"}},
		"host": {`type = "host"`, map[string]any{
			"arkouda-metrics.arkouda": "arkouda-metrics.arkouda", "N1.Example.org": "n1.example.org", "10.1.2.3": "10.1.2.3", "fd00::1": "fd00::1",
			"127.0.0.1": refused + "must not be a loopback, link-local or multicast address", "::1": refused, "::ffff:127.0.0.1": refused, "169.254.169.254": refused, "fe80::1": refused, "fe80::1%eth0": refused,
			"0.0.0.0": refused, "224.0.0.1": refused, "localhost": refused + "must not be the host itself", "x.localhost": refused, "127.1": refused, "2130706433": refused, "0x7f000001": refused, "0x7f.1": refused,
			"a b": refused + "not a DNS name or an address", "a..b": refused, "": refused, strings.Repeat("a.", 130): refused}},
		"image": {`type = "image"`, map[string]any{
			"bearsrus/exporter:v1": "bearsrus/exporter:v1", "bearsrus/x@sha256:00": "bearsrus/x@sha256:00",
			"bearsrus/a/b": refused + "must match one of bearsrus/*", "evil.io/bearsrus/x": refused, "bearsrus//x": refused, "bearsrus/x y": refused + "not an image such as registry.example.org/group/name:tag", "": refused, "/bearsrus/x": refused}},
		"tag": {`type = "tag"`, map[string]any{"v2024.04.19": "v2024.04.19", "_x": "_x", "-x": refused, "a/b": refused, "a:b": refused, "a@b": refused, strings.Repeat("a", 129): refused}},
		"label": {`type = "label"`, map[string]any{
			"release:kube-stack": map[string]any{"release": "kube-stack"}, "a=b": map[string]any{"a": "b"}, "example.org/a:b": map[string]any{"example.org/a": "b"}, "a:": map[string]any{"a": ""},
			"a": refused + "want KEY:VALUE", "a:b c": refused + `"b c" cannot be the value of a label`, ":b": refused + `"" cannot be the key of a label`, "app.kubernetes.io/name:x": refused + "labels of kubernetes.io are reserved", "x.k8s.io/a:b": refused, "slurmk8s.io/a:b": refused,
			"a/b/c:d": refused}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := of(t, "images = [\"bearsrus/*\"]\n[param.x]\n"+c.declared, configMap)
			require.NoError(t, err)
			for text, want := range c.values {
				got, err := b.Param("x").value(text)
				message, bad := want.(string)
				if bad && strings.HasPrefix(message, refused) {
					require.Error(t, err, "%q", text)
					if message != refused {
						assert.EqualError(t, err, message[1:], "%q", text)
					}
					continue
				}
				require.NoError(t, err, "%q", text)
				assert.Equal(t, want, got, "%q", text)
			}
		})
	}
}

func TestAnImagePatternDoesNotCrossASlash(t *testing.T) {
	assert.True(t, MatchImage("registry.example.org/*/x:*", "registry.example.org/a/x:1"))
	assert.False(t, MatchImage("registry.example.org/*", "registry.example.org/a/x:1"))
	assert.False(t, MatchImage("*", "a/b"))
}
