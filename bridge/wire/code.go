package wire

import "errors"

// Code is a hook's outcome; the numbers are those of goffi/slurmk8s.h.
type Code int

// Outcomes of a hook.
const (
	OK      Code = 0 // done, or nothing to do
	Busy    Code = 1 // in progress, ask again later
	Refused Code = 2 // the user's mistake, MESSAGE is for the user
	Failed  Code = 3 // could not be done; MESSAGE says what, why and what to do
)

// CodeOf returns the outcome that an error stands for: that of its method Code() Code, or
// Failed if it has none.
func CodeOf(err error) Code {
	var outcome interface{ Code() Code }
	switch {
	case err == nil:
		return OK
	case errors.As(err, &outcome):
		return outcome.Code()
	}
	return Failed
}
