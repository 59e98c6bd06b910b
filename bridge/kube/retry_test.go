package kube

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPausesGrowUpToTheirCap(t *testing.T) {
	for _, limit := range []time.Duration{0, 500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			pauses := Pauses{Cap: limit}
			next := func() time.Duration {
				begun := time.Now()
				require.NoError(t, pauses.Wait(t.Context()))
				return time.Since(begun)
			}
			const jitter = 1.5
			first, last := next(), time.Duration(0)
			for range 20 {
				last = next()
			}
			longest := limit
			if longest == 0 {
				longest = backoff().Cap
			}
			assert.LessOrEqual(t, first.Seconds(), jitter*0.05)
			assert.GreaterOrEqual(t, last, longest)
			assert.LessOrEqual(t, last.Seconds(), jitter*longest.Seconds())
			pauses.Reset()
			assert.LessOrEqual(t, next().Seconds(), jitter*0.05)
		})
	}
}
