package faults

import (
	"fmt"
	"net/http"
	"strings"
)

// Fault is one way in which an API server, or the way to it, fails.
type Fault struct {
	Name string // as in FAULTS=reset,hang and in the matrix
	What string // one line for a person

	// Kills is set when the hook itself is the victim: it cannot go on, so the
	// fault has no "always" and no reply.
	Kills bool

	// Waits is set when a client notices the fault only by its own patience.
	Waits bool
	// Lasting is set when the fault, lasting until the deadline, asks something of
	// a hook that the others do not. The rest is tried only at FAULTS_ALWAYS=all.
	Lasting bool
	// Fleeting is a fault that, striking once, a hook with time left must get over
	// by itself. The others need an operator or a longer deadline.
	Fleeting bool

	// applies limits the fault to requests where an API server could fail this
	// way; nil is all of them.
	applies func(Request) bool
	serve   func(*exchange)
}

// Applies tells whether the fault is possible at r.
func (f Fault) Applies(r Request) bool { return f.applies == nil || f.applies(r) }

// Mode says how often a fault strikes.
type Mode int

const (
	Once   Mode = iota // at request n only: the hook should get over it
	Always             // at request n and every later one: the hook must give up in time
)

func (m Mode) String() string {
	if m == Always {
		return "always"
	}
	return "once"
}

// Plan is a fault and where it strikes. The zero Plan disturbs nothing.
type Plan struct {
	Fault Fault
	At    int // request number, from 1; 0: never
	Mode  Mode
}

func (p Plan) String() string {
	if p.At == 0 {
		return "undisturbed"
	}
	return fmt.Sprintf("%s %s at request %d", p.Fault.Name, p.Mode, p.At)
}

// waits tells that a run under this plan spends its time waiting, so that many
// fit on one machine.
func (p Plan) waits() bool { return p.Mode == Always || p.Fault.Waits }

func (p Plan) strikes(r Request) bool {
	if p.At == 0 || r.Number < p.At || (p.Mode == Once && r.Number != p.At) {
		return false
	}
	return p.Fault.Applies(r)
}

// For a read it is the same whether it was executed or not before the answer was
// lost, so the -after faults are for writes.
var faults = []Fault{
	{Name: "reset", Lasting: true, Fleeting: true, What: "TCP reset before the request is executed",
		serve: func(x *exchange) { x.reset() }},
	{Name: "reset-after", Fleeting: true, What: "executed, then TCP reset: the answer is lost", applies: Request.IsWrite,
		serve: func(x *exchange) { x.execute(); x.reset() }},
	{Name: "hang", Lasting: true, Waits: true, Fleeting: true, What: "never answered, never executed",
		serve: func(x *exchange) { x.hang() }},
	{Name: "hang-after", Waits: true, Fleeting: true, What: "executed, never answered", applies: Request.IsWrite,
		serve: func(x *exchange) { x.execute(); x.hang() }},
	{Name: "429", Lasting: true, Waits: true, Fleeting: true, What: "too many requests, Retry-After 1 s (priority and fairness)",
		serve: func(x *exchange) { x.tooMany() }},
	{Name: "429-bare", Fleeting: true, What: "too many requests, no Retry-After",
		serve: func(x *exchange) { x.fail(http.StatusTooManyRequests) }},
	{Name: "500", Fleeting: true, What: "internal error: webhook down, etcd slow",
		serve: func(x *exchange) { x.fail(http.StatusInternalServerError) }},
	{Name: "503", Lasting: true, Fleeting: true, What: "service unavailable",
		serve: func(x *exchange) { x.fail(http.StatusServiceUnavailable) }},
	{Name: "409", Fleeting: true, What: "conflict: someone else wrote first", applies: Request.IsWrite,
		serve: func(x *exchange) { x.fail(http.StatusConflict) }},
	{Name: "401", Lasting: true, Fleeting: true, What: "unauthorized: the token was rotated or has expired",
		serve: func(x *exchange) { x.fail(http.StatusUnauthorized) }},
	{Name: "403", What: "forbidden by RBAC: the operator's mistake, not the user's",
		serve: func(x *exchange) { x.fail(http.StatusForbidden) }},
	{Name: "truncate", Fleeting: true, What: "half of the answer, then the connection closes",
		serve: func(x *exchange) { x.truncate() }},
	{Name: "slow", Waits: true, What: "the answer trickles, a byte every 50 ms",
		serve: func(x *exchange) { x.trickle() }},
	{Name: "kill-before", What: "SIGKILL to the hook before the request is executed", Kills: true,
		serve: func(x *exchange) { x.p.kill(); x.reset() }},
	{Name: "kill-after", What: "SIGKILL to the hook after the request was executed", Kills: true, applies: Request.IsWrite,
		serve: func(x *exchange) { x.execute(); x.p.kill(); x.reset() }},
	{Name: "watch-cut-0", Lasting: true, Fleeting: true, What: "watch ends before its first event", applies: Request.IsWatch,
		serve: func(x *exchange) { x.watchUntil(0, func() {}) }},
	{Name: "watch-cut-1", Fleeting: true, What: "watch ends after one event", applies: Request.IsWatch,
		serve: func(x *exchange) { x.watchUntil(1, func() {}) }},
	{Name: "watch-gone", Lasting: true, Fleeting: true, What: "watch answers an ERROR event, 410 Gone", applies: Request.IsWatch,
		serve: func(x *exchange) { x.watchUntil(0, func() { x.write(goneEvent()) }) }},
	{Name: "watch-torn", Fleeting: true, What: "watch ends in the middle of an event", applies: Request.IsWatch,
		serve: func(x *exchange) { x.watchUntil(0, x.writeHalfEvent) }},
	{Name: "watch-silent", Waits: true, What: "watch is accepted, then silent for ever", applies: Request.IsWatch,
		serve: func(x *exchange) { x.watchUntil(0, x.hang) }},
}

// Faults is every fault, in the order of the matrix's rows.
func Faults() []Fault { return append([]Fault(nil), faults...) }

// Select is the faults that list names, separated by commas; "" is all. A name
// matches itself and its longer forms: "reset" also selects "reset-after".
func Select(list string) ([]Fault, error) {
	if strings.TrimSpace(list) == "" {
		return Faults(), nil
	}
	var selected []Fault
	for _, f := range faults {
		for _, name := range strings.Split(list, ",") {
			if name = strings.TrimSpace(name); f.Name == name || strings.HasPrefix(f.Name, name+"-") {
				selected = append(selected, f)
				break
			}
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("FAULTS=%q selects no fault; known: %s", list, strings.Join(names(), ", "))
	}
	return selected, nil
}

// ByName is the fault of exactly this name.
func ByName(name string) (Fault, bool) {
	for _, f := range faults {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}

func names() []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.Name)
	}
	return all
}
