package faults

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPulse(t *testing.T) {
	tests := []struct {
		name  string
		probe func(context.Context) error
		weak  bool
	}{
		{"answered at once", func(context.Context) error { return nil }, false},
		{"answered late", func(context.Context) error { time.Sleep(breathless + beat/2); return nil }, true},
		{"refused", func(context.Context) error { return errors.New("connection refused") }, true},
		{"not answered yet", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p pulse
			begun := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go p.take(ctx, tt.probe)
			time.Sleep(3*beat + breathless)
			assert.Equal(t, tt.weak, p.weak(begun))
		})
	}
}

func TestPulseOfARunnerThatIsNotWatched(t *testing.T) {
	var p pulse
	assert.False(t, p.weak(time.Now().Add(-time.Hour)))
	begun := time.Now()
	p.calm(t.Context())
	assert.Less(t, time.Since(begun), beat)
}
