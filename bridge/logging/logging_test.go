package logging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func toFile(t *testing.T, level string) (*logrus.Logger, func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	logger, sink, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: level, File: path}})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	return logger, func() string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
}

func TestWhatComesFromOutsideStaysOnItsLine(t *testing.T) {
	for name, text := range map[string]string{
		"line feed":       "refused: x\ntime=\"2026-01-01\" level=info msg=\"job 1: done\"",
		"carriage return": "refused: x\rlevel=info",
		"escape sequence": "refused: \x1b[2J\x1b]0;title\a",
		"next line":       "refused: x\u0085y\u2028z",
		"invalid UTF-8":   "refused: \xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			logger, read := toFile(t, "info")
			logger.WithField("hook", text).WithField("job", 7).Error(text)
			got := read()
			assert.Equal(t, 1, strings.Count(got, "\n"), got)
			assert.True(t, strings.HasSuffix(got, "\n"))
			assert.NotContains(t, got, "\r")
			assert.NotContains(t, got, "\x1b")
			assert.Contains(t, got, "job=7")
			for _, r := range wire.OneLine(text) {
				assert.True(t, r >= ' ' && r != 0x7f && r != 0x85 && r != 0x2028, "%q", r)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]int{"error": 1, "warning": 2, "info": 3, "debug": 4} {
		logger, read := toFile(t, level)
		logger.Error("e")
		logger.Warn("w")
		logger.Info("i")
		logger.Debug("d")
		assert.Equal(t, want, strings.Count(read(), "\n"), level)
	}
	_, _, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: "loud"}})
	require.ErrorContains(t, err, `log level "loud"`)
}

func TestTheHooksOfManyJobsShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var writers sync.WaitGroup
	for range 10 {
		writers.Go(func() {
			logger, sink, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: "info", File: path}})
			if !assert.NoError(t, err) {
				return
			}
			defer sink.Close()
			for range 50 {
				logger.Info(strings.Repeat("x", 200))
			}
		})
	}
	writers.Wait()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	assert.Len(t, lines, 500)
	for _, line := range lines {
		assert.True(t, strings.HasPrefix(line, "time=") && strings.Count(line, "time=") == 1, line)
	}
}

func TestALogFileThatCannotBeOpenedIsNoReasonToFail(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	require.NoError(t, os.WriteFile(target, nil, 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(target, link))
	for _, path := range []string{link, dir, "/nonexistent/log"} {
		logger, sink, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: "info", File: path}})
		require.NoError(t, err)
		logger.Error("lost or in the journal")
		require.NoError(t, sink.Close())
	}
	text, err := os.ReadFile(target)
	require.NoError(t, err)
	assert.Empty(t, text, "a link is not followed")
}

func TestTheJournalIsNoReasonToFail(t *testing.T) {
	logger, sink, err := New(&slurmconf.Config{Log: slurmconf.Log{Level: "info"}})
	require.NoError(t, err)
	logger.WithField("job", 7).WithField("hook", "x").Error("lost or not, no harm")
	require.NoError(t, sink.Close())
}

// In a hook these are the answer to Slurm. The test runs itself as a child, since
// the descriptors are what counts, not os.Stdout.
func TestNothingIsWrittenToStandardOutputOrError(t *testing.T) {
	if file := os.Getenv("SLURMK8S_TEST_LOG_TO"); file != "" {
		cfg := slurmconf.Log{Level: "debug", File: strings.TrimPrefix(file, "journal")}
		logger, sink, err := New(&slurmconf.Config{Log: cfg})
		if err != nil {
			os.Exit(3)
		}
		logger.WithField("job", 7).Error("a line")
		logger.Debug("another")
		_ = sink.Close()
		logger.Error("after the end")
		os.Exit(0)
	}
	for name, file := range map[string]string{
		"a file":      filepath.Join(t.TempDir(), "log"),
		"a full disk": "/dev/full",
		"the journal": "journal",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsWrittenToStandardOutputOrError$")
			cmd.Env = append(os.Environ(), "SLURMK8S_TEST_LOG_TO="+file)
			output, err := cmd.CombinedOutput()
			require.NoError(t, err)
			assert.Empty(t, string(output))
		})
	}
}
