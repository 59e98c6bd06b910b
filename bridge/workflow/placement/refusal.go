package placement

import (
	"fmt"
	"strings"
)

// Refusal says in a line for the user why storage cannot be placed now: which rabbit, what
// is needed there, and what is free.
type Refusal struct {
	Text string
	// Never: it would not fit either if all storage were free and all Storage objects Ready.
	Never bool
	// Avoid are the rabbits, or nodes, that it is about, if the job may do better on others.
	Avoid []string
}

func (r *Refusal) Error() string { return r.Text }

func refusef(format string, args ...any) *Refusal {
	return &Refusal{Text: fmt.Sprintf(format, args...)}
}

// on says which rabbit or node the refusal is about.
func (r *Refusal) on(name string) *Refusal {
	r.Avoid = []string{name}
	return r
}

// most is how many names a message has.
const most = 4

// list is "r1, r2, r3, r4 and 7 more".
func list(names []string) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func some(names []string, one, several string) string {
	if len(names) == 1 {
		several = one
	}
	return several + " " + list(names)
}

func it(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "them"
}

// Size prints bytes in TiB or GiB, rounded down.
func Size(bytes int64) string { return have(bytes) }

// need and have print bytes in TiB or GiB. What is needed is rounded up and what there is
// is rounded down, so that the figures show which is the larger.
func need(bytes int64) string { return binary(bytes, true) }

func have(bytes int64) string { return binary(max(bytes, 0), false) }

func binary(bytes int64, up bool) string {
	unit, name := int64(1<<30), "GiB"
	if bytes >= 1<<40 {
		unit, name = 1<<40, "TiB"
	}
	hundredths, rest := bytes/unit*100+bytes%unit*100/unit, bytes%unit*100%unit
	if up && rest > 0 {
		hundredths++
	}
	return fmt.Sprintf("%d.%02d %s", hundredths/100, hundredths%100, name)
}

// count is "1 node" or "3 nodes".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
