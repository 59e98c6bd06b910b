package reconcile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// fakeSlurm are Slurm's commands as shell scripts.
type fakeSlurm struct {
	t   *testing.T
	dir string
}

func newSlurm(t *testing.T) *fakeSlurm {
	s := &fakeSlurm{t, t.TempDir()}
	s.jobs("")
	s.controller(time.Hour, 1000)
	return s
}

func (s *fakeSlurm) commands() slurm.Commands {
	return slurm.Commands{Dir: s.dir, Conf: filepath.Join(s.dir, "slurm.conf")}
}

func (s *fakeSlurm) guard() Guard { return Guard{Slurm: s.commands(), MinAge: time.Minute} }

// script makes a command, which also notes what it is asked.
func (s *fakeSlurm) script(name, text string) {
	s.t.Helper()
	text = "#!/bin/sh\necho \"" + name + " $*\" >>" + filepath.Join(s.dir, "asked") + "\n" + text + "\n"
	// A process that another test starts meanwhile would hold the file open for writing, and
	// then nobody may execute it ("text file busy").
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o755))
}

// jobs is what squeue prints.
func (s *fakeSlurm) jobs(lines string) { s.script("squeue", "printf '%s' '"+lines+"'") }

// controller is what slurmctld says of itself.
func (s *fakeSlurm) controller(up time.Duration, nextJob int) {
	s.script("scontrol", fmt.Sprintf("echo 'BOOT_TIME = %d'; echo 'NEXT_JOB_ID = %d'", time.Now().Add(-up).Unix(), nextJob))
}

// asked are the commands that were run.
func (s *fakeSlurm) asked() []string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "asked"))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// keeps is a source of objects.
func keeps(objects ...duty.Object) Source {
	return func(context.Context) ([]duty.Object, error) { return objects, nil }
}

// fails is a source that cannot be listed.
func fails(err error) Source {
	return func(context.Context) ([]duty.Object, error) { return nil, err }
}

// removed collects the names of objects that were removed.
type removed struct{ names chan string }

func newRemoved() *removed { return &removed{make(chan string, 1000)} }

func (r *removed) object(id uint32, name string) duty.Object {
	return duty.Object{Name: name, JobID: id, Made: time.Now().Add(-time.Hour), Remove: func(context.Context) error {
		r.names <- name
		return nil
	}}
}

// all are those so far.
func (r *removed) all() []string {
	names := []string{}
	for {
		select {
		case name := <-r.names:
			names = append(names, name)
		default:
			return names
		}
	}
}

func options(t *testing.T, s *fakeSlurm, sources ...Source) Options {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	return Options{
		Sources: sources, Guard: s.guard(), Brake: Brake{File: filepath.Join(t.TempDir(), "state", "held-back"), Max: 50},
		Limit: time.Minute, Log: logrus.NewEntry(log),
	}
}
