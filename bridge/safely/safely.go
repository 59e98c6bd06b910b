// Package safely turns a panic into an error. The library runs in processes of Slurm,
// which a panic in a goroutine would end.
package safely

import "fmt"

// PanicError is a recovered panic: a bug in slurmk8s.
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
