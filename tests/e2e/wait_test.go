package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// patience is how long something that should happen may take. It only has to be longer than
	// the busiest machine needs: no test is about how fast something happens.
	patience = 5 * time.Minute
	// lookAgain is the time between two looks where nothing tells of a change.
	lookAgain = 300 * time.Millisecond
)

// eventually waits until the condition holds; what says what was waited for.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !holds(); time.Sleep(lookAgain) {
		require.True(t, time.Now().Before(until), "waited %v: %s", patience, what)
	}
}

// becomes waits until what look returns is as wanted.
func becomes[T any](t *testing.T, wanted T, look func() T, message ...any) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(lookAgain) {
		found := look()
		if assert.ObjectsAreEqual(wanted, found) {
			return
		}
		if time.Now().After(until) {
			require.Equal(t, wanted, found, message...)
		}
	}
}

// exists tells whether slurmctld's host, or the home that all hosts share, has a file.
func exists(t *testing.T, file string) bool {
	t.Helper()
	return as(t, "root", "test", "-e", file).Status == 0
}
