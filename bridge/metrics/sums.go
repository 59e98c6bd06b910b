package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// bounds of the histogram, in seconds: from a hook that Slurm waits for under a lock to
// a stage-in of minutes.
var bounds = []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300}

// sums are since the file was made, as counters of Prometheus are.
type sums struct {
	Hooks      map[string]*hook `json:"hooks"`
	Removed    int              `json:"removed"`    // objects, by reconcile
	Left       int              `json:"left"`       // objects that the last reconcile could not remove
	Reconciled int64            `json:"reconciled"` // when that was, Unix seconds
}

type hook struct {
	Codes   map[string]int `json:"codes"`   // runs by outcome
	Seconds float64        `json:"seconds"` // in all
	Below   []int          `json:"below"`   // runs that took no longer than bounds[i]
}

func (d Dir) readSums() (*sums, error) {
	s := &sums{Hooks: map[string]*hook{}}
	text, err := os.ReadFile(filepath.Join(string(d), sumsFile))
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	// A file that makes no sense is begun again, as after a reboot.
	if json.Unmarshal(text, s) != nil || s.Hooks == nil || !s.sound() {
		return &sums{Hooks: map[string]*hook{}}, nil
	}
	return s, nil
}

func (s *sums) sound() bool {
	for _, h := range s.Hooks {
		if h == nil || h.Codes == nil || len(h.Below) != len(bounds) {
			return false
		}
	}
	return true
}

func (d Dir) writeSums(s *sums) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return hostfile.Write(filepath.Join(string(d), sumsFile), string(text), 0o600)
}

// sample is compiled by reconcile, which reads it, and not at the start of each hook.
var sample = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]{1,64}) (-?[0-9]{1,4}) ([0-9]{1,15})\n$`)
})

// add counts one line of Record. One that was cut off by a full disk is no line.
func (s *sums) add(line string) {
	found := sample().FindStringSubmatch(line)
	if found == nil {
		return
	}
	h := s.Hooks[found[1]]
	if h == nil {
		h = &hook{Codes: map[string]int{}, Below: make([]int, len(bounds))}
		s.Hooks[found[1]] = h
	}
	microseconds, _ := strconv.ParseInt(found[3], 10, 64)
	seconds := float64(microseconds) / 1e6
	h.Codes[found[2]]++
	h.Seconds += seconds
	for i, bound := range bounds {
		if seconds <= bound {
			h.Below[i]++
		}
	}
}

// text is Prometheus's exposition format.
func (s *sums) text() string {
	var b strings.Builder
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	family("slurmk8s_hook_runs_total", "counter", "Runs of a hook by outcome: 0 ok, 1 busy, 2 refused, 3 failed.")
	names := sorted(s.Hooks)
	for _, name := range names {
		codes := s.Hooks[name].Codes
		for _, code := range sorted(codes) {
			fmt.Fprintf(&b, "slurmk8s_hook_runs_total{hook=%q,code=%q} %d\n", name, code, codes[code])
		}
	}
	family("slurmk8s_hook_duration_seconds", "histogram", "How long a hook took.")
	for _, name := range names {
		h := s.Hooks[name]
		runs := 0
		for _, n := range h.Codes {
			runs += n
		}
		for i, bound := range bounds {
			fmt.Fprintf(&b, "slurmk8s_hook_duration_seconds_bucket{hook=%q,le=\"%v\"} %d\n", name, bound, h.Below[i])
		}
		fmt.Fprintf(&b, "slurmk8s_hook_duration_seconds_bucket{hook=%q,le=\"+Inf\"} %d\n", name, runs)
		fmt.Fprintf(&b, "slurmk8s_hook_duration_seconds_sum{hook=%q} %v\n", name, h.Seconds)
		fmt.Fprintf(&b, "slurmk8s_hook_duration_seconds_count{hook=%q} %d\n", name, runs)
	}
	family("slurmk8s_reconcile_removed_total", "counter", "Objects of jobs that were over, removed by reconcile.")
	fmt.Fprintf(&b, "slurmk8s_reconcile_removed_total %d\n", s.Removed)
	family("slurmk8s_reconcile_left", "gauge", "Objects that the last reconcile could not remove.")
	fmt.Fprintf(&b, "slurmk8s_reconcile_left %d\n", s.Left)
	family("slurmk8s_reconcile_timestamp_seconds", "gauge", "When reconcile ran last.")
	fmt.Fprintf(&b, "slurmk8s_reconcile_timestamp_seconds %d\n", s.Reconciled)
	return b.String()
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
