package slurm

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake are Slurm's commands: squeue prints lines, scancel writes its arguments to
// the file cancelled.
func fake(t *testing.T, squeue string) (c Commands, cancelled string) {
	t.Helper()
	dir := t.TempDir()
	cancelled = filepath.Join(dir, "cancelled")
	script(t, dir, "squeue", "echo \"$@\" >>"+filepath.Join(dir, "asked")+"\ncat <<'END'\n"+squeue+"\nEND")
	script(t, dir, "scancel", `echo "$@" >>`+cancelled)
	return Commands{Dir: dir, Conf: "/etc/slurm/slurm.conf"}, cancelled
}

func script(t *testing.T, dir, name, body string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
}

func TestCancel(t *testing.T) {
	tests := []struct {
		name, squeue string
		id           uint32
		want, fails  string
	}{
		{"a plain job", "12|12|", 12, "12", ""},
		{"an array task with a job id of its own", "123|120_3|\n120|120_[4-9%2]|", 123, "120_3", ""},
		{"the task that has the array's id", "123|120_3|\n120|120_7|", 120, "120_7", ""},
		{"the last pending task, which is printed in brackets", "120|120_[9]|", 120, "120_9", ""},
		{"an array's id that still stands for tasks", "123|120_3|\n120|120_[4-9%2]|", 120, "", "job 120 still stands for the array tasks 4-9%2: not touched"},
		{"a part of a heterogeneous job ends the whole", "100|100+0|\n101|100+1|\n102|100+2|", 101, "100", ""},
		{"the first part of a heterogeneous job", "100|100+0|\n101|100+1|", 100, "100", ""},
		{"another job's line only", "13|13|", 12, "", "squeue --jobs=12: no such job in its answer"},
		{"an empty answer", "", 12, "", "squeue: cannot read"},
		{"an answer in other words", "slurm_load_jobs: hello", 12, "", `squeue: cannot read "slurm_load_jobs: hello"`},
		{"too many words", "12|12|c1|x", 12, "", "squeue: cannot read"},
		{"an option for an id", "12|--user=root|", 12, "", "cannot read the job id"},
		{"nothing for an id", "12||", 12, "", "cannot read the job id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, cancelled := fake(t, tt.squeue)
			err := c.Cancel(t.Context(), tt.id)
			text, _ := os.ReadFile(cancelled)
			assert.Equal(t, tt.want, strings.TrimSpace(string(text)))
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestArrayTask(t *testing.T) {
	c, _ := fake(t, "123|120_3|c1\n120|120_[4-9%2]|")
	array, task, err := c.ArrayTask(t.Context(), 123)
	require.NoError(t, err)
	assert.Equal(t, []uint32{120, 3}, []uint32{array, task})
	_, _, err = c.ArrayTask(t.Context(), 120)
	assert.ErrorContains(t, err, `cannot read the job id "120_[4-9%2]"`)
}

func TestArray(t *testing.T) {
	tests := []struct {
		name, squeue string
		id           uint32
		want         uint32
		fails        string
	}{
		{"a plain job", "12|12|", 12, 0, ""},
		{"a task", "123|120_3|\n120|120_[4-9%2]|", 123, 120, ""},
		{"the task that has the array's id", "120|120_7|", 120, 120, ""},
		{"a part of a heterogeneous job", "101|100+1|", 101, 0, ""},
		{"another job's line only", "13|13|", 12, 0, "no such job"},
		{"no number", "12|x_1|", 12, 0, "cannot read the job id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := fake(t, tt.squeue)
			array, err := c.Array(t.Context(), tt.id)
			same, _, taskErr := c.ArrayTask(t.Context(), tt.id)
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				require.ErrorContains(t, taskErr, tt.fails)
				return
			}
			require.NoError(t, err)
			require.NoError(t, taskErr)
			assert.Equal(t, []uint32{tt.want, tt.want}, []uint32{array, same})
		})
	}
}

// A job's name is the user's. Whatever it is, it must not reach what we parse.
func TestWhatIsAskedOfSlurmHoldsNothingThatAUserWrites(t *testing.T) {
	c, _ := fake(t, "12|12|c1")
	_, err := c.Nodes(t.Context(), 12)
	require.NoError(t, err)
	asked, err := os.ReadFile(filepath.Join(c.Dir, "asked"))
	require.NoError(t, err)
	assert.Equal(t, "--noheader --all --states=all --jobs=12 --format=%A|%i|%N\n", string(asked))
}

func TestNodes(t *testing.T) {
	tests := []struct {
		name, squeue string
		want         []string
		fails        string
	}{
		{"a hostlist", "12|12|c[1-2,5]", []string{"c1", "c2", "c5"}, ""},
		{"of the one array task", "13|12_2|c9\n12|12_1|c1", []string{"c1"}, ""},
		{"of the one part of a heterogeneous job", "12|12+0|c1\n13|12+1|c2", []string{"c1"}, ""},
		{"none yet", "12|12|", nil, "job 12 has no nodes"},
		{"none yet, in other words", "12|12|(null)", nil, "job 12 has no nodes"},
		{"a hostlist that is none", "12|12|c[1-", nil, "hostlist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := fake(t, tt.squeue)
			got, err := c.Nodes(t.Context(), 12)
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

// SlurmUser, unlike root, does not see them without --all: reconcile would end
// the Workflow of a job that runs.
func TestTheJobsOfHiddenPartitionsAreSeen(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "squeue", `echo "1|RUNNING|a|c1"; for a; do [ "$a" = --all ] && echo "2|RUNNING|a|c1"; done; true`)
	jobs, err := Commands{Dir: dir}.Jobs(t.Context(), nil)
	require.NoError(t, err)
	assert.Contains(t, jobs, uint32(2))
}

func TestACommandThatFails(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"its last words", "echo first >&2; echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
			"squeue --noheader --all --array --states=all --format=%A|%T|%u|%N: slurm_load_jobs error: Unable to contact slurm controller"},
		{"without words", "exit 3", "exit status 3"},
		{"output before a failure is not believed", "echo '1|RUNNING|a|c1'; exit 1", "exit status 1"},
		{"a signal", "kill -9 $$", "signal: killed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", tt.body)
			_, err := Commands{Dir: dir}.Jobs(t.Context(), nil)
			require.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
			var failed *CommandError
			require.ErrorAs(t, err, &failed)
		})
	}
}

func TestACommandThatHangsEndsWithTheDeadline(t *testing.T) {
	for name, body := range map[string]string{
		"itself":                         "exec sleep 600",
		"with a child that holds a pipe": "sleep 600 & echo $! >$0.pid; wait",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "squeue", body)
			t.Cleanup(func() { endChild(filepath.Join(dir, "squeue.pid")) })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := Commands{Dir: dir}.Jobs(ctx, nil)
				done <- err
			}()
			select {
			case err := <-done:
				require.ErrorContains(t, err, "no answer in time")
			case <-time.After(60 * time.Second): // far more than the deadline, far less than the sleep
				t.Fatal("it still waits for the pipe")
			}
		})
	}
}

func endChild(pidFile string) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
}

func TestAMissingCommandIsNamedWithTheSetting(t *testing.T) {
	dir := t.TempDir()
	_, err := Commands{Dir: dir}.Jobs(t.Context(), nil)
	require.EqualError(t, err, "squeue is not in "+dir+": set slurm_bin_dir")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squeue"), nil, 0o644))
	_, err = Commands{Dir: dir}.Jobs(t.Context(), nil)
	require.ErrorContains(t, err, "set slurm_bin_dir", "a file that cannot be run is none")
}

func TestTheEnvironmentOfACommandIsOurs(t *testing.T) {
	for name, value := range map[string]string{"SQUEUE_STATES": "RUNNING", "SLURM_CLUSTERS": "other", "LD_PRELOAD": "", "SLURM_CONF": "/wrong"} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	script(t, dir, "squeue", "env >"+filepath.Join(dir, "env"))
	_, err := Commands{Dir: dir, Conf: "/etc/slurm-x/slurm.conf"}.Jobs(t.Context(), nil)
	require.NoError(t, err)
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	assert.Contains(t, string(env), "SLURM_CONF=/etc/slurm-x/slurm.conf\n")
	assert.NotContains(t, string(env), "SQUEUE_STATES")
	assert.NotContains(t, string(env), "SLURM_CLUSTERS")
}
