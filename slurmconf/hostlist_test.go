package slurmconf

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExpandHostlist(t *testing.T) {
	tests := []struct {
		name, in string
		want     string // joined by blanks
	}{
		{"empty", "", ""},
		{"one name", "node10", "node10"},
		{"names are left alone", "node10,n-1,a_b,h.example.org,007", "node10 n-1 a_b h.example.org 007"},
		{"range and single", "c[1-3,5],login0", "c1 c2 c3 c5 login0"},
		{"width of the first", "n[001-003]-ib,n[08-11]", "n001-ib n002-ib n003-ib n08 n09 n10 n11"},
		{"width grows", "n[9-11],m[98-101]", "n9 n10 n11 m98 m99 m100 m101"},
		{"single number keeps its zeros", "n[007,7]", "n007 n7"},
		{"several brackets, the last fastest", "r[1-2]n[1-3]x", "r1n1x r1n2x r1n3x r2n1x r2n2x r2n3x"},
		{"brackets side by side", "c[0-1][0-1]", "c00 c01 c10 c11"},
		{"brackets first", "[1-2]c", "1c 2c"},
		{"Slurm's separators", "a, b,,c[1-2] d\te\n", "a b c1 c2 d e"},
		{"separators alone", ", ,", ""},
		{"order and repetitions stay", "b,a,b,c[2,1]", "b a b c2 c1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ExpandHostlist(tt.in)
			require.NoError(t, err)
			assert.Equal(t, strings.Fields(tt.want), append([]string{}, got...))
		})
	}
}

func TestExpandHostlistRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"no end of brackets", "c[1-3", `hostlist "c[1-3": "[" without "]"`},
		{"no start of brackets", "c1-3]", `"]" without "["`},
		{"brackets in brackets", "c[1,[2]]", `"[" within brackets`},
		{"empty brackets", "c[]", `"" is neither a number nor a range such as 1-3`},
		{"half a range", "c[1-]", `"1-" is neither a number nor a range`},
		{"three ends", "c[1-2-3]", `"1-2-3" is neither a number nor a range`},
		{"letters in a range", "c[a-c]", `"a-c" is neither a number nor a range`},
		{"counting down", "c[3-1]", `range "3-1" counts down`},
		{"blank within brackets", "c[1, 2]", `" 2" is neither a number nor a range`},
		{"Slurm's word for none", "(null)", `"(" cannot be in a host name`},
		{"path", "../../etc", `"/" cannot be in a host name`},
		{"umlaut", "knötchen", `"ö" cannot be in a host name`},
		{"control character", "a\rb", `hostlist "a\rb": "\r" cannot be in a host name`},
		{"too many in a range", "c[0-65536]", `range "0-65536" has more than 65536 hosts`},
		{"too many in ranges", "c[" + strings.Repeat("1-60000,", 18) + "1]", "more than 1048576 hosts"},
		{"too many by brackets", "c[0-999][0-999][0-1]", "more than 1048576 hosts"},
		{"too many in all", strings.Repeat("a[1-60000],", 18), "more than 1048576 hosts"},
		{"a number without end", "c[1-99999999999999999999]", "neither a number nor a range"},
		{"a name without end", strings.Repeat("a", 256), "a name is longer than 255 bytes"},
		{"a list without end", strings.Repeat("a,", 1<<20), "hostlist is longer than 1024 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ExpandHostlist(tt.in)
			require.ErrorContains(t, err, tt.want)
			assertOneLine(t, err)
			assert.Nil(t, got)
		})
	}
}

func TestExpandHostlistUpToItsBound(t *testing.T) {
	got, err := ExpandHostlist("c[0-1023]n[0000-1023]")
	require.NoError(t, err)
	require.Len(t, got, MaxHosts)
	assert.Equal(t, "c1023n1023", got[MaxHosts-1])
}

func FuzzHostlist(f *testing.F) {
	for _, seed := range []string{"c[1-3,5],login0,n[001-010]-ib,r[1-2]n[1-4]", "node10", "[", "]", "a[0-9][0-9][0-9][0-9][0-9]", "a\x00", "\xff",
		"c[00000000000000000001-2]", ",", "a[,]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		hosts, err := ExpandHostlist(in)
		if err != nil {
			assertOneLine(t, err)
			return
		}
		if len(hosts) > MaxHosts {
			t.Fatalf("%d hosts", len(hosts))
		}
		for _, h := range hosts {
			if h == "" || len(h) > maxHostBytes || strings.ContainsAny(h, "[], /\n") {
				t.Fatalf("host %q", h)
			}
		}
		again, err := ExpandHostlist(strings.Join(hosts, ","))
		if len(in) < 1000 && err == nil && fmt.Sprint(again) != fmt.Sprint(hosts) {
			t.Fatalf("%q is not %q", again, hosts)
		}
	})
}

func TestAHostlistIsAsShortAsItsNumbersLet(t *testing.T) {
	for hosts, want := range map[string]string{
		"": "", "login": "login", "c1": "c1", "c1 c2 c3": "c[1-3]", "c3 c1 c2 c1 c5": "c[1-3,5]",
		"c08 c09 c10 c11": "c[08-11]", "c9 c10": "c9,c10", "c09 c9": "c9,c09", "a1 b1 a2 x": "a[1-2],b1,x",
		"r1n1-ib r1n2-ib": "r1n1-ib,r1n2-ib", "n12345678901234": "n12345678901234",
	} {
		got := Hostlist(strings.Fields(hosts))
		assert.Equal(t, want, got)
		back, err := ExpandHostlist(got)
		require.NoError(t, err)
		for _, host := range strings.Fields(hosts) {
			assert.Contains(t, back, host)
		}
	}
}
