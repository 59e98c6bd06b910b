package faults

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAMachineIsOverloadedWhenAMeasurementIsLateOrFails(t *testing.T) {
	for name, tt := range map[string]struct {
		probe      func(context.Context) error
		overloaded bool
	}{
		"no probe":         {nil, false},
		"answered at once": {func(context.Context) error { return nil }, false},
		"answered late":    {func(context.Context) error { time.Sleep(tolerance + interval/2); return nil }, true},
		"refused":          {func(context.Context) error { return errors.New("connection refused") }, true},
		"not answered yet": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no machine is too slow for its clock
				var m machine
				begun := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { m.watch(ctx, tt.probe); close(ended) }()
				time.Sleep(3*interval + tolerance)
				assert.Equal(t, tt.overloaded, m.overloaded(begun))
				cancel()
				<-ended
			})
		})
	}
}

func TestAMachineThatWasOverloadedBeforeIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m machine
		m.begin()
		m.end(errors.New("connection refused"))
		assert.True(t, m.overloaded(time.Now()))
		time.Sleep(2 * interval)
		m.begin()
		assert.False(t, m.overloaded(time.Now()))
	})
}

func TestARunWaitsForAMachineThatIsBusyButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m machine
		begun := time.Now()
		m.awaitIdle(t.Context())
		assert.Zero(t, time.Since(begun), "one that nobody measures")
		m.begin()
		time.Sleep(2 * interval)
		m.end(nil)
		begun = time.Now()
		m.awaitIdle(t.Context())
		assert.Equal(t, idleWait, time.Since(begun))
	})
}
