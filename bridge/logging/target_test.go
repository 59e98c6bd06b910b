package logging

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/slurmconf"
)

func logTo(t *testing.T, path, line string) {
	t.Helper()
	logger, sink, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: "info", File: path}})
	require.NoError(t, err, "no reason to fail")
	logger.Error(line)
	require.NoError(t, sink.Close())
}

// Who may write in the log's directory puts a second name of root's file there.
func TestAFileOfAnotherNameIsNotWrittenTo(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	require.NoError(t, os.Link(victim, path))
	logTo(t, path, "root::0:0:::")
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text))
}

func TestAFIFOGetsNoLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, syscall.Mkfifo(path, 0o644))
	logTo(t, path, "nobody reads: a hook would wait")
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	logTo(t, path, "somebody reads")
	n, _ := reader.Read(make([]byte, 100))
	assert.Zero(t, n)
}

// A server answers with megabytes of words: the journal is not flooded.
func TestALineIsBounded(t *testing.T) {
	logger, read := toFile(t, "info")
	logger.Error(strings.Repeat("ä", 1<<20))
	logger.Error("short")
	text := read()
	assert.Less(t, len(text), 3*maxLine)
	assert.Contains(t, text, "...")
	assert.Contains(t, text, "short")
}

// Setup is the first to log, as root, and then the hooks of slurmctld.
func TestANewLogOfRootsBelongsToSlurmUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for text, uid := range map[string]uint32{"SlurmUser=nobody\n": 65534, "SlurmUser=65534\n": 65534, "": 0} {
		dir := t.TempDir()
		conf, path := filepath.Join(dir, "slurm.conf"), filepath.Join(dir, "log")
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o644))
		for range 2 {
			logger, sink, err := New(&slurmconf.Config{SlurmConf: conf, Log: slurmconf.Log{Level: "info", File: path}})
			require.NoError(t, err)
			logger.Info("a line")
			require.NoError(t, sink.Close())
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.Equal(t, uid, info.Sys().(*syscall.Stat_t).Uid)
			require.NoError(t, os.Chown(path, 4711, 0), "an administrator's choice")
			uid = 4711
		}
	}
}
