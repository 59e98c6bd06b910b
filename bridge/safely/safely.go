// Package safely makes a panic an error. Code of the library runs in processes of Slurm:
// a panic in a goroutine would end them.
package safely

import "fmt"

// PanicError is a defect of ours that was caught.
type PanicError struct{ Cause any }

func (e *PanicError) Error() string {
	return fmt.Sprintf("internal error: %v: please report it", e.Cause)
}

// Do calls f. If f panics, the error is a *PanicError.
func Do(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &PanicError{cause}
		}
	}()
	return f()
}
