package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

type refusal struct{}

func (refusal) Error() string { return "no" }
func (refusal) Code() Code    { return Refused }

func TestAnErrorSaysItsOutcomeHoweverDeepItIs(t *testing.T) {
	assert.Equal(t, OK, CodeOf(nil))
	assert.Equal(t, Failed, CodeOf(errors.New("x")))
	assert.Equal(t, Refused, CodeOf(fmt.Errorf("hook: %w", refusal{})))
	assert.Equal(t, Refused, CodeOf(errors.Join(errors.New("x"), refusal{})))
}
