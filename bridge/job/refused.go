package job

import (
	"fmt"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Refused is a mistake of the user who submitted the job. Its text is for that user, one
// line.
type Refused struct {
	Text string
	Err  error // the cause, or nil
}

func (e *Refused) Error() string { return e.Text }
func (e *Refused) Unwrap() error { return e.Err }

// Code is the hook's outcome.
func (e *Refused) Code() wire.Code { return wire.Refused }

// Refusef makes a Refused as fmt.Sprintf makes its text.
func Refusef(format string, args ...any) error {
	return &Refused{Text: fmt.Sprintf(format, args...)}
}
