// Package wire is what the shims in C and Lua, the step program and the table of hooks
// say to each other: fields, their keys, outcomes, frames and one-line messages.
package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Fields is a request to a hook or its reply: KEY=VALUE pairs, like an
// environment. It is the only thing that crosses from C or Lua into Go.
type Fields map[string]string

// Arg returns the n-th word (from 1) given to slurm_bb_get_status.
func (f Fields) Arg(n int) string { return f[KeyArg+strconv.Itoa(n)] }

// Env returns the variables of the job's environment that the request carries.
func (f Fields) Env() map[string]string {
	env := map[string]string{}
	for key, value := range f {
		if name, ok := strings.CutPrefix(key, KeyEnv); ok {
			env[name] = value
		}
	}
	return env
}

// Granted returns how long the caller lets the hook run; 0: it does not say.
func (f Fields) Granted() time.Duration {
	n, err := strconv.ParseInt(f[KeyDeadlineMS], 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(min(n, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// ParseFields reads a list of KEY=VALUE. A key is of A-Z, 0-9 and "_" and begins
// with a letter, so that an option in place of a field, "--config=FILE", is an error and
// not an unknown field. If a key is given twice, the last value counts.
func ParseFields(list []string) (Fields, error) {
	fields := make(Fields, len(list))
	for _, field := range list {
		key, value, ok := strings.Cut(field, "=")
		if !ok || !isKey(key) {
			return nil, fmt.Errorf("%q is not KEY=VALUE, such as CONFIG=/etc/slurm/slurmk8s.toml", field)
		}
		fields[key] = value
	}
	return fields, nil
}

func isKey(key string) bool {
	for i, c := range []byte(key) {
		letter := 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return key != ""
}
