// Package eventually waits in tests for what should happen. It looks again and again, in the test's
// own goroutine: unlike testify's Eventually it does not give up because a single look took longer
// than the limit, and a look may call require.
package eventually

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// Patience is how long something that should happen may take. It only has to be longer than the
	// busiest machine needs: no test is about how fast something happens.
	Patience = 5 * time.Minute
	// lookAgain is the time between the first looks, lookSeldom that between later ones.
	lookAgain  = 20 * time.Millisecond
	lookSeldom = 300 * time.Millisecond
)

// True waits until the condition holds; what says what is waited for.
func True(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for until, pause := time.Now().Add(Patience), lookAgain; !holds(); pause = min(pause*5/4, lookSeldom) {
		require.True(t, time.Now().Before(until), "waited %v: %s", Patience, what)
		time.Sleep(pause)
	}
}

// Equal waits until look returns what is wanted, and says how it differs when it does not.
func Equal[T any](t testing.TB, wanted T, look func() T, message ...any) {
	t.Helper()
	for until, pause := time.Now().Add(Patience), lookAgain; ; pause = min(pause*5/4, lookSeldom) {
		found := look()
		if assert.ObjectsAreEqual(wanted, found) {
			return
		}
		if time.Now().After(until) {
			require.Equal(t, wanted, found, message...)
		}
		time.Sleep(pause)
	}
}
