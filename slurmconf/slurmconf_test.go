package slurmconf

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writeFiles makes a directory with files and returns its path.
func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func TestReadSlurmConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       SlurmConf
	}{
		{"defaults", "", SlurmConf{SlurmUser: "root", StateSaveLocation: "/var/spool"}},
		{"all that is read", "ClusterName=c1\nSlurmUser=slurm\nStateSaveLocation=/s\nBurstBufferType=burst_buffer/lua\n",
			SlurmConf{"c1", "slurm", "/s", "burst_buffer/lua"}},
		{"upper and lower case, blanks around =", "CLUSTERNAME = Big\n  slurmuser=\tslurm\n", SlurmConf{"big", "slurm", "/var/spool", ""}},
		{"comments", "#ClusterName=a\nClusterName=b # SlurmUser=c\nSlurmUser=s\\#1#x", SlurmConf{"b", "s#1", "/var/spool", ""}},
		{"quotes", `ClusterName="a b" SlurmUser="slurm"`, SlurmConf{"a b", "slurm", "/var/spool", ""}},
		{"no pair within quotes", `NodeName=c1 Reason="ClusterName=x SlurmUser=y"`, SlurmConf{"", "root", "/var/spool", ""}},
		{"continuation", "ClusterName=\\\nc1\nSlurm\\  \nUser=slurm\\", SlurmConf{"c1", "slurm", "/var/spool", ""}},
		{"continuation before a comment", "ClusterName= \\ # why\n c1", SlurmConf{"c1", "root", "/var/spool", ""}},
		{"an escaped backslash continues nothing", "SlurmUser=a\\\\\nClusterName=b", SlurmConf{"b", "a\\", "/var/spool", ""}},
		{"the last one counts", "ClusterName=a\nClusterName=b", SlurmConf{"b", "root", "/var/spool", ""}},
		{"carriage returns", "ClusterName=a\r\nSlurmUser=b\r\n", SlurmConf{"a", "b", "/var/spool", ""}},
		{"what is no pair is passed over", "=\n==\nfoo\nClusterName=a\nSlurmUser=", SlurmConf{"a", "root", "/var/spool", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"slurm.conf": tt.text})
			got, err := ReadSlurmConf(filepath.Join(dir, "slurm.conf"))
			require.NoError(t, err)
			assert.Equal(t, tt.want, *got)
		})
	}
}

func TestReadSlurmConfFollowsIncludes(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"slurm.conf": "ClusterName=C1\ninclude  users.conf\nInclude %c.conf\nIncludeNothing x\n",
		"users.conf": "SlurmUser=slurm\n",
		"c1.conf":    "StateSaveLocation=/s\n",
	})
	got, err := ReadSlurmConf(filepath.Join(dir, "slurm.conf"))
	require.NoError(t, err)
	assert.Equal(t, SlurmConf{"c1", "slurm", "/s", ""}, *got)
}

func TestReadSlurmConfEndsAtIncludesWithoutEnd(t *testing.T) {
	for name, text := range map[string]string{
		"itself":                "ClusterName=a\nInclude slurm.conf\n",
		"itself, several times": "ClusterName=a\n" + strings.Repeat("Include slurm.conf\n", 50),
		"a file that is absent": "Include nowhere\nClusterName=a\n",
		"a directory":           "Include .\nClusterName=a\n",
		"a name with NUL":       "Include a\x00b\nClusterName=a\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"slurm.conf": text})
			got, err := ReadSlurmConf(filepath.Join(dir, "slurm.conf"))
			require.Error(t, err)
			assertOneLine(t, err)
			assert.Equal(t, "a", got.ClusterName, "the rest is used")
		})
	}
}

func TestReadSlurmConfThatIsAbsent(t *testing.T) {
	got, err := ReadSlurmConf("/nonexistent/slurm.conf")
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, "/nonexistent/slurm.conf: no such file or directory")
	assert.Equal(t, "root", got.SlurmUser)
}

func TestReadBurstBufferConf(t *testing.T) {
	day := 24 * time.Hour
	slurmDefaults := BurstBuffer{Directive: "BB_LUA", OtherTimeout: 300 * time.Second, StageInTimeout: day,
		StageOutTimeout: day, PollInterval: 15 * time.Second}
	with := func(change func(b *BurstBuffer)) BurstBuffer {
		b := slurmDefaults
		change(&b)
		return b
	}
	tests := []struct {
		name, text string
		want       BurstBuffer
		wantErr    string
	}{
		{"empty", "", slurmDefaults, ""},
		{"all", "Directive=DW\nFlags=TeardownFailure,PrivateData\nOtherTimeout=1\nStageInTimeout=2\nStageOutTimeout=3\nPollInterval=4\n",
			BurstBuffer{Directive: "DW", Flags: []string{"TeardownFailure", "PrivateData"}, OtherTimeout: time.Second,
				StageInTimeout: 2 * time.Second, StageOutTimeout: 3 * time.Second, PollInterval: 4 * time.Second}, ""},
		{"several on a line, any case", "DIRECTIVE=DW othertimeout=5 # Directive=X", with(func(b *BurstBuffer) {
			b.Directive, b.OtherTimeout = "DW", 5*time.Second
		}), ""},
		{"longer than Slurm's bound", "OtherTimeout=UNLIMITED\nStageInTimeout=2073601", with(func(b *BurstBuffer) {
			b.OtherTimeout, b.StageInTimeout = 24*day, 24*day
		}), ""},
		{"not a number keeps the default", "OtherTimeout=5m\nDirective=DW", with(func(b *BurstBuffer) { b.Directive = "DW" }),
			`burst_buffer.conf: OtherTimeout="5m": not a number of seconds`},
		{"negative keeps the default", "PollInterval=-1", slurmDefaults, `PollInterval="-1": not a number of seconds`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"burst_buffer.conf": tt.text, "burst_buffer_lua.conf": "Directive=OTHER"})
			got, err := ReadBurstBufferConf(filepath.Join(dir, "slurm.conf"))
			if tt.wantErr == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.wantErr)
			}
			tt.want.Path = filepath.Join(dir, "burst_buffer.conf")
			if tt.want.Flags == nil {
				tt.want.Flags = []string{}
			}
			assert.Equal(t, tt.want, *got)
		})
	}
}

func TestReadBurstBufferConfUnderItsSecondName(t *testing.T) {
	dir := writeFiles(t, map[string]string{"burst_buffer_lua.conf": "Directive=DW\nflags=teardownfailure"})
	got, err := ReadBurstBufferConf(filepath.Join(dir, "slurm.conf"))
	require.NoError(t, err)
	assert.Equal(t, "DW", got.Directive)
	assert.True(t, got.HasFlag("TeardownFailure"))
	assert.False(t, got.HasFlag("PrivateData"))
}

func TestReadBurstBufferConfThatIsAbsent(t *testing.T) {
	got, err := ReadBurstBufferConf("/nonexistent/slurm.conf")
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, "BB_LUA", got.Directive)
	assert.Empty(t, got.Path)
	assert.Equal(t, 300*time.Second, got.OtherTimeout)
}

func FuzzBurstBufferConf(f *testing.F) {
	for _, seed := range []string{"Directive=DW\nFlags=a,b", "Include burst_buffer.conf", "OtherTimeout=\x1b[0m", "a=\"", "\\\n\\", "Directive=\"\"",
		"Include /dev/zero", "Flags=,,", "#\\", "PollInterval=0x10", "Include %c"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "burst_buffer.conf")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		b, err := ReadBurstBufferConf(filepath.Join(dir, "slurm.conf"))
		if err != nil {
			assertOneLine(t, err)
		}
		assert.NotEmpty(t, b.Directive)
		for _, d := range []time.Duration{b.OtherTimeout, b.StageInTimeout, b.StageOutTimeout, b.PollInterval} {
			assert.True(t, d >= 0 && d <= maxSlurmTimeout)
		}
	})
}
