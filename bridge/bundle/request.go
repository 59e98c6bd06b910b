package bundle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Request is what a user asks for: one bundle of an option, or one directive.
type Request struct {
	Name      string
	Instance  string            // tells two bundles of a job apart; Name if not given
	Namespace string            // empty: the first of the user's rule
	Values    map[string]string // of parameters, as they were written
	Wait      string            // WaitReady, WaitNone, or empty: as the phases say
	Timeout   time.Duration     // zero: the bundle's
	// Limits are those of each rule that allows the request. One must hold; none: there are no
	// rules.
	Limits []Limit
}

// Bounds of what a user may write.
const (
	MaxRequests      = 8 // of a job
	maxTextBytes     = 4 << 10
	maxKeys          = 64
	maxValueBytes    = 256
	maxInstanceBytes = 40 // with "slurm-<cluster>-<jobid>." before it, it names a Lease
)

// directiveWord follows the site's directive: "#DW bundle NAME KEY=VALUE".
const directiveWord = "bundle"

// common are the keys that every bundle has; a bundle declares none of these names.
var common = map[string]func(r *Request, value string) error{
	"as": func(r *Request, v string) error {
		r.Instance = v
		if len(v) > maxInstanceBytes || len(validation.IsDNS1035Label(v)) > 0 {
			return fmt.Errorf("at most %d lower-case letters, digits and \"-\", a letter first", maxInstanceBytes)
		}
		return nil
	},
	"ns": func(r *Request, v string) error {
		r.Namespace = v
		if len(validation.IsDNS1123Label(v)) > 0 {
			return fmt.Errorf("a namespace has at most 63 lower-case letters, digits and \"-\", a letter or digit first and last")
		}
		return nil
	},
	"timeout": func(r *Request, v string) (err error) {
		if r.Timeout, err = time.ParseDuration(v); err != nil || r.Timeout <= 0 {
			return fmt.Errorf("want a time such as 90s or 5m")
		}
		return nil
	},
	"wait": func(r *Request, v string) error {
		if r.Wait = v; v != WaitReady && v != WaitNone {
			return fmt.Errorf("must be ready or none")
		}
		return nil
	},
}

// ParseOption reads the value of --k8s-bundle: NAME[,KEY=VALUE...][;NAME...]. The error is a
// *job.Refused.
func ParseOption(text string) ([]Request, error) {
	if strings.Trim(text, "; ") == "" {
		return nil, job.Refusef("--k8s-bundle: empty: write NAME,KEY=VALUE (slurmk8s bundle list)")
	}
	if len(text) > maxTextBytes {
		return nil, job.Refusef("--k8s-bundle: longer than %d KiB", maxTextBytes>>10)
	}
	var requests []Request
	for part := range strings.SplitSeq(text, ";") {
		name, rest, more := strings.Cut(part, ",")
		var words []string
		if more {
			words = strings.Split(rest, ",")
		}
		r, err := parse(name, words)
		if err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return requests, Check(requests)
}

// ParseDirective reads a directive of a job script, "#DW bundle NAME KEY=VALUE...", with the
// site's word before it. ours is false for a directive that is for somebody else. The error
// is a *job.Refused.
func ParseDirective(line string) (r Request, ours bool, err error) {
	words := strings.Fields(line)
	if len(words) < 2 || words[1] != directiveWord {
		return Request{}, false, nil
	}
	if len(line) > maxTextBytes {
		return Request{}, true, job.Refusef("bundle: a line is longer than %d KiB", maxTextBytes>>10)
	}
	if len(words) == 2 {
		return Request{}, true, job.Refusef("bundle: no name: write %s bundle NAME KEY=VALUE", words[0])
	}
	r, err = parse(words[2], words[3:])
	return r, true, err
}

// Check refuses what no single request can tell: too many for a job, and two of one
// instance.
func Check(requests []Request) error {
	if len(requests) > MaxRequests {
		return job.Refusef("bundle: a job can have %d, not %d", MaxRequests, len(requests))
	}
	for i, r := range requests {
		if slices.ContainsFunc(requests[:i], func(o Request) bool { return o.Instance == r.Instance }) {
			return job.Refusef("bundle %s: given twice: tell them apart by as=NAME", r.Instance)
		}
	}
	return nil
}

// Parse reads the words KEY=VALUE of one bundle. The error is a *job.Refused.
func Parse(name string, words []string) (Request, error) { return parse(name, words) }

func parse(name string, words []string) (Request, error) {
	r := Request{Name: name, Instance: name, Values: map[string]string{}}
	if !isBundleName(name) {
		return r, job.Refusef("bundle %s: a name has lower-case letters, digits and \"-\"", wire.Quote(name))
	}
	refuse := func(format string, args ...any) error {
		return job.Refusef("bundle "+name+": "+format, args...)
	}
	if len(words) > maxKeys {
		return r, refuse("more than %d parameters", maxKeys)
	}
	given := map[string]bool{}
	for _, word := range words {
		key, text, ok := strings.Cut(fromSlurm.Replace(word), "=")
		if !ok {
			return r, refuse("%s is not KEY=VALUE", wire.Quote(word))
		}
		if given[key] {
			return r, refuse("%s= is given twice", printable(key))
		}
		given[key] = true
		value, err := unescape(text)
		if err != nil {
			return r, refuse("%s=: %v", printable(key), err)
		}
		set, isCommon := common[key]
		if !isCommon {
			r.Values[key] = value
		} else if err := set(&r, value); err != nil {
			return r, refuse("%s=%s: %v", key, printable(value), err)
		}
	}
	return r, nil
}

// fromSlurm undoes what keeps Slurm from reading a directive: "%3D" is "=", because Slurm takes
// "capacity=" in any directive for its own, and "%%" is "%", because Slurm takes a "%" and the
// character behind it for a symbol, such as %j (seen on 22.05.8). Where it does not, both stay.
var fromSlurm = strings.NewReplacer("%%3D", "=", "%%3d", "=", "%3D", "=", "%3d", "=", "%%", "%")

// isBundleName tells whether a folder of this name can be asked for.
func isBundleName(name string) bool {
	return len(name) <= maxInstanceBytes && len(validation.IsDNS1035Label(name)) == 0
}

// escapes are the characters that separate keys and bundles, and how a value has them.
var escapes = []struct{ code, char string }{{"%2C", ","}, {"%3B", ";"}, {"%20", " "}, {"%25", "%"}}

func unescape(text string) (string, error) {
	var b strings.Builder
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		b.WriteString(before)
		if !found {
			break
		}
		char := ""
		for _, e := range escapes {
			if len(after) >= 2 && strings.EqualFold(after[:2], e.code[1:]) {
				char = e.char
			}
		}
		if char == "" {
			return "", fmt.Errorf("write %%25 for %%; %%2C, %%3B and %%20 stand for a comma, a semicolon and a blank")
		}
		b.WriteString(char)
		rest = after[2:]
	}
	if b.Len() > maxValueBytes {
		return "", fmt.Errorf("longer than %d bytes", maxValueBytes)
	}
	return b.String(), nil
}

// printable is a user's word as it is in a message: as it is if it is plain, else quoted.
func printable(text string) string {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return wire.Quote(text)
		}
	}
	if len(text) > 60 {
		return wire.Quote(text)
	}
	return text
}

// nearest ends a message about a word that is not known: the known word that was meant, or
// all of them.
func nearest(word string, known []string) string {
	if name := slurmconf.Nearest(word, known); name != "" && len(word) > 2 { // any two letters are near
		return ": did you mean " + name + "?"
	}
	return ": known are " + strings.Join(known, ", ")
}
