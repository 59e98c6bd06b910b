package service

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Patterns in the names of services, as in Slurm's file names: %a, the index of an array's
// task; %A, the id of the array, or of a job that is in none; %j, the id of the job; %u, its
// user, as {user} in slurmk8s.toml. A width pads a number with zeros, as in %3a.
var pattern = lazily(`%([0-9]*)(.?)`)

const maxPatternWidth = 10 // Slurm's own

// Instance is the run of a job script for which names are made.
type Instance struct {
	Job   uint32 // 0: none, outside Slurm
	Array uint32 // 0: the job is not in an array
	Task  uint32 // in the array
	User  string
}

// value is what a pattern stands for; number tells whether a width applies.
func (i Instance) value(letter string) (text string, number bool, err error) {
	switch letter {
	case "a", "A", "j", "u":
	default:
		return "", false, fmt.Errorf("the patterns in a name are %%a, %%A, %%j and %%u")
	}
	if i.Job == 0 {
		return "", false, fmt.Errorf("%%%s stands for nothing outside of a Slurm job", letter)
	}
	id := i.Job
	switch {
	case letter == "u":
		label, _ := users.Label(i.User)
		return label, false, nil
	case letter == "a" && i.Array == 0:
		return "", false, fmt.Errorf("%%a is the index of an array's task, and the job is not in an array (sbatch --array): use %%j")
	case letter == "a":
		id = i.Task
	case letter == "A" && i.Array != 0:
		id = i.Array
	}
	return strconv.FormatUint(uint64(id), 10), true, nil
}

func (i Instance) expand(name string) (string, error) {
	var failed error
	expanded := pattern().ReplaceAllStringFunc(name, func(part string) string {
		m := pattern().FindStringSubmatch(part)
		text, number, err := i.value(m[2])
		width, _ := strconv.Atoi(m[1])
		switch {
		case err == nil && m[1] != "" && (!number || len(m[1]) > 2 || width > maxPatternWidth):
			err = fmt.Errorf("%s must be a number's pattern with a width of at most %d", wire.Quote(part), maxPatternWidth)
		case err == nil && len(text) < width:
			text = strings.Repeat("0", width-len(text)) + text
		}
		if err != nil && failed == nil {
			failed = err
		}
		return text
	})
	if failed != nil {
		return "", fmt.Errorf("name %s: %w", wire.Quote(name), failed)
	}
	return expanded, checkName(expanded)
}

// checkPattern wants a name that some job can have.
func checkPattern(name string) error {
	if !strings.Contains(name, "%") {
		return checkName(name)
	}
	_, err := Instance{Job: 1, Array: 1, Task: 1, User: "u"}.expand(name)
	return err
}

// Expand makes the names of one job. The error is a *job.Refused.
func Expand(specs []Spec, i Instance) ([]Spec, error) {
	expanded := make([]Spec, len(specs))
	for n, s := range specs {
		name, err := s.Name, error(nil)
		if strings.Contains(name, "%") {
			name, err = i.expand(name)
		}
		if err == nil && s.Array && i.Array == 0 {
			err = errNoArray
		}
		if err != nil {
			return nil, &job.Refused{Text: "--k8s-register: " + err.Error(), Err: err}
		}
		s.Name = name
		expanded[n] = s
	}
	return expanded, nil
}

var errNoArray = errors.New("host=array: the job is not in an array (sbatch --array)")

// NeedsArray tells whether a service has to know the job's place in an array.
func NeedsArray(specs []Spec) bool {
	for _, s := range specs {
		if s.Array || s.has("a") || s.has("A") {
			return true
		}
	}
	return false
}

// has tells whether the name has a pattern.
func (s Spec) has(letter string) bool {
	for _, m := range pattern().FindAllStringSubmatch(s.Name, -1) {
		if m[2] == letter {
			return true
		}
	}
	return false
}

// KnownName is what can be known of a name before the job has an id: all of it, or what it
// begins with.
func KnownName(name, user string) (known string, all bool) {
	label, _ := users.Label(user)
	known, _, cut := strings.Cut(strings.ReplaceAll(name, "%u", label), "%")
	return known, !cut
}

// CheckArray refuses, of a job whose array is given as sbatch has it ("0-9:2%4"; empty: the
// job is no array), names that several tasks want at the same time, and tasks where there
// are none. The error is a *job.Refused.
func CheckArray(specs []Spec, array string) error {
	for _, s := range specs {
		switch {
		case array == "" && s.has("a"):
			_, err := Instance{Job: 1, User: "u"}.expand(s.Name)
			return &job.Refused{Text: "--k8s-register: " + err.Error(), Err: err}
		case array == "" && s.Array:
			return &job.Refused{Text: "--k8s-register: " + errNoArray.Error(), Err: errNoArray}
		case s.Array && tasksAtOnce(array) > maxSharers:
			return job.Refusef("--k8s-register: host=array: at most %d tasks that run at once can share the service %s: limit them with --array=...%%%d, "+
				"or write %%a, the task's index, into the name", maxSharers, s.Name, maxSharers)
		case severalTasks(array) && !s.Array && !s.has("a") && !s.has("j"):
			return job.Refusef("--k8s-register: the tasks of --array=%s cannot all have the service %s: write %%a, the task's index, into the name, "+
				"such as %s-%%a, or share one service with host=array", strings.Trim(wire.Quote(array), `"`), s.Name, s.Name)
		}
	}
	return nil
}

// maxSharers bounds the tasks that share a Service: each one that starts or ends writes it, and
// it holds an entry for each.
const maxSharers = 256

// tasksAtOnce is how many tasks of an array may run at the same time, at most.
func tasksAtOnce(array string) int {
	list, limit, limited := strings.Cut(strings.Trim(array, "[]"), "%")
	count := 0
	for part := range strings.SplitSeq(list, ",") {
		span, step, _ := strings.Cut(part, ":")
		first, last, isRange := strings.Cut(span, "-")
		lo, _ := strconv.Atoi(first)
		hi, _ := strconv.Atoi(last)
		by, _ := strconv.Atoi(step)
		count++
		if isRange && hi > lo {
			count += (hi - lo) / max(by, 1)
		}
	}
	if n, err := strconv.Atoi(limit); limited && err == nil && n > 0 {
		count = min(count, n)
	}
	return count
}

// severalTasks tells whether an array may have two tasks at the same time. What it cannot
// read is Slurm's to refuse.
func severalTasks(array string) bool {
	list, limit, _ := strings.Cut(strings.Trim(array, "[]"), "%")
	if limit == "1" {
		return false
	}
	only := ""
	for part := range strings.SplitSeq(list, ",") {
		span, step, stepped := strings.Cut(part, ":")
		if !stepped {
			step = "1"
		}
		first, last, isRange := strings.Cut(span, "-")
		lo, _ := strconv.Atoi(first)
		hi, _ := strconv.Atoi(last)
		by, _ := strconv.Atoi(step)
		if isRange && lo+by <= hi || only != "" && only != first {
			return true
		}
		only = first
	}
	return false
}
