package hook

import (
	"fmt"
	"strconv"
	"strings"
)

// Fields is a request to a hook or its reply: KEY=VALUE pairs, like an
// environment. It is the only thing that crosses from C or Lua into Go.
type Fields map[string]string

// The keys of a request. Slurm hands every value as text; a key that Slurm's
// version does not know is absent (22.05 gives fewer arguments than 23.02 does,
// see burst_buffer_lua.c).
const (
	KeyConfig     = "CONFIG"        // path of slurmk8s.toml; absent: slurmconf.DefaultPath
	KeyStateDir   = "STATE_DIR"     // directory of burst_buffer.lua's local files; must equal state_dir of slurmk8s.toml
	KeyDeadlineMS = "DEADLINE_MS"   // milliseconds that the caller grants; absent: by configuration
	KeyJobID      = "JOB_ID"        // Slurm job id, decimal
	KeyUID        = "UID"           // job owner; in slurm_bb_get_status the one who asks
	KeyGID        = "GID"           // as UID
	KeyUser       = "USER_NAME"     // job owner's name
	KeyScript     = "SCRIPT"        // path of the job script
	KeyHurry      = "HURRY"         // "true" when Slurm skips stage-out (scancel --hurry)
	KeyNodes      = "NODES"         // allocated nodes as a hostlist, "c[1-3]"
	KeyRestart    = "RESTART_COUNT" // how often Slurm has requeued the job
	KeySubmitTime = "SUBMIT_TIME"   // Unix seconds
	KeyBusy       = "BUSY"          // "true" when this Slurm understands SLURM_BB_BUSY (24.05 and later)
	KeyArg        = "ARG"           // ARG1, ARG2, ...: the words after `scontrol show bbstat`
	KeyProgram    = "PROGRAM"       // path of the slurmk8s program, which ends a job that can never run
)

// The keys of a reply.
const (
	KeyMessage = "MESSAGE" // one line for a person
	KeyText    = "TEXT"    // what the hook was asked for (slurm_bb_get_status), may have several lines
)

// Code is a hook's outcome; the numbers are those of goffi/slurmk8s.h.
type Code int

// Outcomes of a hook.
const (
	OK      Code = 0 // done, or nothing to do
	Busy    Code = 1 // in progress, ask again later
	Refused Code = 2 // the user's mistake, MESSAGE is for the user
	Failed  Code = 3 // could not be done; MESSAGE says what, why and what to do
)

// Arg returns the n-th word (from 1) given to slurm_bb_get_status.
func (f Fields) Arg(n int) string { return f[KeyArg+strconv.Itoa(n)] }

// ParseFields reads a list of KEY=VALUE. A key is of A-Z, 0-9 and "_" and begins
// with a letter: an option that stands where a field belongs, "--config=FILE", must
// not pass for a field that nobody reads. Of a key given twice the last counts.
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
