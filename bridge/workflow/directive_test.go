package workflow

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestDirectives(t *testing.T) {
	tests := []struct {
		name, script string
		want         []string
	}{
		{"no script", "", nil},
		{"no directives", "#!/bin/bash\n#SBATCH -N1\nsrun a\n", nil},
		{"among comments", "#!/bin/bash\n#SBATCH -N1\n#DW jobdw type=xfs\n# note\n#DW copy_in a=b\nsrun a\n",
			[]string{"#DW jobdw type=xfs", "#DW copy_in a=b"}},
		{"no end of line at the end", "#DW jobdw", []string{"#DW jobdw"}},
		{"blanks at both ends", "#DW \t jobdw  a=b\t \n", []string{"#DW jobdw  a=b"}},
		{"tab after the word", "#DW\tjobdw\ta=b\n", []string{"#DW jobdw\ta=b"}},

		{"stops at the first command", "#DW a\nsrun x\n#DW b\n", []string{"#DW a"}},
		{"stops at a line of blanks", "#DW a\n \n#DW b\n", []string{"#DW a"}},
		{"does not stop at an empty line", "#!/bin/bash\n\n\n#DW a\n\n#DW b\n", []string{"#DW a", "#DW b"}},
		{"stops at an indented comment", "#DW a\n #DW b\n", []string{"#DW a"}},
		{"a script that does not begin with #", "echo\n#DW a\n", nil},
		{"directives of a here document", "#!/bin/sh\ncat <<E\n#DW a\nE\n", nil},

		{"lower case", "#dw jobdw\n", nil},
		{"commented out", "##DW jobdw\n# DW jobdw\n", nil},
		{"another site's word", "#BB_LUA jobdw\n", nil},

		{"quotes, percent, backslash within", `#DW jobdw a="b c" d='%j' e=f\g h=\\i`, []string{`#DW jobdw a="b c" d='%j' e=f\g h=\\i`}},
		{"letters of other languages", "#DW jobdw name=größe→\n", []string{"#DW jobdw name=größe→"}},
		{"carriage returns", "#!/bin/sh\r\n#DW a\r\n#DW b \\\r\n#DW c\r\n", []string{"#DW a", "#DW b c"}},
		{"an empty line with carriage return stops, as for Slurm", "#DW a\r\n\r\n#DW b\r\n", []string{"#DW a"}},

		{"continued", "#DW jobdw \\\n#DW type=xfs \\\n#DW name=n\n#DW b\n", []string{"#DW jobdw type=xfs name=n", "#DW b"}},
		{"continued after a blank, blanks joined", "#DW jobdw \\\n#DW    a=b\n", []string{"#DW jobdw a=b"}},
		{"continued without a blank before, blanks kept", "#DW jobdw\\\n#DW   a=b\n", []string{"#DW jobdw   a=b"}},
		{"continued within a word", "#DW jobdw name=lo\\\n#DWng\n", []string{"#DW jobdw name=long"}},
		{"continued over an empty line", "#DW jobdw \\\n\n#DW a=b\n", []string{"#DW jobdw a=b"}},
		{"continued by another comment is not continued", "#DW jobdw \\\n# a=b\n#DW c\n", []string{"#DW jobdw", "#DW c"}},
		{"continued by a command is not continued", "#DW jobdw \\\nsrun\n", []string{"#DW jobdw"}},
		{"continued by nothing", "#DW jobdw \\", []string{"#DW jobdw"}},
		{"the command on the second line", "#DW \\\n#DW jobdw\n", []string{"#DW jobdw"}},
		{"the blank after the word on the second line", "#DW\\\n#DW jobdw\n", []string{"#DW jobdw"}},
		{"an empty continuation", "#DW a \\\n#DW\n#DW b\n", []string{"#DW a", "#DW b"}},
		{"a continuation of a backslash only", "#DW a \\\n#DW \\\n#DW   b\n", []string{"#DW a b"}},
		{"two backslashes at the end continue too", "#DW a\\\\\n#DW b\n", []string{`#DW a\ b`}},

		{"the text of --bb after the first line", "#!/bin/sh\n#DW bb\n#DW a\n", []string{"#DW bb", "#DW a"}},
		{"--bb without # ends the block", "#!/bin/sh\ncapacity=1\n#DW a\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Directives([]byte(tt.script), "DW")
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestDirectivesWithASitesWord(t *testing.T) {
	got, err := Directives([]byte("#DW a\n#BB_LUA jobdw \\\n#BB_LUA x=y\n"), "BB_LUA")
	require.NoError(t, err)
	assert.Equal(t, []string{"#DW jobdw x=y"}, got)

	_, err = Directives([]byte("#BB_LUA\n"), "BB_LUA")
	assert.EqualError(t, err, `line 1: "#BB_LUA" has no command`)

	_, err = Directives(nil, "")
	require.Error(t, err)
	var de *DirectiveError
	assert.False(t, errors.As(err, &de), "the site's mistake, not the user's")
}

func TestDirectivesRefuses(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"no command", "#!/bin/sh\n\n#DW\n", `line 3: "#DW" has no command`},
		{"blanks for a command", "#!/bin/sh\n#DW  \t\n", `line 2: "#DW" has no command`},
		{"carriage return for a command", "#DW\r\n", `line 1: "#DW" has no command`},
		{"no command on two lines", "#DW \\\n#DW\n", `line 1: "#DW" has no command`},
		{"a backslash for a command", "#DW \\\n", `line 1: "#DW" has no command`},
		{"no blank after the word", "# a\n#DWjobdw type=xfs\n", `line 2: no space after "#DW" in "#DWjobdw type=xfs"`},
		{"NUL", "#DW a\n#DW b\x00c\n", `line 2: NUL byte in a comment at the top of the script`},
		{"NUL in another comment", "# a\x00\n#DW b\n", `line 1: NUL byte in a comment at the top of the script`},
		{"control character", "#DW a\x1b[31m\n", `line 1: control character U+001B in "#DW a\x1b[31m"`},
		{"carriage return within", "#DW a\rb\n", `line 1: control character U+000D in "#DW a\rb"`},
		{"control character of 8 bits", "#DW a\u0085b\n", `line 1: control character U+0085 in "#DW a\u0085b"`},
		{"in a continuation", "#DW a \\\n#DW b\ac\n", `line 2: control character U+0007 in "#DW b\ac"`},
		{"no-break space", "#DW\u00a0jobdw\n", `line 1: invisible character U+00A0 in "#DW\u00a0jobdw"`},
		{"right-to-left override", "#DW a\u202eb\n", `line 1: invisible character U+202E in "#DW a\u202eb"`},
		{"invalid UTF-8", "#DW a\xffb\n", `line 1: invalid UTF-8 in "#DW a\xffb"`},
		{"long text is cut around the place", "#DW " + strings.Repeat("x", 100) + "\xff" + strings.Repeat("y", 100),
			`line 1: invalid UTF-8 in ..."xxxxxxxxxxxxxxxxxxxx\xffyyyyyyyyyyyyyyyyyyy"...`},
		{"text without a letter is cut too", "#DW" + strings.Repeat("\x81", 100),
			`line 1: invalid UTF-8 in "#DW` + strings.Repeat(`\x81`, 23) + `"...`},
		{"no letter is cut in two", "#DW " + strings.Repeat("ö", 20) + "\a" + strings.Repeat("ü", 20),
			`line 1: control character U+0007 in ..."` + strings.Repeat("ö", 10) + `\a` + strings.Repeat("ü", 10) + `"...`},
		{"longer than the bound", "#DW " + strings.Repeat("x", MaxDirectiveBytes), `line 1: directive is longer than 64 KiB`},
		{"longer than the bound by continuation", "#DW a \\\n" + strings.Repeat("#DW "+strings.Repeat("x", 1000)+"\\\n", 70),
			`line 1: directive is longer than 64 KiB`},
		{"too many", strings.Repeat("#DW a\n", MaxDirectives+1), `line 65: more than 64 "#DW" directives`},
		{"longer than the bound together", strings.Repeat("#DW "+strings.Repeat("x", 60_000)+"\n", 5), `line 5: the "#DW" directives are longer than 256 KiB together`},
		{"script too large", strings.Repeat("x", MaxScriptBytes+1), `the job script is larger than 4 MiB`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Directives([]byte(tt.script), "DW")
			assert.Nil(t, got)
			require.EqualError(t, err, tt.want)
			var de *DirectiveError
			require.ErrorAs(t, err, &de)
			if de.Line > 0 {
				assert.True(t, strings.HasPrefix(err.Error(), fmt.Sprintf("line %d: ", de.Line)))
			}
		})
	}
}

func TestDirectivesPassesOverWhatIsNotItsOwn(t *testing.T) {
	// Latin-1 or escape sequences in comments and in the script are the user's.
	got, err := Directives([]byte("#!/bin/sh\n# gr\xf6\xdfe \x1b\n#DW a\necho \xff\x00\n"), "DW")
	require.NoError(t, err)
	assert.Equal(t, []string{"#DW a"}, got)
}

func TestDirectivesUpToItsBounds(t *testing.T) {
	got, err := Directives([]byte(strings.Repeat("#DW a\n", MaxDirectives)), "DW")
	require.NoError(t, err)
	assert.Len(t, got, MaxDirectives)
	got, err = Directives([]byte("#DW "+strings.Repeat("x", MaxDirectiveBytes-1)), "DW")
	require.NoError(t, err)
	assert.Len(t, got[0], MaxDirectiveBytes+3)
}

// slurmMerge is _xlate_batch of burst_buffer_lua.c step by step, as an oracle: the
// directives, continued lines merged, as Slurm has them.
func slurmMerge(script, word string) []string {
	var merged []string
	isCont, hasSpace := false, false
	isSpace := func(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
	for _, tok := range strings.FieldsFunc(script, func(r rune) bool { return r == '\n' }) {
		if tok[0] != '#' {
			break
		}
		if !strings.HasPrefix(tok[1:], word) {
			isCont = false
			continue
		}
		line := tok
		if isCont {
			tok = tok[len(word)+1:]
			for hasSpace && tok != "" && isSpace(tok[0]) {
				tok = tok[1:]
			}
		} else {
			merged = append(merged, "")
		}
		isCont = strings.HasSuffix(line, `\`)
		if isCont {
			hasSpace = isSpace(line[len(line)-2])
			tok = tok[:len(tok)-1]
		}
		merged[len(merged)-1] += tok
	}
	return merged
}

func FuzzDirectives(f *testing.F) {
	for _, seed := range []string{"#!/bin/bash\n#DW jobdw type=xfs\n#SBATCH -N1\nsrun\n", "#DW a \\\n#DW b\\\n\n#DW\n", "#DW\\\n#DWx\n", "#DW a\r\n",
		"#DW \\\\\n#DW \\\n", "#DW a\x00", "#DW \xff", "#DW\u00a0a", "\n\n#DW a\n \n#DW b"} {
		f.Add([]byte(seed), "DW")
		f.Add([]byte(strings.ReplaceAll(seed, "#DW", "#BB_LUA")), "BB_LUA")
	}
	f.Fuzz(func(t *testing.T, script []byte, word string) {
		got, err := Directives(script, word)
		if err != nil {
			s := err.Error()
			if s == "" || len(s) > 400+8*len(word) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("error %q", s)
			}
			if got != nil {
				t.Fatal("directives with an error")
			}
			return
		}
		for _, d := range got {
			switch command := strings.Fields(d); {
			case !strings.HasPrefix(d, "#DW "), len(command) < 2, command[0] != "#DW": // as DWS's BuildArgsMap splits it
				t.Fatalf("directive %q", d)
			case !utf8.ValidString(d), strings.ContainsAny(d, "\x00\n\r\x1b"):
				t.Fatalf("characters of %q", d)
			}
		}
		if strings.ContainsAny(word, "\n\r\\") || strings.Contains(string(script), "\r") {
			return // carriage returns are where we differ from Slurm
		}
		slurm := slurmMerge(string(script), word)
		if len(slurm) != len(got) {
			t.Fatalf("Slurm has %q, we have %q", slurm, got)
		}
		for i := range slurm {
			want := "#DW " + strings.Trim(slurm[i][len(word)+1:], " \t")
			if got[i] != want {
				t.Fatalf("Slurm has %q, we have %q", slurm[i], got[i])
			}
		}
	})
}

func TestThePoolIsForSlurmAndNotForDWS(t *testing.T) {
	for name, c := range map[string][2]string{
		"in the middle":        {"#DW jobdw capacity=1GiB pool=dws name=a", "#DW jobdw capacity=1GiB name=a"},
		"at the end":           {"#DW jobdw capacity=1GiB pool=dws", "#DW jobdw capacity=1GiB"},
		"twice":                {"#DW jobdw pool=a\tpool=b x=y", "#DW jobdw x=y"},
		"part of another word": {"#DW jobdw mypool=dws name=a", "#DW jobdw mypool=dws name=a"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Directives([]byte("#!/bin/sh\n"+c[0]+"\n"), "DW")
			require.NoError(t, err)
			require.Equal(t, []string{c[1]}, got)
		})
	}
}

func TestAPresetStandsForItsDirectives(t *testing.T) {
	presets := []slurmconf.Preset{{Name: "small", Directives: []string{"#DW jobdw name=a", "#DW copy_in destination=$DW_JOB_a"}}}
	assert.Equal(t, []string{"#DW jobdw name=a", "#DW copy_in destination=$DW_JOB_a", "#DW container name=x", "#DW small name=b"},
		Expand([]string{"#DW small", "#DW container name=x", "#DW small name=b"}, presets))
	assert.Empty(t, Expand(nil, presets))
}
