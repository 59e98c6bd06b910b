package workflow

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, d Files, id string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(d), "job."+id, "env"))
	require.NoError(t, err)
	return string(text)
}

func TestWriteEnv(t *testing.T) {
	tests := []struct {
		name    string
		env     map[string]string
		want    string
		skipped []string
	}{
		{"nothing", nil, "", nil},
		{"sorted", map[string]string{"B": "2", "A": "1"}, "A=1\nB=2\n", nil},
		{"values as they are", map[string]string{"A": `a b="c" $d=\e`, "B": ""}, "A=a b=\"c\" $d=\\e\nB=\n", nil},
		{"a line feed would begin another variable", map[string]string{"A": "x\nLD_PRELOAD=/tmp/x", "B": "1"}, "B=1\n", []string{"A"}},
		{"carriage return and NUL", map[string]string{"A": "x\ry", "B": "x\x00y"}, "", []string{"A", "B"}},
		{"names that no shell takes", map[string]string{"": "1", "1A": "1", "A-B": "1", "A B": "1", "A=B": "1", "É": "1", "A\n": "1", "_ok": "1"},
			"_ok=1\n", []string{"", "1A", "A\n", "A B", "A-B", "A=B", "É"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Files(t.TempDir())
			skipped, err := d.WriteEnv(7, tt.env)
			require.NoError(t, err)
			assert.Equal(t, tt.skipped, skipped)
			assert.Equal(t, tt.want, read(t, d, "7"))
		})
	}
}

func TestTheEnvFileIsItsOwners(t *testing.T) {
	d := Files(t.TempDir())
	_, err := d.WriteEnv(7, map[string]string{"A": "1"})
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(string(d), "job.7", "env"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestAFailedWriteKeepsTheOldFileAndLeavesNothing(t *testing.T) {
	d := Files(t.TempDir())
	_, err := d.WriteEnv(7, map[string]string{"A": "1"})
	require.NoError(t, err)
	env := filepath.Join(string(d), "job.7", "env")
	require.NoError(t, os.Remove(env))
	require.NoError(t, os.Mkdir(env, 0o700)) // a rename onto it fails, for root too
	_, err = d.WriteEnv(7, map[string]string{"A": "2"})
	require.ErrorContains(t, err, "keep the job's variables")
	entries, err := os.ReadDir(filepath.Dir(env))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestWithoutAStateDirTheErrorNamesIt(t *testing.T) {
	_, err := Files("/nonexistent/state").WriteEnv(7, nil)
	require.ErrorContains(t, err, "/nonexistent/state/job.7")
}

func TestJobs(t *testing.T) {
	d := Files(t.TempDir())
	for _, id := range []uint32{7, 4294967295} {
		_, err := d.WriteEnv(id, nil)
		require.NoError(t, err)
	}
	for _, other := range []string{"breaker", "job.x", "job.", "job.4294967296", "job.-1", "pools.json"} {
		require.NoError(t, os.WriteFile(filepath.Join(string(d), other), nil, 0o600))
	}
	ids := func() (ids []uint32) {
		files, err := d.Jobs()
		require.NoError(t, err)
		for _, f := range files {
			ids = append(ids, f.ID)
		}
		return ids
	}
	assert.ElementsMatch(t, []uint32{7, 4294967295}, ids())

	require.NoError(t, d.RemoveJob(7))
	require.NoError(t, d.RemoveJob(7), "a second time there is nothing to do")
	assert.Equal(t, []uint32{4294967295}, ids())
}

// age makes the breaker's file older.
func age(t *testing.T, d Files, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	require.NoError(t, os.Chtimes(filepath.Join(string(d), "breaker"), then, then))
}

func TestBreaker(t *testing.T) {
	const rest = 30 * time.Second
	tests := []struct {
		name          string
		rest          time.Duration
		do            func(t *testing.T, d Files, b Breaker)
		open, tripped bool
	}{
		{"nothing happened", rest, func(*testing.T, Files, Breaker) {}, false, false},
		{"an answer", rest, func(_ *testing.T, _ Files, b Breaker) { b.Begin(); b.Reset() }, false, false},
		{"no answer", rest, func(_ *testing.T, _ Files, b Breaker) { b.Begin(); b.Trip() }, true, true},
		{"no answer to bbstat, which does not begin", rest, func(_ *testing.T, _ Files, b Breaker) { b.Trip() }, true, true},
		{"kill -9 while waiting: the next submission is judged locally, bbstat still asks", rest,
			func(_ *testing.T, _ Files, b Breaker) { b.Begin() }, true, false},
		{"the rest is over", rest, func(t *testing.T, d Files, b Breaker) { b.Trip(); age(t, d, rest+time.Second) }, false, false},
		{"the rest is almost over", rest, func(t *testing.T, d Files, b Breaker) { b.Trip(); age(t, d, rest-5*time.Second) }, true, true},
		{"killed, and the rest is over", rest, func(t *testing.T, d Files, b Breaker) { b.Begin(); age(t, d, rest+time.Second) }, false, false},
		{"no answer, an answer, no answer", rest, func(_ *testing.T, _ Files, b Breaker) { b.Trip(); b.Reset(); b.Begin(); b.Trip() }, true, true},
		{"tripped again the rest begins again", rest, func(t *testing.T, d Files, b Breaker) {
			b.Trip()
			age(t, d, rest+time.Second)
			b.Begin()
			b.Trip()
		}, true, true},
		{"the clock was set back", rest, func(t *testing.T, d Files, b Breaker) { b.Trip(); age(t, d, -time.Hour) }, false, false},
		{"turned off", 0, func(_ *testing.T, _ Files, b Breaker) { b.Trip() }, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Files(t.TempDir())
			tt.do(t, d, d.Breaker(tt.rest))
			// Another process asks.
			assert.Equal(t, tt.open, d.Breaker(tt.rest).Open())
			assert.Equal(t, tt.tripped, d.Breaker(tt.rest).Tripped())
		})
	}
}

func TestAnAcceptedScriptIsKeptUntilALaterOneTakesItsPlace(t *testing.T) {
	d := Files(t.TempDir())
	require.NoError(t, d.WriteJudged(7, []byte("#!/bin/sh\n#DW x\n")))
	text, err := os.ReadFile(filepath.Join(string(d), "judged.7"))
	require.NoError(t, err)
	assert.Equal(t, "7\n#!/bin/sh\n#DW x\n", string(text))

	require.NoError(t, d.WriteJudged(7+judgedFiles, []byte("#DW y\n")))
	text, err = os.ReadFile(filepath.Join(string(d), "judged.7"))
	require.NoError(t, err)
	assert.Equal(t, "71\n#DW y\n", string(text))

	require.NoError(t, d.WriteJudged(8, make([]byte, maxJudged+1)))
	assert.NoFileExists(t, filepath.Join(string(d), "judged.8"))
	assert.Error(t, Files("/nonexistent").WriteJudged(8, nil))
}

func TestABreakerWithoutItsDirectoryStaysClosed(t *testing.T) {
	b := Files("/nonexistent/state").Breaker(time.Hour)
	b.Begin()
	b.Trip()
	assert.False(t, b.Open())
	b.Reset()
}

// In a directory that was open once somebody left something under the names of our files.
func TestWhatStandsInTheBreakersPlaceIsNotWrittenTo(t *testing.T) {
	trip := func(t *testing.T, d Files) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := d.Breaker(time.Hour)
			b.Begin()
			b.Trip()
			b.Open()
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("slurmctld would wait")
		}
	}
	t.Run("a link", func(t *testing.T) {
		d := Files(t.TempDir())
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
		require.NoError(t, os.Symlink(victim, filepath.Join(string(d), "breaker")))
		trip(t, d)
		text, err := os.ReadFile(victim)
		require.NoError(t, err)
		assert.Equal(t, "precious", string(text))
	})
	t.Run("a FIFO", func(t *testing.T) {
		d := Files(t.TempDir())
		require.NoError(t, syscall.Mkfifo(filepath.Join(string(d), "breaker"), 0o600))
		trip(t, d)
	})
}

// The other files are made anew and renamed, which replaces whatever was there.
func TestALinkInPlaceOfAFileIsReplacedAndNotFollowed(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	d := Files(t.TempDir())
	require.NoError(t, os.Mkdir(filepath.Join(string(d), "job.7"), 0o700))
	for _, name := range []string{"judged.7", "job.7/env"} {
		require.NoError(t, os.Symlink(victim, filepath.Join(string(d), name)))
	}
	require.NoError(t, d.WriteJudged(7, []byte("#DW x\n")))
	_, err := d.WriteEnv(7, map[string]string{"A": "1"})
	require.NoError(t, err)
	assert.Equal(t, "A=1\n", read(t, d, "7"))
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text))
}
