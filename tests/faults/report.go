package faults

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Result is what one run showed.
type Result struct {
	Plan     Plan
	Struck   bool // the run had the planned request
	Code     int
	Took     time.Duration
	Message  string
	Problems []string // none: passed
	Voided   int      // tries that failed while the machine was overrun
}

func (r *Result) fail(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// judgeCode says whether the disturbed run's exit status is the right one. No
// fault of ours is the user's mistake, and a fault that strikes once and passes
// is no reason to fail while there is time.
func (r *Result) judgeCode(s Scenario, o *Outcome) {
	switch {
	case o.Killed && r.Plan.Fault.Kills, o.Overran:
		return
	case !r.Struck && o.Code != CodeOK:
		r.fail("exit status %d without a fault: %s", o.Code, r.Message)
	case o.Code == CodeRefused:
		r.fail("blames the user: %s", r.Message)
	case o.Code == CodeBusy && !s.MayBeBusy:
		r.fail("answers BUSY where Slurm does not ask again")
	case o.Code == CodeFailed && r.Plan.Mode == Once && r.Plan.Fault.Fleeting && !s.Hasty:
		r.fail("did not get over it in %v: %s", r.Took.Round(10*time.Millisecond), r.Message)
	case r.Plan.Fault.Kills && r.Struck:
		r.fail("was killed, but exited with %d", o.Code)
	}
}

// cell is the result in two letters.
func (r *Result) cell() string {
	switch {
	case len(r.Problems) > 0:
		return "FAIL"
	case !r.Struck:
		return "~"
	case r.Plan.Fault.Kills:
		return "k"
	case r.Code == CodeOK:
		return "ok"
	case r.Code == CodeBusy:
		return "b"
	}
	return "e"
}

const legend = "ok got over it   e ended in time with one line, repaired when run again   b busy, likewise\n" +
	"k killed, repaired when run again   ~ this run had no such request   . not possible here\n"

// Report is a scenario's matrix.
type Report struct {
	Scenario string
	Requests []Request // of the undisturbed run
	EndState string
	Results  []Result
}

// Count is how many runs passed and failed, and how many of those that passed
// had no fault because their run was shorter than the undisturbed one.
func (r *Report) Count() (passed, failed, unreached int) {
	for i := range r.Results {
		switch {
		case len(r.Results[i].Problems) > 0:
			failed++
		case !r.Results[i].Struck:
			unreached++
			passed++
		default:
			passed++
		}
	}
	return passed, failed, unreached
}

// Voided is how many tries failed while the machine was overrun.
func (r *Report) Voided() (n int) {
	for _, result := range r.Results {
		n += result.Voided
	}
	return n
}

// Slowest is the longest disturbed run.
func (r *Report) Slowest() time.Duration {
	var slowest time.Duration
	for _, result := range r.Results {
		slowest = max(slowest, result.Took)
	}
	return slowest
}

// String is the matrix, a row for each fault and a column for each request, and
// under it what failed.
func (r *Report) String() string {
	var b strings.Builder
	passed, failed, unreached := r.Count()
	fmt.Fprintf(&b, "%s: %d passed, %d failed (%d of the passed had no such request; slowest run %v)\n",
		r.Scenario, passed, failed, unreached, r.Slowest().Round(10*time.Millisecond))
	if n := r.Voided(); n > 0 {
		fmt.Fprintf(&b, "  the machine was overrun: %d tries proved nothing and were made again\n", n)
	}
	for _, q := range r.Requests {
		fmt.Fprintf(&b, "  %s\n", q)
	}
	rows, order := map[string]map[int]string{}, []string{}
	for i := range r.Results {
		result := &r.Results[i]
		name := result.Plan.Fault.Name + " " + result.Plan.Mode.String()
		if result.Plan.Fault.Kills {
			name = result.Plan.Fault.Name
		}
		if rows[name] == nil {
			rows[name] = map[int]string{}
			order = append(order, name)
		}
		rows[name][result.Plan.At] = result.cell()
	}
	fmt.Fprintf(&b, "  %-20s", "")
	for _, q := range r.Requests {
		fmt.Fprintf(&b, "%5d", q.Number)
	}
	b.WriteString("\n")
	for _, name := range tableOrder(order) {
		fmt.Fprintf(&b, "  %-20s", name)
		for _, q := range r.Requests {
			cell := rows[name][q.Number]
			if cell == "" {
				cell = "."
			}
			fmt.Fprintf(&b, "%5s", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString(r.Problems())
	return b.String()
}

// tableOrder puts a fault's once and always beside each other, in Faults' order.
func tableOrder(rows []string) []string {
	var ordered []string
	for _, f := range faults {
		for _, row := range rows {
			if name, _, _ := strings.Cut(row, " "); name == f.Name {
				ordered = append(ordered, row)
			}
		}
	}
	return ordered
}

// Problems prints each problem once, with the requests at which a fault showed
// it: one defect fails a hundred runs.
func (r *Report) Problems() string {
	var b strings.Builder
	type defect struct {
		fault, text string
		at          []string
	}
	var defects []*defect
	known := map[string]*defect{}
	for _, result := range r.Results {
		for _, problem := range result.Problems {
			fault := result.Plan.Fault.Name + " " + result.Plan.Mode.String()
			key := fault + digits.ReplaceAllString(problem, "#")
			if known[key] == nil {
				known[key] = &defect{fault: fault, text: problem}
				defects = append(defects, known[key])
			}
			known[key].at = append(known[key].at, strconv.Itoa(result.Plan.At))
		}
	}
	for _, d := range defects {
		fmt.Fprintf(&b, "  FAIL %s at request %s: %s\n", d.fault, strings.Join(d.at, ","), d.text)
	}
	return b.String()
}

// digits are what differs between two sightings of a defect: jobs, times.
var digits = regexp.MustCompile(`[0-9]+`)
