package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func allowAny([]string) error { return nil }

func TestARecordLivesAsLongAsItsServices(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, d.Remove(t.Context(), 12), "without a directory")
	jobs, err := d.Jobs()
	require.NoError(t, err)
	assert.Empty(t, jobs)

	require.NoError(t, d.Add(t.Context(), 12, "batch", []string{"b/x", "a/y"}, allowAny))
	assert.FileExists(t, filepath.Join(string(d), "job.12"))
	assert.True(t, d.Alive(12, "batch"))
	assert.False(t, d.Alive(12, "0"))
	assert.False(t, d.Alive(13, "batch"))
	names, err := d.Namespaces(12)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	jobs, err = d.Jobs()
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	assert.Equal(t, uint32(12), jobs[0].ID)

	require.NoError(t, d.Remove(t.Context(), 12))
	assert.NoFileExists(t, filepath.Join(string(d), "job.12"))
	require.NoError(t, d.Remove(t.Context(), 12), "a second time")
}

func TestWhatADeadProgramRecordedStays(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, d.Add(t.Context(), 12, "0", []string{"a/x"}, allowAny))
	// A program with the number of another, and one that is no more.
	dead := fmt.Sprintf("%d 1 batch a/old\n999999999 5 1 a/older\ntorn line\n", os.Getpid())
	path := filepath.Join(string(d), "job.12")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, dead...), 0o600))
	assert.False(t, d.Alive(12, "batch"))
	assert.True(t, d.Alive(12, "0"))
	require.NoError(t, d.Add(t.Context(), 12, "0", nil, func(others []string) error {
		assert.Equal(t, []string{"a/x"}, others, "dead ones do not count")
		return nil
	}))
	require.NoError(t, d.Remove(t.Context(), 12))
	names, err := d.Namespaces(12)
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names, "for the epilog")
	require.NoError(t, d.Forget(t.Context(), 12))
	assert.NoFileExists(t, path)
}

func TestARefusalLeavesNoRecord(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	require.EqualError(t, d.Add(t.Context(), 12, "0", []string{"a/x"}, func([]string) error { return errors.New("too many") }), "too many")
	assert.NoFileExists(t, filepath.Join(string(d), "job.12"))
}

func TestStepsAtOnceAreCountedTogether(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	var group sync.WaitGroup
	var mu sync.Mutex
	admitted := 0
	for i := range 20 {
		group.Go(func() {
			err := d.Add(t.Context(), 12, fmt.Sprint(i), []string{fmt.Sprintf("a/x%d", i)}, func(others []string) error {
				if len(others) >= 5 {
					return errors.New("too many")
				}
				return nil
			})
			if err == nil {
				mu.Lock()
				admitted++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	assert.Equal(t, 5, admitted)
}

func TestADirectoryThatOthersWriteIntoIsRefused(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o755))
	require.NoError(t, os.Chmod(open, 0o777))
	require.ErrorContains(t, Records(open).Add(t.Context(), 12, "0", []string{"a/x"}, allowAny), "is writable by others")
}

func TestAStepHoldsAServiceFromItsRegistrationToItsEnd(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	specs, err := Parse("name=x,port=80:auto,label=b=1,label=a=2;y:90", nil)
	require.NoError(t, err)
	for i := range specs {
		specs[i].Namespace = "a"
	}
	require.NoError(t, d.Hold(t.Context(), 12, specs), "nothing is recorded")
	require.NoError(t, d.Add(t.Context(), 12, "batch", []string{"a/x", "a/y"}, allowAny))
	assert.Empty(t, d.Holder(12, "0", specs[0]), "it may still fail")
	require.NoError(t, d.Hold(t.Context(), 12, specs[:1]))
	same := specs[0]
	same.Ports = []Port{{Name: same.Ports[0].Name, Port: 80, Target: 20000, Auto: true}}
	assert.Equal(t, "batch", d.Holder(12, "0", same), "which port was chosen does not matter")
	assert.Empty(t, d.Holder(12, "0", specs[1]))
	assert.Empty(t, d.Holder(13, "0", same), "another job")
	assert.Empty(t, d.Holder(12, "batch", same), "the step itself")
	other := same
	other.Labels = map[string]string{"a": "2"}
	assert.Empty(t, d.Holder(12, "0", other), "other options")
	assert.True(t, d.Wanted(12, "0", "a/x"))
	require.NoError(t, d.Add(t.Context(), 12, "1", nil, func(others []string) error {
		assert.Equal(t, []string{"a/x", "a/y"}, others)
		return nil
	}))

	path := filepath.Join(string(d), "job.12")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(text, fmt.Append(nil, os.Getpid(), " "), []byte("999999999 ")), 0o600))
	assert.Empty(t, d.Holder(12, "0", same), "its program is dead")
	names, err := d.Namespaces(12)
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
}

// program is another process that has recorded a service of a step.
func program(t *testing.T, d Records, step, service string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	start, err := startOf(cmd.Process.Pid)
	require.NoError(t, err)
	entries, err := d.read(12)
	require.NoError(t, err)
	require.NoError(t, d.write(12, append(entries, Entry{Step: step, Service: service, pid: cmd.Process.Pid, start: start})))
	return cmd
}

func TestAServiceIsWantedByTheOtherStepsThatLive(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, d.Add(t.Context(), 12, "0", []string{"a/x"}, allowAny))
	assert.False(t, d.Wanted(12, "0", "a/x"), "by nobody else")
	other := program(t, d, "1", "a/x")
	assert.True(t, d.Wanted(12, "0", "a/x"))
	assert.False(t, d.Wanted(12, "0", "a/y"))
	assert.False(t, d.Wanted(13, "0", "a/x"))
	require.NoError(t, other.Process.Kill())
	assert.Eventually(t, func() bool { return !d.Wanted(12, "0", "a/x") }, time.Minute, time.Millisecond, "killed, though nobody has waited for it")
}

func TestAwaitReturnsWhenTheProgramOfAStepIsGone(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, d.Await(t.Context(), 12, "0"), "there is none")
	require.NoError(t, d.Add(t.Context(), 12, "batch", nil, allowAny))
	other := program(t, d, "0", "a/x")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Await(ctx, 12, "0") }()
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)

	go func() { done <- d.Await(t.Context(), 12, "0") }()
	select {
	case err := <-done:
		t.Fatalf("it lives: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, other.Process.Kill())
	assert.NoError(t, <-done)
}
