package workflow

import (
	"fmt"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// RefusedError is the user's mistake: DWS or the syntax check refuses the
// directives. Its text is for the user.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Code is the hook's outcome.
func (e *RefusedError) Code() wire.Code { return wire.Refused }

// DriverError is a failure that a DWS driver reported for a state. Its text is
// for the user, DWS's message first.
type DriverError struct {
	Text  string
	about *object
}

func (e *DriverError) Error() string { return e.Text }

// ErrBusy says that the state is not reached yet and nothing is wrong.
var ErrBusy error = busy{}

type busy struct{}

func (busy) Error() string   { return "in progress" }
func (busy) Code() wire.Code { return wire.Busy }

// timeoutError is a state that took longer than it is allowed to.
type timeoutError struct {
	text  string
	about *object
}

func (e *timeoutError) Error() string { return e.text }

// waitError is a wait that the hook's deadline ended; errors.Is finds the
// context's error.
type waitError struct {
	text  string
	about *object
	cause error
}

func (e *waitError) Error() string { return e.text }
func (e *waitError) Unwrap() error { return e.cause }

// goneError is a Workflow that a hook needs and that is not there.
type goneError struct{ name string }

func (e *goneError) Error() string {
	return fmt.Sprintf("workflow %s does not exist any more: somebody deleted it", e.name)
}
