package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// metric is one figure and, where there is one, what the kubectl way gives.
type metric struct {
	Name      string   `json:"name"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Reference *float64 `json:"reference"`
	// Ratio is reference to value: how many times less we take.
	Ratio *float64 `json:"ratio"`

	budget *float64
	least  float64 // the best sample: what a machine without other load gives
	count  int
}

// report collects the metrics of a run.
type report struct {
	metrics               []*metric
	notes                 []string
	loadBefore, loadAfter string
}

// add records a figure that summarizes samples.
func (r *report) add(name, unit string, value float64, samples []float64) *metric {
	m := &metric{Name: name, Unit: unit, Value: value, least: slices.Min(samples), count: len(samples)}
	r.metrics = append(r.metrics, m)
	return m
}

// single records a figure that is measured once.
func (r *report) single(name, unit string, value float64) *metric {
	return r.add(name, unit, value, []float64{value})
}

// beside sets what the reference gives.
func (m *metric) beside(reference float64) *metric {
	m.Reference = &reference
	if m.Value > 0 {
		ratio := reference / m.Value
		m.Ratio = &ratio
	}
	return m
}

// within sets the budget: the most that the value may be.
func (m *metric) within(budget float64) *metric {
	m.budget = &budget
	return m
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *report) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "name\tvalue\tunit\treference\tratio\tbudget\tmet\tmin\tn")
	for _, m := range r.metrics {
		budget, met := "-", "-"
		if m.budget != nil {
			budget, met = number(*m.budget), "yes"
			if m.Value > *m.budget {
				met = "NO"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", m.Name, number(m.Value), m.Unit,
			optional(m.Reference), optional(m.Ratio), budget, met, number(m.least), m.count)
	}
	table.Flush()
	for _, note := range r.notes {
		fmt.Fprintln(w, note)
	}
	fmt.Fprintf(w, "load of the machine: %s before, %s after (with the benchmark's own)\n", r.loadBefore, r.loadAfter)
}

// write leaves the figures for programs.
func (r *report) write(path string) error {
	text, err := json.MarshalIndent(map[string]any{"metrics": r.metrics}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v == float64(int(v)):
		return fmt.Sprintf("%.4g", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func optional(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

// percentile is the sample that p of 100 are not above (nearest rank).
func percentile(samples []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(p/100*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func median(samples []float64) float64 { return percentile(samples, 50) }
